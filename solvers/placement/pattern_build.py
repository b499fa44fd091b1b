"""From a pattern per GPU to sessions: who leaves, who arrives and who is placed where.

Decides this by heaviest level first, so that whoever comes later is more easily served; must never know prices or
limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers.placement.pattern_level import Level
from solvers.placement.problem import BoolArray, IntArray, Problem
from solvers.placement.solution import Placement


def build_placement(problem: Problem, level: Level, pair: IntArray, cap: IntArray) -> Placement | None:
    """A placement that follows the patterns, or None if sessions do not fit memory or limits of arrivals."""
    out = _leave(problem, level, pair)
    gpu_type = level.kind_type[level.pairs.kind[pair]]
    slots = np.maximum(level.caps[gpu_type, cap] - level.pairs.stay[pair], 0)
    admits = level.admits[gpu_type, cap]
    room = _Room(
        admits=np.where(level.level_of >= 0, admits[:, level.level_of], False),
        slots=np.where(problem.receives, slots, 0),
        arrivals_left=problem.in_max.copy(),
        free_mib=np.maximum(problem.memory_mib - problem.running @ problem.state_mib, 0),
        state_mib=problem.state_mib,
        arrived=np.zeros_like(out),
        placed=np.zeros_like(out),
    )
    for k in room.hardest_first():
        waiting, migrants = int(problem.waiting[k]), int(out[:, k].sum())
        # Those who wait first take slots that migrants cannot have: the limit of arrivals is theirs alone.
        waiting -= room.take(k, waiting, room.slots - room.hosts, migrate=False)
        waiting -= room.take(k, waiting, room.slots, migrate=False)
        migrants -= room.take(k, migrants, room.hosts, migrate=True)
        for migrate in [False] * waiting + [True] * migrants:
            if not room.exchange(k, migrate=migrate):
                return None
    return _without_detours(out, room.arrived, room.placed)


@dataclass(slots=True, kw_only=True)
class _Room:
    """What is left on each GPU while sessions are handed out."""

    admits: BoolArray  # [gpus, classes]
    slots: IntArray
    arrivals_left: IntArray
    free_mib: IntArray
    state_mib: IntArray
    arrived: IntArray  # [gpus, classes]
    placed: IntArray

    @property
    def hosts(self) -> IntArray:
        """Slots that migrants may have."""
        return np.minimum(self.slots, self.arrivals_left)

    def hardest_first(self) -> list[int]:
        """Classes with the fewest slots first, then those with the largest states."""
        open_slots = self.slots @ self.admits
        return sorted(range(len(self.state_mib)), key=lambda k: (int(open_slots[k]), -int(self.state_mib[k])))

    def take(self, k: int, count: int, most: IntArray, *, migrate: bool) -> int:
        """Hand out so many of these slots, if there are, to a class: where few can go and memory is scarce first."""
        most = np.minimum(np.where(self.admits[:, k], most, 0), self.free_mib // self.state_mib[k])
        order = np.lexsort((self.free_mib / np.maximum(self.slots, 1), self.admits.sum(axis=1)))
        before = np.cumsum(most[order]) - most[order]
        taken = np.zeros_like(most)
        taken[order] = np.clip(count - before, 0, most[order])
        self._enter(np.arange(len(taken)), k, taken, migrate=migrate)
        return int(taken.sum())

    def exchange(self, k: int, *, migrate: bool) -> bool:
        """Make room for one session by sending another one, of a smaller state, to a GPU with less memory."""
        for other in np.flatnonzero(self.state_mib < self.state_mib[k]):
            freed = (self.placed[:, other] > 0) & self.admits[:, k]
            freed &= self.free_mib + self.state_mib[other] >= self.state_mib[k]
            if migrate:
                freed &= self.arrivals_left > 0
            takes = (self.slots > 0) & self.admits[:, other] & (self.free_mib >= self.state_mib[other])
            if freed.any() and takes.any():
                here, there = np.array([freed.argmax()]), np.array([takes.argmax()])
                self._enter(here, int(other), np.array([-1]), migrate=False)
                self._enter(there, int(other), np.array([1]), migrate=False)
                self._enter(here, k, np.array([1]), migrate=migrate)
                return True
        return False

    def _enter(self, gpus: IntArray, k: int, count: IntArray, *, migrate: bool) -> None:
        (self.arrived if migrate else self.placed)[gpus, k] += count
        self.slots[gpus] -= count
        self.free_mib[gpus] -= count * self.state_mib[k]
        if migrate:
            self.arrivals_left[gpus] -= count


def _leave(problem: Problem, level: Level, pair: IntArray) -> IntArray:
    """Who leaves: of each level the classes with the smallest states."""
    out = np.zeros_like(problem.running)
    gives = level.pairs.gives[pair].copy()
    for k in np.argsort(problem.state_mib, kind="stable"):
        if level.level_of[k] >= 0:
            out[:, k] = np.minimum(gives[:, level.level_of[k]], problem.running[:, k])
            gives[:, level.level_of[k]] -= out[:, k]
    return out


def _without_detours(out: IntArray, arrived: IntArray, placed: IntArray) -> Placement:
    """Nobody leaves a GPU that takes one of the same class."""
    both = np.minimum(out, arrived)
    out, arrived = out - both, arrived - both
    both = np.minimum(out, placed)
    out, placed = out - both, placed - both
    for k in np.flatnonzero(both.sum(axis=0)):  # whoever arrived elsewhere for it is now placed there
        count = int(both[:, k].sum())
        before = np.cumsum(arrived[:, k]) - arrived[:, k]
        instead = np.clip(count - before, 0, arrived[:, k])
        arrived[:, k] -= instead
        placed[:, k] += instead
    return Placement(out=out, arrived=arrived, placed=placed)
