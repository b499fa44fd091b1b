"""The whole cascade: always an allowed placement, never a bound beyond the optimum, within its deadline, repeatable."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.placement.check import violations
from solvers.placement.meter import Meter
from solvers.placement.portfolio import solve
from solvers.placement.problem import Problem
from solvers.placement.solution import Answer
from tests.solvers.placement.brute_force import in_order, optimum, tightest
from tests.solvers.placement.builders import a_placement_problem
from tests.solvers.placement.strategies import placement_problems

WORK = 2000


def answered(problem: Problem, seed: int = 0) -> Answer:
    return solve(problem, Meter(work=WORK), seed=seed)


@settings(max_examples=150)
@given(placement_problems())
def test_an_answer_is_allowed_and_no_bound_exceeds_the_optimum(problem: Problem) -> None:
    answer = answered(problem)
    assert not violations(problem, answer.placement)
    true = tightest(problem)
    bounds = answer.bounds
    assert bounds.repair <= true.repair
    assert (bounds.serve or (0,) * problem.ranks) <= true.serve
    assert bounds.meet <= true.meet or not problem.tiers.meet
    assert bounds.leave <= true.leave or not problem.tiers.leave
    assert bounds.balance <= true.balance or not problem.tiers.balance


@settings(max_examples=100)
@given(placement_problems())
def test_no_answer_is_better_than_possible(problem: Problem) -> None:
    value = answered(problem).value
    assert in_order(problem, value) >= in_order(problem, optimum(problem)[1])


@settings(max_examples=40)
@given(placement_problems(), st.integers(0, 3))
def test_equal_work_and_seed_give_an_equal_answer(problem: Problem, seed: int) -> None:
    first, second = answered(problem, seed), answered(problem, seed)
    assert (first.placement.after(problem) == second.placement.after(problem)).all()
    assert (first.value, first.bounds, first.end_reason) == (second.value, second.bounds, second.end_reason)


@settings(max_examples=60)
@given(placement_problems())
def test_the_first_stage_serves_whom_it_can_without_a_migration(problem: Problem) -> None:
    first = answered(problem).stages[0]
    assert first.solver == "place"
    assert first.value is not None
    assert first.value.move == 0


@settings(max_examples=30)
@given(placement_problems())
def test_without_a_budget_nobody_migrates(problem: Problem) -> None:
    assert answered(replace(problem, moves_max=0)).placement.moves == 0


def test_nobody_anywhere_is_an_answer_too() -> None:
    answer = answered(a_placement_problem(" | "))
    assert answer.value.balance == 0
    assert answer.placement.moves == 0


def test_the_clock_ends_the_search() -> None:
    problem = _crowded(64)
    solve(problem, Meter(clock=time.monotonic, seconds=1.0), gap=0.0)  # compiles on first use
    for seconds in (0.05, 0.2):
        begun_s = time.monotonic()
        solve(problem, Meter(clock=time.monotonic, seconds=seconds), gap=0.0)
        assert time.monotonic() - begun_s <= seconds + 0.3


def _crowded(gpus: int) -> Problem:
    """Many sessions of two classes, badly spread."""
    random = np.random.default_rng(0)
    problem = a_placement_problem(" | ".join([""] * gpus), waiting="AAAABBB", moves_max=gpus // 4, out_max=2, in_max=2)
    return replace(problem, running=random.poisson(2.0, (gpus, 2)).astype(np.int64))
