"""Column generation: the least level that patterns of whole GPUs can keep to, and a placement just above it.

Decides bounds and placements of the tier `balance` for every batching model; must never know what a pattern is made of.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from solvers.placement.check import evaluate, violations
from solvers.placement.fitting import Attempt, Fitter
from solvers.placement.meter import Meter
from solvers.placement.pattern_master import Master, Pattern
from solvers.placement.pattern_program import PatternProgram
from solvers.placement.problem import NEVER_US, IntArray, Problem
from solvers.placement.registry import Found
from solvers.placement.solution import Bounds, Placement, better

GAP = 0.001  # relative distance of placements to the bound that is aimed at
GROWTH = 2.5  # of the distance to the bound from one level to the next while levels are impossible
ROOM = 0.95  # of the gap: where the first level is tested
NOISES = (0.0, 0.15, 0.4)
ROUNDS = 3  # of closing in, the first without branch and bound
WHOLE_SHARE = 0.4  # of what is left on the meter, for whole numbers of patterns


def solve_columns(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
    """A placement within `GAP` of the least possible level, and that level's proof, as far as the meter goes."""
    if hint is None or violations(problem, hint):
        hint = Placement.unchanged(problem)
    value = evaluate(problem, hint)
    if value.repair or value.meet or problem.leaving.any():
        return Found(placement=None, bounds=Bounds(), end_reason="does not apply: balance is not what is open")
    if value.balance >= NEVER_US or not problem.running.size:
        return Found(placement=None, bounds=Bounds(), end_reason="does not apply: a batch may not run")
    return _Descent(problem, meter, hint, bounds, np.random.default_rng(seed)).run()


class _Descent:
    """One problem between a bound and a placement, closing in from both sides."""

    def __init__(
        self, problem: Problem, meter: Meter, hint: Placement, bounds: Bounds, random: np.random.Generator
    ) -> None:
        self._problem, self._meter, self._random = problem, meter, random
        self._program = PatternProgram(problem, hint.placed.sum(axis=0))
        self._hint_value = evaluate(problem, hint)
        self._best, self._value = hint, self._hint_value
        self._fitter = Fitter(problem)
        self._fitter.served = hint.placed.sum(axis=0)
        self._lattice = lattice_us(problem)
        self._bound = self._up(max(1, bounds.balance))  # nobody keeps below it, as far as this program can tell

    def run(self) -> Found:
        end_reason = self._close_in(branches=False)
        for _ in range(ROUNDS - 1):
            if self._within or self._meter.over():
                break
            end_reason = self._close_in(branches=True)
        proven = self._program.proves
        bounds = Bounds(balance=self._bound, proofs={"balance": "prices of patterns"}) if proven else Bounds()
        # A slightly lower level may take more migrations than it is worth.
        gains = better(self._problem, self._value, self._hint_value)
        return Found(placement=self._best if gains else None, bounds=bounds, end_reason=end_reason)

    @property
    def _within(self) -> bool:
        return self._value.balance <= self._bound * (1 + GAP)

    def _close_in(self, *, branches: bool) -> str:
        """Levels between what is proven impossible and what was reached are tested until they are close.

        At first just above the bound, where most problems end; then ever farther up until one is possible; then
        halfway. Where only fractions of patterns keep to a level, whole ones are looked for above it; once more, with
        branch and bound and more patterns, where they were not close enough.
        """
        floor, reach = self._bound, GAP * ROOM
        possible = branches
        while self._value.balance > floor * (1 + GAP):
            ceiling = self._value.balance - 1
            level = (floor + ceiling) // 2 if possible else min(int(floor * (1 + reach)), (floor + ceiling) // 2)
            level = self._down(level, floor)
            outcome, master = self._program.test(level, self._meter)
            if self._meter.over() or (outcome == "undecided" and self._program.slow(self._meter)):
                return "deadline"
            if master is None:
                floor = self._up(level + 1)
                self._bound = floor if outcome == "impossible" else self._bound
                reach *= GROWTH
                continue
            possible = True
            self._program.vary(master, level, self._meter, self._random)
            if not self._reach(level, master, branches=branches):
                floor = self._up(level + 1)
            if self._meter.over():
                return "deadline"
        return self._raise_bound(floor)

    def _up(self, level: int) -> int:
        """The least latency from `level` on that a GPU can have."""
        if not len(self._lattice):
            return level
        return int(self._lattice[min(int(np.searchsorted(self._lattice, level)), len(self._lattice) - 1)])

    def _down(self, level: int, floor: int) -> int:
        """The largest latency up to a level that a GPU can have; not below `floor`, which is one."""
        if not len(self._lattice):
            return level
        position = int(np.searchsorted(self._lattice, level, side="right")) - 1
        return max(floor, int(self._lattice[max(0, position)]))

    def _raise_bound(self, possible: int) -> str:
        """Where whole patterns were not found at levels that are possible, the bound may still come closer."""
        while self._bound * (1 + GAP) < min(possible, self._value.balance):
            level = (self._bound + possible) // 2
            outcome, _ = self._program.test(level, self._meter)
            if outcome == "undecided":
                return "deadline" if self._meter.over() else "a level stayed undecided"
            if outcome == "possible":
                possible = level
            else:
                self._bound = self._up(level + 1)
        return "wanted gap reached" if self._within else "only fractions of patterns are better"

    def _reach(self, level: int, master: Master, *, branches: bool) -> bool:
        """Whole patterns near the fractions that keep to a level; the few who are left over find room by search."""
        fewest = NEVER_US
        for whole in master.roundings(self._meter, WHOLE_SHARE, self._random, branches=branches):
            placement = construct(self._problem, self._program, whole)
            if self._offer(placement):
                return True
            left = int(
                (placement.out - placement.arrived).sum() + (self._program.placed - placement.placed.sum(axis=0)).sum()
            )
            if left >= fewest:
                continue
            fewest = left
            for attempt, noise in enumerate(NOISES):
                if self._meter.over():
                    return False
                fitted = self._fitter.complete(
                    placement,
                    Attempt(limit_us=level, on_time=False, ends=self._meter.over, noise=noise, seed=attempt),
                )
                self._meter.spend(fitted.work)
                if fitted.placement is not None and self._offer(fitted.placement):
                    return True
        return False

    def _offer(self, placement: Placement) -> bool:
        """Keep a placement if it is allowed and has a lower level."""
        if violations(self._problem, placement):
            return False
        value = evaluate(self._problem, placement)
        if value.balance >= self._value.balance or value.serve != self._value.serve or value.meet > self._value.meet:
            return False
        self._best, self._value = placement, value
        return True


def lattice_us(problem: Problem) -> IntArray:
    """All latencies that a GPU can have, for `turboserve`, where they are few; empty for the other models."""
    tables = problem.tables
    if tables.batching != "turboserve":
        return np.zeros(0, dtype=np.int64)
    sums = (tables.base_us[:, :, None] + tables.common_us[:, None, 1:])[np.unique(problem.gpu_type)]
    return np.unique(sums[sums < NEVER_US])


def construct(problem: Problem, program: PatternProgram, whole: Mapping[Pattern, int]) -> Placement:
    """Patterns are dealt out to the GPUs of their groups; room that nobody needs stays free."""
    parts = np.zeros((3, *problem.running.shape), dtype=np.int64)
    members = [np.flatnonzero(program.group_of == group).tolist() for group in range(len(program.gpu_of_group))]
    for pattern, count in whole.items():
        for _ in range(count):
            parts[:, members[pattern.group].pop()] = pattern.out, pattern.arrived, pattern.placed
    out, arrived, placed = parts
    both = np.minimum(out, arrived)
    out, arrived = out - both, arrived - both
    for k in range(problem.classes):
        _free(arrived[:, k], int(arrived[:, k].sum() - out[:, k].sum()))
        _free(placed[:, k], int(placed[:, k].sum() - program.placed[k]))
    return Placement(out=out, arrived=arrived, placed=placed)


def _free(entering: IntArray, surplus: int) -> None:
    """Take back room [gpus] that nobody needs."""
    for gpu in np.flatnonzero(entering):
        taken = min(int(entering[gpu]), max(0, surplus))
        entering[gpu] -= taken
        surplus -= taken
