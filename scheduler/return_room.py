"""On which GPUs an idle session could not return without making somebody late.

Decides by one more session of its profile in the batch; must never know who returns, when, or what memory is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from scheduler.fleet import Fleet
from scheduler.latency import chunk_latency_ms_mixed
from solvers.placement.problem import IntArray

_TOLERANCE = 1.0 + 1e-9  # targets and latencies are sums of decimals


def crowded(
    fleet: Fleet, type_index: IntArray, active: IntArray, idle: Mapping[int, Set[str]]
) -> dict[int, frozenset[str]]:
    """By row, the idle profiles of which one more would be late there, or would make another profile late.

    `type_index` [rows] are indexes into `fleet.gpu_types`, `active` [rows, profiles] is in the fleet's order. A GPU on
    which somebody is late already is crowded for all, but for whom no GPU of its type would be fast enough.
    """
    targets_ms = np.array([fleet.target_ms(name) for name in fleet.profiles])
    found: dict[int, set[str]] = {row: set() for row in idle}
    for column, profile in enumerate(fleet.profiles):
        rows = np.array([row for row, profiles in idle.items() if profile in profiles], np.int64)
        if not len(rows):
            continue
        batch = active[rows]
        batch[:, column] += 1
        strictest_ms = np.where(batch > 0, targets_ms, np.inf).min(axis=1)
        alone = np.zeros_like(batch)
        alone[:, column] = 1
        latency_ms = chunk_latency_ms_mixed(fleet, type_index[rows], batch)
        late = latency_ms > strictest_ms * _TOLERANCE
        late &= chunk_latency_ms_mixed(fleet, type_index[rows], alone) <= targets_ms[column] * _TOLERANCE
        for row in rows[late].tolist():
            found[row].add(profile)
    return {row: frozenset(profiles) for row, profiles in found.items() if profiles}
