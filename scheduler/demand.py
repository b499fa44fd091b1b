"""Demand as arrays: which profile every active period asks for, and how many are active over time.

Decides which profile a session without a name falls to; must never know a GPU or a plan.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from scheduler.fleet import Fleet
from traces.trace import Trace

Int64Array = npt.NDArray[np.int64]


def demand_arrays(trace: Trace, fleet: Fleet) -> tuple[Int64Array, Int64Array, Int64Array]:
    """By period: the profile's index in the fleet, start_us and end_us."""
    default = fleet.default_profile or next(iter(fleet.profiles))
    names = {name: index for index, name in enumerate(fleet.profiles)}
    profiles = trace.sessions["profile"].fill_null(default).replace_strict(names, return_dtype=pl.Int64).to_numpy()
    start_us, end_us = (trace.periods[column].to_numpy().astype(np.int64) for column in ("start_us", "end_us"))
    return profiles[trace.periods["session_index"].to_numpy()], start_us, end_us


def active_over_time(start_us: Int64Array, end_us: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Each instant of change, sorted, and how many are active from then on."""
    starts_us, ends_us = np.sort(start_us), np.sort(end_us)
    at_us = np.sort(np.concatenate([starts_us, ends_us]))
    at_us = at_us[np.diff(at_us, prepend=at_us[0] - 1) > 0]
    begun = np.searchsorted(starts_us, at_us, side="right")
    return at_us, begun - np.searchsorted(ends_us, at_us, side="right")
