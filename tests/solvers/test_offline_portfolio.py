"""The cascade for the cheapest schedule: which stages run, and what it says of them."""

from __future__ import annotations

import time

import numpy as np

from solvers.offline_exact import exact_size
from solvers.offline_objective import violations
from solvers.offline_portfolio import EXACT_SIZE_ASKED_MAX, EXACT_SIZE_MAX, CostResult, Stage, minimize_cost
from solvers.offline_problem import OfflineProblem
from tests.solvers.builders import a_problem

SECOND_US = 1_000_000


def solved(problem: OfflineProblem, stage: Stage, deadline_s: float) -> CostResult:
    return minimize_cost(
        problem,
        stage=stage,
        milp="HiGHS",
        deadline_s=deadline_s,
        gap=0.0,
        seed=0,
        clock=time.monotonic,
        stop=lambda: False,
        report=lambda _: None,
    )


def many_periods(count: int) -> OfflineProblem:
    random = np.random.default_rng(0)
    start_us = np.sort(random.integers(0, 3600 * SECOND_US, count))
    length_us = random.integers(SECOND_US, 300 * SECOND_US, count)
    periods = list(zip(start_us.tolist(), (start_us + length_us).tolist(), strict=True))
    return a_problem(periods, gpus=count // 8, epoch_us=10 * SECOND_US, epochs=400, startup_us=(15 * SECOND_US,))


def test_an_exact_solver_that_is_asked_for_too_much_keeps_the_deadline_and_says_so() -> None:
    problem = many_periods(1200)
    assert exact_size(problem) > EXACT_SIZE_ASKED_MAX
    solved(many_periods(16), "sweep", 1.0)  # the kernels are compiled on first use
    begun_s = time.monotonic()
    result = solved(problem, "exact", 4.0)
    assert time.monotonic() - begun_s <= 4.0 * 1.5
    assert result.end_reason.endswith("too large for the exact stage")
    assert not violations(problem, result.solution)


def test_a_small_problem_is_solved_to_the_end_without_being_asked() -> None:
    problem = a_problem([(0, 20), (5, 45), (12, 30)])
    assert exact_size(problem) <= EXACT_SIZE_MAX
    result = solved(problem, "auto", 10.0)
    assert result.end_reason in ("proven by the exact stage", "wanted gap reached")
    assert result.bound_dollars <= result.objective.dollars


def test_a_large_problem_says_nothing_of_a_stage_that_nobody_asked_for() -> None:
    assert "exact" not in solved(many_periods(200), "auto", 2.0).end_reason
