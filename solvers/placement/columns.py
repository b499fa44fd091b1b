"""Column generation: the least level that patterns of whole GPUs can keep to, and a placement just above it.

Decides bounds and placements of the tier `balance` for every batching model; must never know what a pattern is made of.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from solvers.placement.check import evaluate, violations
from solvers.placement.meter import Meter
from solvers.placement.pattern_program import Pattern, PatternProgram
from solvers.placement.problem import NEVER_US, IntArray, Problem
from solvers.placement.registry import Found
from solvers.placement.solution import Bounds, Placement, better

GAP = 0.001  # relative distance of placements to the bound that is aimed at
GROWTH = 2.5  # of the distance to the bound from one level to the next while levels are impossible
WHOLE_NODES_MAX = 200  # of branch and bound, where runs must repeat
WHOLE_SHARE = 0.5  # of what is left on the meter, for whole numbers of patterns


def solve_columns(
    problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds
) -> Found:
    """A placement within `GAP` of the least possible level, and that level's proof, as far as the meter goes."""
    del seed  # nothing is left to chance
    if hint is None or violations(problem, hint):
        hint = Placement.unchanged(problem)
    value = evaluate(problem, hint)
    if value.repair or value.meet or problem.leaving.any():
        return Found(placement=None, bounds=Bounds(), end_reason="does not apply: balance is not what is open")
    if value.balance >= NEVER_US or not problem.running.size:
        return Found(placement=None, bounds=Bounds(), end_reason="does not apply: a batch may not run")
    return _Descent(problem, meter, hint, bounds).run()


class _Descent:
    """One problem between a bound and a placement, closing in from both sides."""

    def __init__(self, problem: Problem, meter: Meter, hint: Placement, bounds: Bounds) -> None:
        self._problem, self._meter = problem, meter
        self._program = PatternProgram(problem, hint.placed.sum(axis=0))
        self._best, self._value = hint, evaluate(problem, hint)
        self._improved = False
        self._bound = max(1, bounds.balance)  # nobody keeps below it, as far as this program can tell

    def run(self) -> Found:
        end_reason = self._close_in()
        proven = self._program.proves
        bounds = Bounds(balance=self._bound, proofs={"balance": "prices of patterns"}) if proven else Bounds()
        return Found(placement=self._best if self._improved else None, bounds=bounds, end_reason=end_reason)

    def _close_in(self) -> str:
        """Levels rise from the bound until one is possible; then the interval is halved."""
        reach = GAP
        possible = self._value.balance
        while True:
            level = min(int(self._bound * (1 + reach)), possible - 1)
            if possible <= self._bound * (1 + GAP) or level < self._bound:
                return "wanted gap reached"
            outcome, master = self._program.test(level, self._meter)
            if outcome == "undecided":
                return "deadline" if self._meter.over() else "undecided level"
            if outcome == "impossible":
                if reach > GAP and possible < self._value.balance:
                    reach = max(GAP, (possible / (level + 1) - 1) / 2)
                else:
                    reach *= GROWTH
                self._bound = max(self._bound, level + 1)
                continue
            assert master is not None
            nodes_max = WHOLE_NODES_MAX if self._meter.repeats else None
            whole = master.whole(WHOLE_SHARE * self._meter.left_s(), nodes_max)
            self._meter.spend(10.0)
            possible = level
            if whole is not None:
                self._offer(whole)
            if self._meter.over():
                return "deadline"
            if whole is None:
                # Fractions keep to this level and whole patterns do not: a little more room.
                return self._above(level)
            reach = max(GAP, (level / self._bound - 1) / 2)

    def _above(self, level: int) -> str:
        """Levels above one that only fractions keep to, until whole patterns do or the placement at hand is better."""
        step = GAP
        while int(level * (1 + step)) < self._value.balance:
            outcome, master = self._program.test(int(level * (1 + step)), self._meter)
            if outcome != "possible" or master is None or self._meter.over():
                return "deadline"
            whole = master.whole(WHOLE_SHARE * self._meter.left_s(), WHOLE_NODES_MAX if self._meter.repeats else None)
            if whole is not None:
                self._offer(whole)
                return "only fractions of patterns are better"
            step *= GROWTH
        return "only fractions of patterns are better"

    def _offer(self, whole: Mapping[Pattern, int]) -> None:
        placement = construct(self._problem, self._program, whole)
        if placement is None or violations(self._problem, placement):
            return
        value = evaluate(self._problem, placement)
        if better(self._problem, value, self._value):
            self._best, self._value, self._improved = placement, value, True


def construct(problem: Problem, program: PatternProgram, whole: Mapping[Pattern, int]) -> Placement | None:
    """Patterns are dealt out to the GPUs of their groups; then it is decided who enters by migration.

    Room that nobody needs stays free. None where more would migrate into a GPU than may.
    """
    out, entering = np.zeros_like(problem.running), np.zeros_like(problem.running)
    members = [np.flatnonzero(program.group_of == group).tolist() for group in range(len(program.gpu_of_group))]
    for pattern, count in whole.items():
        for _ in range(count):
            gpu = members[pattern.group].pop()
            out[gpu], entering[gpu] = pattern.out, pattern.entering
    both = np.minimum(out, entering)
    out, entering = out - both, entering - both
    placed = np.zeros_like(entering)
    for k in range(problem.classes):
        surplus = int(entering[:, k].sum() - out[:, k].sum() - program.entering[k])
        _free(problem, entering, k, surplus)
    to_place: IntArray = entering.sum(axis=0) - out.sum(axis=0)
    excess = entering.sum(axis=1) - problem.in_max
    for gpu in np.argsort(-excess):  # where too many would migrate, waiting sessions come first
        for k in np.argsort(-to_place):
            wanted = entering[gpu, k] if excess[gpu] <= 0 else min(entering[gpu, k], excess[gpu])
            count = int(min(wanted, to_place[k]))
            placed[gpu, k] += count
            to_place[k] -= count
            excess[gpu] -= count
    arrived = entering - placed
    if (arrived.sum(axis=1) > problem.in_max).any():
        return None
    return Placement(out=out, arrived=arrived, placed=placed)


def _free(problem: Problem, entering: IntArray, k: int, surplus: int) -> None:
    """Take back room for class k that nobody needs, where GPUs are fullest."""
    while surplus > 0:
        gpus = np.flatnonzero(entering[:, k] > 0)
        crowded = (entering[gpus].sum(axis=1) - problem.in_max[gpus]).argmax()
        entering[gpus[crowded], k] -= 1
        surplus -= 1
