"""The numbers behind the pictures over time: sessions, GPUs, latency and money, bin by bin.

Decides what each curve is; must never know how it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.report.bound import Needed
from scheduler.report.schedule import Float, Int, Schedule
from scheduler.report.steps import Steps, bin_edges_us, overlaps, steps_of, weighted_quantile_in

BINS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandSeries:
    """Sessions and GPUs, [bins] each."""

    edges_us: Int  # [bins + 1]
    sessions_mean: Float  # [profiles, bins]: active, time-weighted
    sessions_max: Float  # active, all profiles together
    gpus_max: Float  # [types, bins]: paid for
    needed_max: Float | None  # GPUs that any schedule needs; None where no one number says it
    paid_per_hour: Float  # dollars, time-weighted mean
    needed_per_hour: Float  # dollars, time-weighted mean


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySeries:
    """Chunk latency f_g in milliseconds, NaN where nobody is on a GPU; and who is late or unserved. [bins] each."""

    edges_us: Int  # [bins + 1]
    worst_ms: Float  # over all GPUs and instants
    p99_ms: Float  # over session-seconds
    mean_ms: Float  # over session-seconds
    late_mean: Float  # sessions on a GPU with f_g above their target, time-weighted
    unserved_mean: Float  # active sessions without a GPU, time-weighted


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSeries:
    """Dollars since the beginning, at each edge."""

    edges_us: Int  # [n]
    paid: Float
    needed: Float  # at least, by the certificate's rows


@dataclass(frozen=True, slots=True, kw_only=True)
class CostParts:
    """Where the GPU dollars go, [types] each; the sum is what the type costs."""

    used: Float  # seats in use on GPUs that serve
    free: Float  # seats free on GPUs that serve
    empty: Float  # usable, and nobody there
    starting: Float

    @property
    def total(self) -> Float:
        return self.used + self.free + self.empty + self.starting


def edges_of(schedule: Schedule, bins_max: int = BINS_MAX) -> Int:
    """The bins that all pictures share."""
    return bin_edges_us(schedule.start_us, schedule.end_us, bins_max)


def demand_series(schedule: Schedule, needed: Needed, edges_us: Int) -> DemandSeries:
    """Active sessions per profile, and GPUs on per type against those needed."""
    periods, on = schedule.periods, schedule.on
    sessions = []
    for index in range(len(schedule.fleet.profiles)):
        mine = periods.profile_index == index
        sessions.append(steps_of(periods.start_us[mine], periods.end_us[mine]).mean_in(edges_us))
    gpus = []
    for index in range(len(schedule.fleet.gpu_types)):
        mine = schedule.gpus.type_index[on.gpu_index] == index
        gpus.append(steps_of(on.on_us[mine], on.off_us[mine]).max_in(edges_us))
    return DemandSeries(
        edges_us=edges_us,
        sessions_mean=np.array(sessions),
        sessions_max=steps_of(periods.start_us, periods.end_us).max_in(edges_us),
        gpus_max=np.array(gpus),
        needed_max=None if needed.gpus is None else needed.gpus.max_in(edges_us),
        paid_per_hour=_paid(schedule).mean_in(edges_us),
        needed_per_hour=needed.dollars_per_hour.mean_in(edges_us),
    )


def latency_series(schedule: Schedule, edges_us: Int) -> LatencySeries:
    """Computed from every segment of constant content; a maximum stays a maximum."""
    contents, bins = schedule.contents, len(edges_us) - 1
    cut = overlaps(contents.start_us, contents.end_us, edges_us)
    latency = schedule.latency_ms[cut.row]
    weight = contents.sessions[cut.row] * cut.seconds
    worst = np.full(bins, -np.inf)
    np.maximum.at(worst, cut.bin, latency)
    total = np.bincount(cut.bin, weight, bins)
    served = total > 0
    mean = np.full(bins, np.nan)
    mean[served] = np.bincount(cut.bin, weight * latency, bins)[served] / total[served]
    periods, placed = schedule.periods, schedule.placed
    active = steps_of(periods.start_us, periods.end_us).mean_in(edges_us)
    on_gpu = steps_of(placed.start_us, placed.end_us).mean_in(edges_us)
    unserved = active - on_gpu
    return LatencySeries(
        edges_us=edges_us,
        worst_ms=np.where(served, worst, np.nan),
        p99_ms=weighted_quantile_in(latency, weight, cut.bin, bins, 0.99),
        mean_ms=mean,
        late_mean=np.bincount(cut.bin, _late(schedule)[cut.row] * cut.seconds, bins) / (np.diff(edges_us) / 1e6),
        unserved_mean=np.where(unserved > 1e-9, unserved, 0.0),
    )


def cost_series(schedule: Schedule, needed: Needed, edges_us: Int) -> CostSeries:
    """Dollars for GPUs and migrations so far, against what any schedule has paid by then."""
    order = np.argsort(schedule.moves.at_us)
    so_far = np.concatenate([[0.0], np.cumsum(schedule.moves.dollars[order])])
    moves = so_far[np.searchsorted(schedule.moves.at_us[order], edges_us, side="right")]
    return CostSeries(
        edges_us=edges_us,
        paid=_paid(schedule).integral(edges_us) / 3600 + moves,
        needed=needed.dollars_per_hour.integral(edges_us) / 3600,
    )


def cost_parts(schedule: Schedule) -> CostParts:
    """Split each type's GPU dollars by what the GPUs did meanwhile.

    A seat is 1 / (most sessions of one profile alone that a GPU serves on time); a GPU loaded above 1 is fully used.
    """
    types, on, contents = len(schedule.fleet.gpu_types), schedule.on, schedule.contents
    dollars_per_us = schedule.prices_per_hour() / 3600e6
    on_types = schedule.gpus.type_index[on.gpu_index]
    held_types = schedule.gpus.type_index[contents.gpu_index]
    held_us = contents.end_us - contents.start_us
    paid = np.bincount(on_types, on.off_us - on.on_us, types)
    starting = np.bincount(on_types, on.usable_us - on.on_us, types)
    serving = np.bincount(held_types, held_us, types)
    used = np.bincount(held_types, held_us * np.minimum(schedule.load, 1.0), types)
    return CostParts(
        used=used * dollars_per_us,
        free=(serving - used) * dollars_per_us,
        empty=np.maximum(paid - starting - serving, 0.0) * dollars_per_us,
        starting=starting * dollars_per_us,
    )


def _paid(schedule: Schedule) -> Steps:
    """Dollars per hour for the GPUs that are on."""
    on = schedule.on
    return steps_of(on.on_us, on.off_us, schedule.prices_per_hour()[schedule.gpus.type_index[on.gpu_index]])


def _late(schedule: Schedule) -> Float:
    """[segments]: sessions whose target is below the GPU's chunk latency."""
    targets_ms = np.array([schedule.fleet.target_ms(profile) for profile in schedule.fleet.profiles])
    late = schedule.latency_ms[:, None] > targets_ms * (1 + 1e-9)
    total: Float = (schedule.contents.counts * late).sum(axis=1).astype(float)
    return total
