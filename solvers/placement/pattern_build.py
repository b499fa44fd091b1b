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
    kind = level.pairs.kind[pair]
    gpu_type = level.kind_type[kind]
    admits = level.admits[gpu_type, cap]
    slots = np.where(problem.receives, np.maximum(level.caps[gpu_type, cap] - level.pairs.stay[pair], 0), 0)
    room = _Room(
        slots=slots,
        hosts=np.minimum(problem.in_max, slots),
        free_mib=problem.memory_mib - problem.running @ problem.state_mib,
        order=admits.sum(axis=1),
    )
    arrived, placed = np.zeros_like(out), np.zeros_like(out)
    for k in _hardest_first(problem, level, admits, slots):
        open_to, state_mib = admits[:, level.level_of[k]], int(problem.state_mib[k])
        waiting, migrants = int(problem.waiting[k]), int(out[:, k].sum())
        # Those who wait first take slots that migrants cannot have: the limit of arrivals is theirs alone.
        placed[:, k] += room.take(waiting, np.where(open_to, room.slots - room.hosts, 0), state_mib, migrate=False)
        waiting -= int(placed[:, k].sum())
        placed[:, k] += room.take(waiting, np.where(open_to, room.slots, 0), state_mib, migrate=False)
        arrived[:, k] = room.take(migrants, np.where(open_to, room.hosts, 0), state_mib, migrate=True)
        if int(arrived[:, k].sum()) < migrants or int(placed[:, k].sum()) < int(problem.waiting[k]):
            return None
    return _without_detours(out, arrived, placed)


@dataclass(slots=True, kw_only=True)
class _Room:
    """What is left on each GPU while sessions are handed out."""

    slots: IntArray
    hosts: IntArray  # slots that migrants may have
    free_mib: IntArray
    order: IntArray  # GPUs that admit less come first

    def take(self, count: int, most: IntArray, state_mib: int, *, migrate: bool) -> IntArray:
        """Hand out so many slots, if there are, to sessions of one class; GPUs with the most memory first."""
        most = np.minimum(most, np.maximum(self.free_mib, 0) // state_mib)
        order = np.lexsort((-self.free_mib, self.order))
        before = np.cumsum(most[order]) - most[order]
        taken = np.zeros_like(most)
        taken[order] = np.clip(count - before, 0, most[order])
        self.slots = self.slots - taken
        self.hosts = np.minimum(self.hosts - taken if migrate else self.hosts, self.slots)
        self.free_mib = self.free_mib - taken * state_mib
        return taken


def _leave(problem: Problem, level: Level, pair: IntArray) -> IntArray:
    """Who leaves: of each level the classes with the smallest states."""
    out = np.zeros_like(problem.running)
    gives = level.pairs.gives[pair].copy()
    for k in np.argsort(problem.state_mib, kind="stable"):
        if level.level_of[k] >= 0:
            out[:, k] = np.minimum(gives[:, level.level_of[k]], problem.running[:, k])
            gives[:, level.level_of[k]] -= out[:, k]
    return out


def _hardest_first(problem: Problem, level: Level, admits: BoolArray, slots: IntArray) -> list[int]:
    """Classes with the fewest slots first, then those with the largest states."""
    open_slots = slots @ admits
    present = np.flatnonzero(level.level_of >= 0)
    return sorted(present.tolist(), key=lambda k: (int(open_slots[level.level_of[k]]), -int(problem.state_mib[k])))


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
