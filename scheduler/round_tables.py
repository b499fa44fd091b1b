"""A fleet's batching model as the tables of the placement problem.

Decides how measured milliseconds become whole microseconds and where a batch may never run; must never know who runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.fleet import Fleet
from solvers.placement.problem import NEVER_US, IntArray, RoundTables


def round_tables(fleet: Fleet, profiles: Sequence[str]) -> RoundTables:
    """One row per GPU type of the fleet in its order, one class per profile given."""
    types, classes = len(fleet.gpu_types), len(profiles)
    columns = _batch_max(fleet, profiles) + 2  # an empty batch, and one beyond every table
    alone_us: IntArray = np.zeros((types, classes, columns), np.int64)
    base_us: IntArray = np.zeros((types, classes), np.int64)
    common_us: IntArray = np.zeros((types, columns), np.int64)
    sessions = np.arange(columns)
    for t, gpu_type in enumerate(fleet.gpu_types):
        if fleet.batching == "packed":
            packed = (fleet.packed or {}).get(gpu_type)
            if packed is not None:
                common_us[t, 1 : packed.sessions_max + 1] = _us(packed.fixed_ms)
            common_us[t, (packed.sessions_max if packed is not None else 0) + 1 :] = NEVER_US
        elif fleet.batching == "turboserve":
            common_us[t] = _looked_up((fleet.crowding_ms or {}).get(gpu_type, []), columns)
        for k, name in enumerate(profiles):
            profile = fleet.profiles[name]
            if fleet.batching == "grouped":
                alone_us[t, k] = _looked_up((profile.latency_ms or {}).get(gpu_type, []), columns)
            elif fleet.batching == "packed":
                each_ms = (profile.per_session_ms or {}).get(gpu_type)
                alone_us[t, k] = NEVER_US * (sessions > 0) if each_ms is None else np.rint(each_ms * 1000 * sessions)
            else:
                base_ms = (profile.base_ms or {}).get(gpu_type)
                base_us[t, k] = NEVER_US if base_ms is None else _us(base_ms)
    return RoundTables(batching=fleet.batching, alone_us=alone_us, base_us=base_us, common_us=common_us)


def _us(milliseconds: float) -> int:
    return round(milliseconds * 1000)


def _looked_up(table_ms: Sequence[float], columns: int) -> IntArray:
    """0 sessions take no time; beyond the table a batch may not run."""
    row: IntArray = np.full(columns, NEVER_US, np.int64)
    row[0] = 0
    row[1 : len(table_ms) + 1] = [_us(milliseconds) for milliseconds in table_ms]
    return row


def _batch_max(fleet: Fleet, profiles: Sequence[str]) -> int:
    """The largest batch that any table speaks of."""
    if fleet.batching == "grouped":
        return max((len(t) for p in profiles for t in (fleet.profiles[p].latency_ms or {}).values()), default=0)
    if fleet.batching == "packed":
        return max((cost.sessions_max for cost in (fleet.packed or {}).values()), default=0)
    return max((len(table) for table in (fleet.crowding_ms or {}).values()), default=0)
