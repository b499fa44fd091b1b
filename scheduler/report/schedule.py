"""A plan as arrays: physical GPUs, when they are on, who sits where, who moves, and each GPU's content over time.

Decides the order of GPUs and which change of GPU is a migration; must never know a picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scheduler.fleet import Fleet
from scheduler.latency import chunk_latency_ms_mixed, seats
from scheduler.occupancy import Occupancy, sweep
from scheduler.offline_plan import OfflinePlan
from traces.trace import Trace

Int = NDArray[np.int64]
Float = NDArray[np.float64]
US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """Physical GPUs in display order (type, node, id): [g]."""

    gpu_id: tuple[str, ...]
    node: tuple[str, ...]
    type_index: Int  # into the fleet's GPU types


@dataclass(frozen=True, slots=True, kw_only=True)
class OnIntervals:
    """When GPUs are paid for, [i] each: usable from `usable_us`, which is at most `off_us`."""

    gpu_index: Int
    on_us: Int
    usable_us: Int
    off_us: Int


@dataclass(frozen=True, slots=True, kw_only=True)
class Periods:
    """The trace's active periods, [p] each."""

    profile_index: Int
    start_us: Int
    end_us: Int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The plan's placements, [n] each, sorted by (session_index, start_us)."""

    session_index: Int  # row of the trace's sessions
    profile_index: Int
    gpu_index: Int
    start_us: Int
    end_us: Int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Migrations, [v] each, in the order of the placements they end in."""

    session_index: Int
    profile_index: Int
    source_index: Int
    target_index: Int
    at_us: Int
    dollars: Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Everything the pictures are computed from."""

    fleet: Fleet
    gpus: Gpus
    on: OnIntervals
    periods: Periods
    placed: Placed
    moves: Moves
    contents: Occupancy
    latency_ms: Float  # [segments of contents]
    load: Float  # [segments of contents]: seats used over seats there are, above 1 where a session is late

    @property
    def start_us(self) -> int:
        """Where pictures begin: the trace's start, or the first GPU's start-up before it."""
        return min(0, int(self.on.on_us.min(initial=0)))

    @property
    def end_us(self) -> int:
        """Where pictures end: the last active period, or the last GPU's switching off."""
        return max(int(self.periods.end_us.max(initial=1)), int(self.on.off_us.max(initial=1)))

    def prices_per_hour(self) -> Float:
        """[types], dollars."""
        return np.array([gpu_type.price_per_hour for gpu_type in self.fleet.gpu_types.values()])


def schedule_of(plan: OfflinePlan, trace: Trace) -> Schedule:
    """Turn a plan and the trace it was made for into arrays.

    A profile left out in the trace is the fleet's default, or its only one. Every session of the plan is in the trace.
    """
    fleet = plan.fleet
    gpus = gpus_of(plan.gpus, fleet)
    session_profiles = _session_profiles(trace, fleet)
    periods_of = trace.periods["session_index"].to_numpy().astype(np.int64)
    periods = Periods(
        profile_index=session_profiles[periods_of],
        start_us=trace.periods["start_us"].to_numpy(),
        end_us=trace.periods["end_us"].to_numpy(),
    )
    placed = _placed(plan, trace, gpus, session_profiles)
    contents = sweep(
        gpu_index=placed.gpu_index,
        profile_index=placed.profile_index,
        start_us=placed.start_us,
        end_us=placed.end_us,
        profile_count=len(fleet.profiles),
    )
    types = gpus.type_index[contents.gpu_index]
    return Schedule(
        fleet=fleet,
        gpus=gpus,
        on=_on(plan, gpus),
        periods=periods,
        placed=placed,
        moves=_moves(placed, periods_of, periods, gpus, fleet),
        contents=contents,
        latency_ms=chunk_latency_ms_mixed(fleet, types, contents.counts),
        load=load_of(fleet, types, contents),
    )


def gpus_of(table: pl.DataFrame, fleet: Fleet) -> Gpus:
    """The physical GPUs in a table with `gpu_id`, `gpu_type` and `node`."""
    types = list(fleet.gpu_types)
    rows = table.select("gpu_id", "gpu_type", "node").unique(maintain_order=True).rows()
    rows.sort(key=lambda row: (types.index(row[1]), _natural(row[2]), _natural(row[0])))
    return Gpus(
        gpu_id=tuple(row[0] for row in rows),
        node=tuple(row[2] for row in rows),
        type_index=np.array([types.index(row[1]) for row in rows], np.int64),
    )


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts `gpu-10` after `gpu-9`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def indexed(column: pl.Series, values: tuple[str, ...] | list[str]) -> Int:
    """The position in `values` of each entry of `column`."""
    index = pl.DataFrame({"key": pl.Series(values, dtype=pl.String), "index": np.arange(len(values), dtype=np.int64)})
    found = pl.DataFrame({"key": column}).join(index, on="key", how="left", maintain_order="left")["index"]
    assert found.null_count() == 0, f"{column.name}: a name that is in the plan alone"
    return found.to_numpy()


def microseconds(seconds: pl.Series) -> Int:
    """Whole microseconds of a column of seconds."""
    rounded: Int = np.rint(seconds.to_numpy() * US_PER_S).astype(np.int64)
    return rounded


def _session_profiles(trace: Trace, fleet: Fleet) -> Int:
    default = fleet.default_profile or next(iter(fleet.profiles))
    return indexed(trace.sessions["profile"].fill_null(default), list(fleet.profiles))


def _on(plan: OfflinePlan, gpus: Gpus) -> OnIntervals:
    gpu_index = indexed(plan.gpus["gpu_id"], gpus.gpu_id)
    startup_us = np.array([round(t.startup_s * US_PER_S) for t in plan.fleet.gpu_types.values()], np.int64)
    on_us, off_us = microseconds(plan.gpus["on_s"]), microseconds(plan.gpus["off_s"])
    order = np.lexsort((on_us, gpu_index))
    gpu_index, on_us, off_us = gpu_index[order], on_us[order], off_us[order]
    usable_us = np.minimum(on_us + startup_us[gpus.type_index[gpu_index]], off_us)
    return OnIntervals(gpu_index=gpu_index, on_us=on_us, usable_us=usable_us, off_us=off_us)


def _placed(plan: OfflinePlan, trace: Trace, gpus: Gpus, session_profiles: Int) -> Placed:
    session_index = indexed(plan.placements["session_id"], trace.sessions["session_id"].to_list())
    start_us, end_us = microseconds(plan.placements["start_s"]), microseconds(plan.placements["end_s"])
    order = np.lexsort((start_us, session_index))
    return Placed(
        session_index=session_index[order],
        profile_index=session_profiles[session_index[order]],
        gpu_index=indexed(plan.placements["gpu_id"], gpus.gpu_id)[order],
        start_us=start_us[order],
        end_us=end_us[order],
    )


def _moves(placed: Placed, periods_of: Int, periods: Periods, gpus: Gpus, fleet: Fleet) -> Moves:
    """A session's next placement on another GPU within the same active period."""
    period = _period_of(placed, periods_of, periods)
    moved = 1 + np.flatnonzero((period[1:] == period[:-1]) & (placed.gpu_index[1:] != placed.gpu_index[:-1]))
    source, target = placed.gpu_index[moved - 1], placed.gpu_index[moved]
    node = np.unique(np.array(gpus.node, dtype=np.str_), return_inverse=True)[1]
    links = fleet.links
    gb_s = np.where(node[source] == node[target], links.device_device_gb_s, links.node_node_gb_s)
    state_gib = np.array([profile.state_gib for profile in fleet.profiles.values()])[placed.profile_index[moved]]
    transfer_s = links.latency_ms / 1e3 + state_gib * 2**30 / (gb_s * 1e9)
    price = np.array([t.price_per_hour for t in fleet.gpu_types.values()])[gpus.type_index[target]]
    return Moves(
        session_index=placed.session_index[moved],
        profile_index=placed.profile_index[moved],
        source_index=source,
        target_index=target,
        at_us=placed.start_us[moved],
        dollars=transfer_s / 3600 * price,
    )


def _period_of(placed: Placed, periods_of: Int, periods: Periods) -> Int:
    """The active period that each placement lies in: its session's last one that starts no later."""
    sessions = np.concatenate([periods_of, placed.session_index])
    starts = np.concatenate([periods.start_us, placed.start_us])
    is_placement = np.arange(len(sessions)) >= len(periods_of)
    order = np.lexsort((is_placement, starts, sessions))
    latest = np.maximum.accumulate(np.where(is_placement[order], -1, np.arange(len(order))))
    found = np.empty(len(order), np.int64)
    found[order] = order[latest]
    return found[len(periods_of) :]


def load_of(fleet: Fleet, types: Int, contents: Occupancy) -> Float:
    """sum_k sessions of k / seats for k: 1 is as full as sessions of one profile alone could make the GPU."""
    per_session = np.array([1.0 / np.maximum(seats(fleet, gpu_type), 1) for gpu_type in fleet.gpu_types])
    total: Float = (contents.counts * per_session[types]).sum(axis=1)
    return total
