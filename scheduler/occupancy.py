"""What each GPU holds over time: placements swept into segments of constant content.

Decides when a GPU's content changes; must never know what a content costs or who the sessions are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """Segments [start_us, end_us) in which a GPU's content does not change, sorted by (gpu_index, start_us).

    Time in which a GPU holds nothing has no segment, and neighbouring segments of a GPU differ in content.
    """

    gpu_index: NDArray[np.int64]  # [m]
    start_us: NDArray[np.int64]  # [m]
    end_us: NDArray[np.int64]  # [m]
    counts: NDArray[np.int32]  # [m, profiles]: active sessions of each profile

    @property
    def sessions(self) -> NDArray[np.int64]:
        """[m]: active sessions on the GPU, of all profiles."""
        total: NDArray[np.int64] = self.counts.sum(axis=1, dtype=np.int64)
        return total


def sweep(
    *, gpu_index: Integers, profile_index: Integers, start_us: Integers, end_us: Integers, profile_count: int
) -> Occupancy:
    """Sweep placements ([n] each, in any order, start_us < end_us) into segments.

    Takes O(n log n) and 2 n rows of `profile_count` counters. A session that leaves as an equal one arrives changes
    nothing, and makes no new segment.
    """
    assert np.all(start_us < end_us), "a placement lasts at least a microsecond"
    gpu = np.concatenate([gpu_index, gpu_index]).astype(np.int64)
    at_us = np.concatenate([start_us, end_us]).astype(np.int64)
    order = np.lexsort((at_us, gpu))
    gpu, at_us = gpu[order], at_us[order]
    first = np.ones(len(gpu), bool)
    first[1:] = (gpu[1:] != gpu[:-1]) | (at_us[1:] != at_us[:-1])
    instant = np.cumsum(first) - 1
    delta = _deltas(instant, order, profile_index, int(first.sum()), profile_count)
    gpu, at_us = gpu[first], at_us[first]
    changes = delta.any(axis=1)
    gpu, at_us = gpu[changes], at_us[changes]
    # Arrivals and departures of one GPU cancel out, so one running sum serves all GPUs.
    counts = np.cumsum(delta[changes], axis=0, dtype=np.int32)
    held = np.flatnonzero(counts.any(axis=1))
    return Occupancy(gpu_index=gpu[held], start_us=at_us[held], end_us=at_us[held + 1], counts=counts[held])


def _deltas(
    instant: Integers, order: Integers, profile_index: Integers, instants: int, profile_count: int
) -> NDArray[np.int32]:
    """[instants, profiles]: arrivals minus departures at each instant of a GPU; `order` sorts arrivals + departures."""
    placements = len(profile_index)
    sign = np.where(order < placements, 1.0, -1.0)
    cell = instant * profile_count + profile_index[order % max(placements, 1)]
    flat = np.bincount(cell, weights=sign, minlength=instants * profile_count)
    return flat.reshape(instants, profile_count).astype(np.int32)
