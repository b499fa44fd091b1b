"""What every registered solver promises, whatever it does inside."""

from __future__ import annotations

import time
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.placement.check import evaluate, violations
from solvers.placement.meter import Meter
from solvers.placement.portfolio import solve as solve_portfolio
from solvers.placement.problem import Batching, Problem
from solvers.placement.registry import SOLVERS, Found
from solvers.placement.solution import Bounds, Placement, better
from tests.solvers.placement.brute_force import every, tightest
from tests.solvers.placement.fleets import a_fleet, placed_one_by_one
from tests.solvers.placement.strategies import BATCHING, placement_problems

EXAMPLES = 40
WORK = 3000

every_solver = pytest.mark.parametrize("name", SOLVERS)


def ask(
    name: str, problem: Problem, meter: Meter, *, hint: Placement | None = None, bounds: Bounds | None = None
) -> Found:
    return SOLVERS[name]()(problem, meter, seed=7, hint=hint, bounds=bounds or Bounds())


def equal(one: Placement | None, other: Placement | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(np.array_equal(getattr(one, part.name), getattr(other, part.name)) for part in fields(Placement))


def assert_true(problem: Problem, bounds: Bounds) -> None:
    """No bound of a tier that counts is beyond what brute force finds."""
    best = tightest(problem)
    assert (bounds.serve or (0,) * problem.ranks) <= best.serve
    for tier in ("repair", "meet", "leave", "balance", "move", "smooth"):
        if not getattr(problem.tiers, tier, True):
            continue
        assert getattr(bounds, tier) <= getattr(best, tier), (tier, bounds, best)


@every_solver
@settings(max_examples=EXAMPLES)
@given(problem=placement_problems(), data=st.data())
def test_answers_are_allowed_and_no_worse_than_the_hint_and_bounds_are_true(
    name: str, problem: Problem, data: st.DataObject
) -> None:
    known = data.draw(st.sampled_from([Bounds(), tightest(problem)]), label="bounds")
    placements = [placement for placement, _ in every(problem)]
    hint = placements[data.draw(st.integers(0, len(placements) - 1), label="hint")]
    found = ask(name, problem, Meter(clock=time.perf_counter, seconds=20.0), hint=hint, bounds=known)
    assert_true(problem, found.bounds)
    assert found.end_reason
    assert "refused" not in found.end_reason
    if found.placement is not None:
        assert not violations(problem, found.placement)
        assert not better(problem, evaluate(problem, hint), evaluate(problem, found.placement))


@every_solver
@settings(max_examples=EXAMPLES)
@given(problem=placement_problems())
def test_without_a_hint_answers_are_allowed_and_equal_work_gives_equal_answers(name: str, problem: Problem) -> None:
    first, second = (ask(name, problem, Meter(work=WORK)) for _ in range(2))
    assert_true(problem, first.bounds)
    assert first.placement is None or not violations(problem, first.placement)
    assert equal(first.placement, second.placement)
    assert (first.bounds, first.end_reason) == (second.bounds, second.end_reason)


@every_solver
@pytest.mark.parametrize("batching", BATCHING)
def test_equal_work_gives_equal_answers_for_a_fleet(name: str, batching: Batching) -> None:
    problem = a_fleet(12, 3, batching)
    hint = placed_one_by_one(problem)
    first, second = (ask(name, problem, Meter(work=200), hint=hint) for _ in range(2))
    assert equal(first.placement, second.placement)
    assert (first.bounds, first.end_reason) == (second.bounds, second.end_reason)


@every_solver
@pytest.mark.parametrize("batching", BATCHING)
def test_deadlines_are_kept(name: str, batching: Batching) -> None:
    problem, limit_s = a_fleet(64, 4, batching), 1.0  # a slow machine takes half of it for building alone
    hint = placed_one_by_one(problem)
    took_s = []
    for _ in range(3):  # others may use this machine
        started = time.perf_counter()
        found = ask(name, problem, Meter(clock=time.perf_counter, seconds=limit_s), hint=hint)
        took_s.append(time.perf_counter() - started)
        assert found.placement is None or not better(
            problem, evaluate(problem, hint), evaluate(problem, found.placement)
        )
        if took_s[-1] <= 1.1 * limit_s:
            return
    pytest.fail(f"took {took_s} of {limit_s} s")


@every_solver
def test_without_time_a_solver_says_why_it_did_nothing(name: str) -> None:
    problem = a_fleet(64, 4, "grouped")
    hint = placed_one_by_one(problem)
    found = ask(name, problem, Meter(clock=time.perf_counter, seconds=0.0), hint=hint)
    assert found.end_reason
    assert found.placement is None or not better(problem, evaluate(problem, hint), evaluate(problem, found.placement))


@settings(max_examples=EXAMPLES)
@given(problem=placement_problems())
def test_the_cascade_answers_with_an_allowed_placement_and_true_bounds(problem: Problem) -> None:
    answer = solve_portfolio(problem, Meter(work=WORK), seed=7)
    assert not violations(problem, answer.placement)
    assert answer.value == evaluate(problem, answer.placement)
    assert_true(problem, answer.bounds)
