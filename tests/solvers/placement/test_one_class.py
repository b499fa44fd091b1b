from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvers.placement.check import evaluate, violations
from solvers.placement.meter import Meter
from solvers.placement.one_class import solve
from solvers.placement.problem import Problem
from solvers.placement.registry import Found
from solvers.placement.solution import Bounds, Placement
from tests.solvers.placement.exhaustive import best_tiers
from tests.solvers.placement.random_problems import drifted_fleet, first_fit, tiny_problem

SEEDS = range(120)


def _answer(problem: Problem, hint: Placement | None = None) -> Found:
    return solve(problem, Meter(work=10_000), seed=0, hint=hint, bounds=Bounds())


@pytest.mark.parametrize("batching", ["turboserve", "grouped"])
def test_the_answer_is_the_best_of_all_and_says_so(batching: str) -> None:
    answered = 0
    for seed in SEEDS:
        problem = tiny_problem(seed, classes=1, batching="turboserve" if batching == "turboserve" else "grouped")
        found = _answer(problem)
        best = best_tiers(problem)
        if found.placement is None:
            assert "late" in found.end_reason or "repair" in found.end_reason
            assert best[0] > 0 or best[2] > 0 or "repair" in found.end_reason
            continue
        answered += 1
        assert violations(problem, found.placement) == []
        value = evaluate(problem, found.placement)
        leave = value.leave if problem.tiers.leave else 0
        assert (value.repair, *value.serve, value.meet, leave, value.balance, value.move) == best, seed
        assert (found.bounds.balance, found.bounds.leave, found.bounds.move) == (best[4], best[3], best[5])
        assert found.bounds.serve == value.serve
    assert answered > len(SEEDS) // 2


def test_two_classes_are_not_its_business() -> None:
    found = _answer(tiny_problem(0, classes=2))
    assert found.placement is None
    assert "2 classes" in found.end_reason


def test_latencies_within_the_tolerance_are_traded_for_migrations() -> None:
    problem = drifted_fleet(0, gpus=64, classes=1)
    strict = replace(problem, tiers=replace(problem.tiers, balance_tolerance=0.0))
    lax = replace(problem, tiers=replace(problem.tiers, balance_tolerance=0.5))
    least, fewest = _answer(strict), _answer(lax)
    assert least.placement is not None
    assert fewest.placement is not None
    assert least.bounds.balance == fewest.bounds.balance == evaluate(problem, least.placement).balance
    assert fewest.placement.moves < least.placement.moves


def test_a_leaving_gpu_is_emptied_before_others_are_relieved() -> None:
    problem = drifted_fleet(1, gpus=16, classes=1)
    leaving = np.arange(16) == 3
    problem = replace(problem, leaving=leaving, receives=~leaving, out_max=np.full(16, 20), moves_max=2)
    found = _answer(problem)
    assert found.placement is not None
    assert int(found.placement.out[3, 0]) == found.placement.moves == 2


def test_the_answer_is_never_worse_than_the_hint() -> None:
    for seed in range(10):
        problem = drifted_fleet(seed, gpus=64, classes=1, types=3)
        hint = first_fit(problem)
        found = _answer(problem, hint)
        assert found.placement is not None
        assert evaluate(problem, found.placement).balance <= evaluate(problem, hint).balance


def test_whoever_waits_goes_where_squared_latencies_grow_least() -> None:
    problem = drifted_fleet(2, gpus=32, classes=1)
    problem = replace(problem, moves_max=0, tiers=replace(problem.tiers, balance=False))
    found = _answer(problem)
    assert found.placement is not None
    after = found.placement.after(problem)[:, 0]
    last_filled = after[found.placement.placed[:, 0] > 0].max()
    assert last_filled <= problem.running[:, 0].min() + int(problem.waiting[0])
    assert evaluate(problem, found.placement).smooth <= evaluate(problem, first_fit(problem)).smooth
