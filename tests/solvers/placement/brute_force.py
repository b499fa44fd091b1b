"""The best placements of tiny problems by trying every allowed one.

Decides the true optimum from the rules of check.py alone; must never know how the solvers under test reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from solvers.placement.check import evaluate, violations
from solvers.placement.problem import IntArray, Problem
from solvers.placement.solution import Bounds, Placement, Value

# Sessions of one class that leave, arrive and are placed, per GPU.
_OneClass = tuple[IntArray, IntArray, IntArray]


def optimum(problem: Problem) -> tuple[Placement, Value]:
    """A lexicographic optimum, without tolerances, and its value; smoothness counts last."""
    return min(every(problem), key=lambda pair: in_order(problem, pair[1]))


def tightest(problem: Problem) -> Bounds:
    """The largest true bound of every tier: the least value among placements that are best in the tiers before it.

    Without tolerances, so that no valid bound exceeds it. A tier that does not count has 0.
    """
    tiers, best = problem.tiers, optimum(problem)[1]
    return Bounds(
        repair=best.repair,
        serve=best.serve,
        meet=best.meet if tiers.meet else 0,
        leave=best.leave if tiers.leave else 0,
        balance=best.balance if tiers.balance else 0,
        move=best.move if tiers.move else 0,
        smooth=best.smooth if tiers.smooth else 0,
    )


def in_order(problem: Problem, value: Value) -> tuple[int, ...]:
    """What is compared, the most important first."""
    tiers = problem.tiers
    counted = (
        (tiers.meet, value.meet),
        (tiers.leave, value.leave),
        (tiers.balance, value.balance),
        (tiers.move, value.move),
        (tiers.smooth, value.smooth),
    )
    return (value.repair, *value.serve, *(part if counts else 0 for counts, part in counted))


def every(problem: Problem) -> Iterator[tuple[Placement, Value]]:
    """Every allowed placement and its value; the unchanged one is always among them."""
    for classes in itertools.product(*(list(_of_one_class(problem, k)) for k in range(problem.classes))):
        placement = Placement(
            out=np.stack([out for out, _, _ in classes], axis=1),
            arrived=np.stack([arrived for _, arrived, _ in classes], axis=1),
            placed=np.stack([placed for _, _, placed in classes], axis=1),
        )
        if placement.moves <= problem.moves_max and not violations(problem, placement):
            yield placement, evaluate(problem, placement)


def _of_one_class(problem: Problem, k: int) -> Iterator[_OneClass]:
    everyone = [range(int(n) + 1) for n in problem.running[:, k]]
    for leave in itertools.product(*everyone):
        if sum(leave) > problem.moves_max or any(np.array(leave) > problem.out_max):
            continue
        may_take = [g for g in range(problem.gpus) if problem.receives[g]]
        for arrived in _spread(sum(leave), [g for g in may_take if not leave[g]], problem.gpus):
            for count in range(int(problem.waiting[k]) + 1):
                for placed in _spread(count, may_take, problem.gpus):
                    yield np.array(leave, dtype=np.int64), arrived, placed


def _spread(count: int, over: list[int], gpus: int) -> Iterator[IntArray]:
    """All ways to share `count` equal sessions among some GPUs."""
    for chosen in itertools.combinations_with_replacement(over, count):
        shared = np.zeros(gpus, dtype=np.int64)
        np.add.at(shared, list(chosen), 1)
        yield shared
