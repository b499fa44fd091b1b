"""The least that GPUs cost by the hour while they hold some sessions on time.

Decides a price that no other placement undercuts at that moment; must never know which GPUs are on, nor what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from scheduler.fleet import Fleet
from scheduler.gpu_capacity import Holding, capacity_of, runnable
from scheduler.gpu_need import HOLDINGS_MAX, MILLI_CENTS, gpu_types_of
from solvers.capacity import Capacity

FOUND_MAX = 4096  # demands whose price is kept
NODES_MAX = 1  # of branch and bound: whole GPUs at the root raise the bound, and that is quick


class LeastCost:
    """Of one fleet; what was found once is kept."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._types = fleet, gpu_types_of(fleet)
        self._price = tuple(math.floor(fleet.gpu_types[t].price_per_hour * MILLI_CENTS) for t in self._types)
        self._runnable = runnable(fleet, self._types, tuple(fleet.profiles))
        self._always = sum(pool.gpus_min * self._price[self._types.index(pool.gpu_type)] for pool in fleet.pools)
        self._holding: dict[tuple[str, ...], Holding] = {}
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
            return self._always / MILLI_CENTS
        profiles, demand = zip(*present, strict=True)
        if profiles not in self._holding:
            if len(self._holding) >= HOLDINGS_MAX:
                del self._holding[next(iter(self._holding))]
            self._holding[profiles] = capacity_of(self._fleet, self._types, profiles, self._price)
        holding = self._holding[profiles]
        if not isinstance(holding, Capacity):
            return None
        bound = holding.fewest(np.array(demand, np.int64), nodes_max=NODES_MAX).bound
        return max(self._always, bound) / MILLI_CENTS
