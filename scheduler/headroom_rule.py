"""What the common rule of a blanket headroom costs on a trace: ceil(active / (0.9 capacity)) GPUs.

Decides how that rule becomes dollars; must never know a plan. Source: arXiv 2606.19271 and public reimplementations of
it. Pools of one profile each, on the GPU type that is cheapest per session; scale out at once, scale in after the lower
number has been enough for five seconds. Whatever the rule leaves open is decided in its favour: GPUs are ready when
they are needed (a start-up is paid, nobody waits for it), a GPU that would be needed again before a new one is ready
stays on if that is no dearer, moves are free, and the pools have no end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.demand import Int64Array, active_over_time, demand_arrays
from scheduler.fleet import Fleet
from scheduler.latency import seats
from traces.trace import Trace

HOLD_US = 5_000_000  # a lower target must have held for this long
_HEADROOM = (10, 9)  # 1 / 0.9, in whole numbers
HEADROOM_RULE = "Blanket headroom: ceil(active / (0.9 x capacity))"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChoice:
    """Where the sessions of one profile go."""

    gpu_type: str
    capacity: int  # sessions that one GPU runs on time


def headroom_dollars(trace: Trace, fleet: Fleet) -> float | None:
    """Dollars for GPUs, from switching on to switching off; None where some profile is on time on no GPU type."""
    profile, start_us, end_us = demand_arrays(trace, fleet)
    epoch_us = round(fleet.epoch_s * 1e6)
    total = 0.0
    for index in np.unique(profile).tolist():
        pool = cheapest_pool(fleet, index)
        if pool is None:
            return None
        mine = profile == index
        gpu_type = fleet.gpu_types[pool.gpu_type]
        wanted = gpus_by_epoch(start_us[mine], end_us[mine], pool.capacity, epoch_us, trace.horizon_us)
        startup_epochs = round(gpu_type.startup_s * 1e6) // epoch_us
        total += paid_epochs(wanted, startup_epochs) * fleet.epoch_s / 3600 * gpu_type.price_per_hour
    return total


def cheapest_pool(fleet: Fleet, profile_index: int) -> PoolChoice | None:
    """The GPU type with the least price per session that is on time there."""
    choices: list[tuple[float, PoolChoice]] = []
    for name in dict.fromkeys(pool.gpu_type for pool in fleet.pools):
        capacity = int(seats(fleet, name)[profile_index])
        if capacity:
            price = fleet.gpu_types[name].price_per_hour / capacity
            choices.append((price, PoolChoice(gpu_type=name, capacity=capacity)))
    return min(choices, key=lambda choice: choice[0])[1] if choices else None


def gpus_by_epoch(
    start_us: Int64Array, end_us: Int64Array, capacity: int, epoch_us: int, horizon_us: int
) -> Int64Array:
    """The most GPUs that the rule wants at any instant of each epoch; one that is wanted at all is on for the epoch."""
    epochs = -(-horizon_us // epoch_us)
    at_us, active = active_over_time(start_us, end_us)
    up, down = _HEADROOM
    target = -(-up * active // (down * capacity))
    grid_us = np.arange(epochs, dtype=np.int64) * epoch_us
    looks_us = np.sort(np.concatenate([at_us, grid_us, grid_us - HOLD_US]))
    before = np.searchsorted(at_us, looks_us, side="right") - 1
    seen = np.where(before >= 0, target[before], 0)
    wanted = np.zeros(epochs, dtype=np.int64)
    for held_us in (*range(0, HOLD_US, epoch_us), HOLD_US):
        epoch = (looks_us + held_us) // epoch_us
        inside = (epoch >= 0) & (epoch < epochs)
        np.maximum.at(wanted, epoch[inside], seen[inside])
    return wanted


def paid_epochs(wanted: Int64Array, startup_epochs: int) -> int:
    """GPU-epochs paid: those wanted, a start-up before each run of them, and pauses no longer than a start-up."""
    padded = np.pad(wanted, startup_epochs)
    window = np.lib.stride_tricks.sliding_window_view
    widened = window(np.pad(padded, (startup_epochs, 0)), startup_epochs + 1).max(axis=1)
    held = window(np.pad(widened, (0, startup_epochs)), startup_epochs + 1).min(axis=1)
    starts = np.maximum(np.diff(held, prepend=0), 0)
    return int(held.sum() + startup_epochs * starts.sum())
