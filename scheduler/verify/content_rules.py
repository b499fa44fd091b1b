"""What a GPU may hold, and how fast it then is, straight from the fleet's tables.

Decides latency, capacity, memory and targets of contents (sessions per profile); must never know a schedule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scheduler.fleet import Fleet
from scheduler.verify.sweep import Bools, Floats, Ints

CONTENTS_MAX = 2_000_000  # beyond this, contents are not enumerated
_TOLERANCE = 1e-9  # milliseconds or GiB


class ContentRules:
    """The fleet's tables; contents are integer arrays of shape (contents, profiles)."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._types = list(fleet.gpu_types)
        self._profiles = list(fleet.profiles.values())
        self.state_gib: Floats = np.array([profile.state_gib for profile in self._profiles])
        self.target_ms: Floats = np.array([fleet.target_ms(name) for name in fleet.profiles])
        self.room_gib: Floats = np.array([kind.memory_gib - kind.weights_gib for kind in fleet.gpu_types.values()])

    def latency_ms(self, type_index: int, contents: Ints) -> tuple[Floats, Bools]:
        """f of each content, and whether the type has figures for it; 0 where it is empty."""
        if self._fleet.batching == "grouped":
            return self._grouped(self._types[type_index], contents)
        if self._fleet.batching == "packed":
            return self._packed(self._types[type_index], contents)
        return self._turboserve(self._types[type_index], contents)

    def fits_memory(self, type_index: int, contents: Ints) -> Bools:
        """Whether the states fit beside the weights."""
        fits: Bools = contents @ self.state_gib <= self.room_gib[type_index] + _TOLERANCE
        return fits

    def late(self, latency_ms: Floats, contents: Ints) -> Ints:
        """Sessions of each content whose target the latency exceeds."""
        over = latency_ms[:, None] > self.target_ms + _TOLERANCE
        count: Ints = np.where(over, contents, 0).sum(axis=1)
        return count

    def feasible(self, type_index: int, contents: Ints) -> Bools:
        """Figures, memory, and nobody late."""
        latency_ms, allowed = self.latency_ms(type_index, contents)
        on_time: Bools = self.late(latency_ms, contents) == 0
        return allowed & self.fits_memory(type_index, contents) & on_time

    def maximal(self, type_index: int, profiles: Ints) -> Ints | None:
        """Feasible contents of these profiles to which no session can be added; None where there are too many.

        Removing a session from a feasible content leaves it feasible, so profiles are added one after another.
        """
        count = len(self._profiles)
        front = np.zeros((1, count), dtype=np.int64)
        for profile in profiles:
            layers, more = [front], front
            while more.size:
                more = more.copy()
                more[:, profile] += 1
                more = more[self.feasible(type_index, more)]
                layers.append(more)
                if sum(len(layer) for layer in layers) > CONTENTS_MAX:
                    return None
            front = np.concatenate(layers)
        full = np.ones(len(front), dtype=np.bool_)
        for profile in profiles:
            more = front.copy()
            more[:, profile] += 1
            full &= ~self.feasible(type_index, more)
        return front[full]

    def weight_limit(self, type_index: int, weights: Floats) -> float:
        """At least the weight of any feasible content: memory shared as a liquid, each profile up to its capacity."""
        alone = np.zeros(len(self._profiles), dtype=np.int64)
        for profile in range(alone.size):
            content = np.zeros((1, alone.size), dtype=np.int64)
            while True:
                content[0, profile] += 1
                if not self.feasible(type_index, content)[0]:
                    break
                alone[profile] += 1
        room, limit = self.room_gib[type_index] + _TOLERANCE, 0.0
        for profile in np.argsort(-weights / self.state_gib):
            take = min(float(alone[profile]), room / self.state_gib[profile])
            limit += take * weights[profile]
            room -= take * self.state_gib[profile]
        return limit

    def _grouped(self, gpu_type: str, contents: Ints) -> tuple[Floats, Bools]:
        total, allowed = np.zeros(len(contents)), np.ones(len(contents), dtype=np.bool_)
        for index, profile in enumerate(self._profiles):
            table = np.array([0.0, *(profile.latency_ms or {}).get(gpu_type, [])])
            number = contents[:, index]
            allowed &= number < table.size
            total += table[np.minimum(number, table.size - 1)]
        return total, allowed

    def _packed(self, gpu_type: str, contents: Ints) -> tuple[Floats, Bools]:
        tables = [profile.per_session_ms or {} for profile in self._profiles]
        each, missing = self._figures([table.get(gpu_type) for table in tables])
        shared = (self._fleet.packed or {}).get(gpu_type)
        number = contents.sum(axis=1)
        if shared is None:
            return np.zeros(len(contents)), number == 0
        allowed = (number <= shared.sessions_max) & ~(contents[:, missing] > 0).any(axis=1)
        return np.where(number > 0, shared.fixed_ms + contents @ each, 0.0), allowed

    def _turboserve(self, gpu_type: str, contents: Ints) -> tuple[Floats, Bools]:
        tables = [profile.base_ms or {} for profile in self._profiles]
        base, missing = self._figures([table.get(gpu_type) for table in tables])
        crowding = np.array([0.0, *(self._fleet.crowding_ms or {}).get(gpu_type, [])])
        number = contents.sum(axis=1)
        allowed = (number < crowding.size) & ~(contents[:, missing] > 0).any(axis=1)
        widest = np.where(contents > 0, base, 0.0).max(axis=1, initial=0.0)
        return widest + crowding[np.minimum(number, crowding.size - 1)], allowed

    @staticmethod
    def _figures(values: list[float | None]) -> tuple[Floats, NDArray[np.bool_]]:
        missing = np.array([value is None for value in values], dtype=np.bool_)
        return np.array([0.0 if value is None else value for value in values]), missing
