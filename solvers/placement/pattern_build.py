"""From a pattern per GPU to sessions: who leaves, who arrives and who is placed where.

Decides this by heaviest level first, so that whoever comes later is more easily served; must never know prices or
limits.
"""

from __future__ import annotations

import numpy as np

from solvers.placement.pattern_level import Level
from solvers.placement.problem import BoolArray, IntArray, Problem
from solvers.placement.solution import Placement


def build_placement(problem: Problem, level: Level, pair: IntArray, cap: IntArray) -> Placement | None:
    """A placement that follows the patterns, or None if sessions do not fit memory or limits of arrivals."""
    out = _leave(problem, level, pair)
    kind = level.pairs.kind[pair]
    gpu_type = level.kind_type[kind]
    slots = np.maximum(level.caps[gpu_type, cap] - level.pairs.stay[pair], 0)
    slots = np.where(problem.receives, slots, 0)
    hosts = np.minimum(problem.in_max, slots)
    free_mib = problem.memory_mib - problem.running @ problem.state_mib
    admits = level.admits[gpu_type, cap]
    arrived, placed = np.zeros_like(out), np.zeros_like(out)
    migrating = out.sum(axis=0)
    reach = admits @ np.ones(admits.shape[1])
    for k in _hardest_first(problem, level, admits, slots):
        open_to = admits[:, level.level_of[k]]
        waiting, migrants = int(problem.waiting[k]), int(migrating[k])
        # Those who wait first take slots that migrants cannot have: the limit of arrivals is theirs alone.
        for who in ("placed apart", "placed", "arrived"):
            limit = slots - hosts if who == "placed apart" else slots if who == "placed" else hosts
            most = np.minimum(np.where(open_to, limit, 0), np.maximum(free_mib, 0) // problem.state_mib[k])
            order = np.lexsort((-free_mib, reach))
            before = np.cumsum(most[order]) - most[order]
            enters = np.zeros_like(slots)
            migrate = who == "arrived"
            enters[order] = np.clip((migrants if migrate else waiting) - before, 0, most[order])
            if migrate:
                migrants -= int(enters.sum())
            else:
                waiting -= int(enters.sum())
            (arrived if migrate else placed)[:, k] += enters
            slots = slots - enters
            free_mib = free_mib - enters * problem.state_mib[k]
            hosts = np.minimum(hosts - enters if migrate else hosts, slots)
        if waiting or migrants:
            return None
    return _without_detours(out, arrived, placed)


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
