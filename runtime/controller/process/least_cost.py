"""The least that GPUs cost by the hour while they hold some sessions on time.

Decides a price that no other placement undercuts at that moment; must never know which GPUs are on, nor what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from scheduler.fleet import Fleet
from scheduler.gpu_capacity import runnable
from scheduler.gpu_need import GpuNeed
from scheduler.planner_settings import ScalingSettings
from solvers.capacity import EPSILON, Capacity

FloatArray = npt.NDArray[np.float64]

FOUND_MAX = 4096  # demands whose price is kept


class LeastCost:
    """Of one fleet; what was found once is kept."""

    def __init__(self, fleet: Fleet) -> None:
        self._need = GpuNeed(fleet, ScalingSettings())
        self._runnable = runnable(fleet, self._need.gpu_types, tuple(fleet.profiles))
        self._price = np.array([fleet.gpu_types[t].price_per_hour for t in self._need.gpu_types])
        self._always = sum(pool.gpus_min * fleet.gpu_types[pool.gpu_type].price_per_hour for pool in fleet.pools)
        self._found: dict[tuple[int, ...], float | None] = {}

    def per_hour(self, active: Mapping[str, int]) -> float | None:
        """Dollars, of sessions that want chunks by profile. Those that run nowhere are left out; start-ups are free.

        `gpus_min` is always paid for. None: the profiles mix in more ways than can be looked at.
        """
        counts = tuple(active.get(profile, 0) for profile in self._runnable)
        if counts not in self._found:
            if len(self._found) >= FOUND_MAX:
                self._found.clear()
            self._found[counts] = self._computed(counts)
        return self._found[counts]

    def _computed(self, counts: tuple[int, ...]) -> float | None:
        present = [(profile, count) for profile, count in zip(self._runnable, counts, strict=True) if count]
        if not present:
            return self._always
        profiles, demand = zip(*present, strict=True)
        holding = self._need.holding(profiles)
        if not isinstance(holding, Capacity):
            return None
        wanted = np.array(demand, np.float64)
        why = holding.strongest(wanted)
        assert why is not None, "somebody is there"
        return max(self._always, self._bound(float(np.dot(why.weights, wanted)), np.array(why.limit)))

    def _bound(self, side: float, limit: FloatArray) -> float:
        """The least price of GPUs with limit . gpus >= side: whole ones of one type, of several the best rate."""
        if len(limit) == 1:
            return float(math.ceil(side / limit[0] - EPSILON) * self._price[0])
        useful = limit > 0
        return float(side * (self._price[useful] / limit[useful]).min())
