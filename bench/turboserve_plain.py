"""The reference's placement heuristic, written plainly: every candidate is evaluated anew, session by session.

Decides what the incremental writing in scheduler/policies must agree with, and what a plain one costs; must never know
how the other one is written. What the descriptions leave open is decided as it is there.
"""

from __future__ import annotations

import numpy as np

from scheduler.policies.turboserve_placement import (
    GAIN_MIN_US,
    REBALANCING_STEPS,
    Load,
    classes_in_turn,
    migration_price_us,
)
from solvers.placement.problem import NEVER_US, Problem
from solvers.placement.solution import Placement


def place_plainly(problem: Problem, *, steps_max: int = REBALANCING_STEPS, load: Load = "latency") -> Placement:
    """The same placement as `place_like_turboserve`."""
    places = _Places(problem, load)
    for gpu in np.flatnonzero(problem.leaving).tolist():
        for k in classes_in_turn(problem.running[gpu].tolist(), [0] * problem.classes):
            target = places.least_loaded(k, migrates=True)
            if places.may_leave(gpu, k) and target is not None:
                places.move(gpu, target, k)
    for k in classes_in_turn(problem.waiting.tolist(), problem.priority_rank.tolist()):
        target = places.least_loaded(k, migrates=False)
        if target is not None:
            places.placed[target][k] += 1
    for _ in range(steps_max):
        step = _best_step(places, problem)
        if step is None or step[0] <= GAIN_MIN_US:
            break
        places.move(*step[1])
    out, arrived, placed = (np.array(part, dtype=np.int64) for part in (places.out, places.arrived, places.placed))
    return Placement(out=out, arrived=arrived, placed=placed)


def _best_step(places: _Places, problem: Problem) -> tuple[float, tuple[int, int, int]] | None:
    """Gain and (source, target, class) of the best move away from the worst GPU."""
    price_us = migration_price_us(problem)
    latencies_us = [places.latency_us(gpu) for gpu in range(problem.gpus)]
    worst_us = max(latencies_us)
    source = latencies_us.index(worst_us)
    best: tuple[float, tuple[int, int, int]] | None = None
    best_entered_us = NEVER_US
    for k in range(problem.classes):
        for _ in range(places.count(source, k)):
            placed_now = places.placed[source][k] > 0
            if not placed_now and not places.may_leave(source, k):
                continue
            for target in range(problem.gpus):
                if target == source or not places.may_enter(target, k, migrates=not placed_now):
                    continue
                entered_us = places.latency_us(target, k, 1)
                if entered_us >= NEVER_US:
                    continue
                changed_us = list(latencies_us)
                changed_us[source], changed_us[target] = places.latency_us(source, k, -1), entered_us
                gain_us = worst_us - max(changed_us) - price_us[k]
                same_class = best is not None and best[1][2] == k
                if (
                    best is None
                    or gain_us > best[0]
                    or (same_class and gain_us == best[0] and entered_us < best_entered_us)
                ):
                    best, best_entered_us = (gain_us, (source, target, k)), entered_us
    return best


class _Places:
    """A placement under construction, with nothing kept up to date."""

    def __init__(self, problem: Problem, load: Load) -> None:
        self.problem, self._by_sessions = problem, load == "sessions"
        self.out, self.arrived, self.placed = ([[0] * problem.classes for _ in range(problem.gpus)] for _ in range(3))
        tables = problem.tables
        self._alone, self._base, self._common = (
            tables.alone_us.tolist(),
            tables.base_us.tolist(),
            tables.common_us.tolist(),
        )
        self._running, self._type = problem.running.tolist(), problem.gpu_type.tolist()
        self._state_mib, self._memory_mib = problem.state_mib.tolist(), problem.memory_mib.tolist()
        self._receives = problem.receives.tolist()
        self._out_max, self._in_max = problem.out_max.tolist(), problem.in_max.tolist()

    def count(self, gpu: int, k: int) -> int:
        return int(self._running[gpu][k] - self.out[gpu][k] + self.arrived[gpu][k] + self.placed[gpu][k])

    def latency_us(self, gpu: int, changed: int = 0, change: int = 0) -> int:
        """f of a GPU after `change` sessions of class `changed` more."""
        gpu_type = self._type[gpu]
        alone, common = self._alone[gpu_type], self._common[gpu_type]
        alone_us = base_us = total = 0
        for k in range(self.problem.classes):
            held = self.count(gpu, k) + (change if k == changed else 0)
            if held:
                total += held
                alone_us += alone[k][min(held, len(alone[k]) - 1)]
                base_us = max(base_us, self._base[gpu_type][k])
        return int(min(alone_us + base_us + common[min(total, len(common) - 1)], NEVER_US)) if total else 0

    def may_leave(self, gpu: int, k: int) -> bool:
        moved = [sum(column) for column in zip(*self.out, strict=True)]
        moved_mib = sum(count * mib for count, mib in zip(moved, self._state_mib, strict=True))
        within = sum(moved) < self.problem.moves_max and moved_mib + self._state_mib[k] <= self.problem.moved_mib_max
        return self.arrived[gpu][k] > 0 or (within and sum(self.out[gpu]) < self._out_max[gpu])

    def may_enter(self, gpu: int, k: int, *, migrates: bool) -> bool:
        if not self._receives[gpu] or (migrates and self.out[gpu][k]):
            return bool(self._receives[gpu])
        held_mib = self._state_mib[k]
        for other, state_mib in enumerate(self._state_mib):
            both_sides = self._running[gpu][other] + self.arrived[gpu][other] + self.placed[gpu][other]
            held_mib += state_mib * both_sides
        return bool(
            held_mib <= self._memory_mib[gpu] and not (migrates and sum(self.arrived[gpu]) >= self._in_max[gpu])
        )

    def least_loaded(self, k: int, *, migrates: bool) -> int | None:
        able = [
            (self._load(gpu), gpu)
            for gpu in range(self.problem.gpus)
            if self.may_enter(gpu, k, migrates=migrates) and self.latency_us(gpu, k, 1) < NEVER_US
        ]
        return min(able)[1] if able else None

    def move(self, source: int, target: int, k: int) -> None:
        if self.placed[source][k]:
            self.placed[source][k] -= 1
            self.placed[target][k] += 1
            return
        for part, other, gpu in ((self.arrived, self.out, source), (self.out, self.arrived, target)):
            if part[gpu][k]:
                part[gpu][k] -= 1
            else:
                other[gpu][k] += 1

    def _load(self, gpu: int) -> tuple[int, int]:
        latency_us, sessions = self.latency_us(gpu), sum(self.count(gpu, k) for k in range(self.problem.classes))
        return (sessions, latency_us) if self._by_sessions else (latency_us, sessions)
