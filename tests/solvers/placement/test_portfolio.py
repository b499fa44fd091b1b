"""The whole cascade: always an allowed placement, never a bound beyond the optimum, within its deadline, repeatable."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.placement import cpsat
from solvers.placement.check import violations
from solvers.placement.meter import Meter
from solvers.placement.portfolio import solve
from solvers.placement.problem import Problem
from solvers.placement.solution import Answer
from tests.solvers.placement.brute_force import in_order, optimum, tightest
from tests.solvers.placement.builders import a_placement_problem, grouped
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


def test_cpsat_is_not_begun_where_its_library_cannot_be_loaded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = a_placement_problem("AAAB | AB | ABB | B", moves_max=2, out_max=2, in_max=2)
    cpsat.load()
    ends = {stage.solver: stage.end_reason for stage in solve(problem, _half_a_second(), gap=-1.0).stages}
    assert "library" not in ends["cpsat"]
    monkeypatch.delitem(sys.modules, "ortools.sat.python.cp_model")
    ends = {stage.solver: stage.end_reason for stage in solve(problem, _half_a_second(), gap=-1.0).stages}
    assert ends["cpsat"] == "too little time to load the library"


def test_one_class_goes_to_its_closed_form_at_once() -> None:
    tables = grouped([[10, 20, 30, 40, 50]])
    problem = a_placement_problem("AAAAA | A | AA | ", tables=tables, moves_max=4, out_max=2, in_max=2)
    answer = solve(problem, Meter(work=WORK), gap=0.0)
    assert [stage.solver for stage in answer.stages] == ["place", "certificate and greedy", "one-class", "polish"]
    assert answer.end_reason == "wanted gap reached"


def test_what_is_kept_of_a_meter_does_not_count_as_left() -> None:
    meter = Meter(work=1000)
    meter.keep(0.25)
    assert meter.left_s() == 0.75
    meter.spend(800)
    assert meter.over()
    meter.keep(0.0)
    assert not meter.over()


def _half_a_second() -> Meter:
    return Meter(clock=lambda: 0.0, seconds=0.5)


def _crowded(gpus: int) -> Problem:
    """Many sessions of two classes, badly spread."""
    random = np.random.default_rng(0)
    problem = a_placement_problem(" | ".join([""] * gpus), waiting="AAAABBB", moves_max=gpus // 4, out_max=2, in_max=2)
    return replace(problem, running=random.poisson(2.0, (gpus, 2)).astype(np.int64))
