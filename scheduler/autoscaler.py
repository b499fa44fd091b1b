"""The schedule for an autoscaler: GPUs on per type and hour.

Decides the columns of `schedule.csv`; must never know sessions or placements.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scheduler.offline_plan import OfflinePlan

SCHEDULE_SCHEMA: dict[str, type[pl.DataType]] = {
    "hour": pl.Int64,  # from the start of the trace, negative before it
    "gpu_type": pl.String,
    "gpus_on_max": pl.Int64,
    "gpus_on_mean": pl.Float64,  # GPU-hours paid in that hour
}
_HOUR_US = 3_600_000_000


def schedule_frame(plan: OfflinePlan) -> pl.DataFrame:
    """One row per hour and GPU type of the fleet, in which some GPU of any type is on; SCHEDULE_SCHEMA."""
    on_us, off_us = _microseconds(plan.gpus["on_s"]), _microseconds(plan.gpus["off_s"])
    if not on_us.size:
        return pl.DataFrame(schema=SCHEDULE_SCHEMA)
    hours = np.arange(math.floor(on_us.min() / _HOUR_US), math.ceil(off_us.max() / _HOUR_US))
    kinds = plan.gpus["gpu_type"].to_numpy()
    frames = []
    for gpu_type in plan.fleet.gpu_types:
        mine = kinds == gpu_type
        most, mean = _per_hour(on_us[mine], off_us[mine], hours)
        columns = {"hour": hours, "gpu_type": [gpu_type] * hours.size, "gpus_on_max": most, "gpus_on_mean": mean}
        frames.append(pl.DataFrame(columns, schema=SCHEDULE_SCHEMA))
    return pl.concat(frames).sort("hour", maintain_order=True)


def _microseconds(seconds: pl.Series) -> NDArray[np.int64]:
    return np.rint(seconds.to_numpy() * 1e6).astype(np.int64)


def _per_hour(
    on_us: NDArray[np.int64], off_us: NDArray[np.int64], hours: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Most and mean GPUs on in each hour: steps of the count, cut at the hours."""
    edges = hours * _HOUR_US
    times = np.unique(np.concatenate([on_us, off_us, edges, edges[-1:] + _HOUR_US]))
    count = np.searchsorted(np.sort(on_us), times, side="right") - np.searchsorted(np.sort(off_us), times, side="right")
    first = np.searchsorted(times, edges)
    lengths = np.diff(times, append=times[-1])
    most = np.maximum.reduceat(count, first)
    mean = np.add.reduceat(count * lengths, first) / _HOUR_US
    return most.astype(np.int64), mean
