"""CP-SAT against an oracle that tries everything.

Decides whether the exact stage is exact; must never know how its model is written.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solvers.offline_exact import ExactResult, exact_size, solve_exact
from solvers.offline_objective import evaluate, violations
from solvers.offline_problem import OfflineProblem
from tests.solvers.brute_force import cost_optimum, latency_optimum, naive_value
from tests.strategies import moving_problems, tiny_problems

SLOW = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def solved(problem: OfflineProblem, minimize: str) -> ExactResult:
    result = solve_exact(problem, minimize="cost" if minimize == "cost" else "latency", time_limit_s=60, seed=0)
    assert result.status == "optimal", result.end_reason
    assert result.solution is not None
    return result


@SLOW
@given(st.one_of(tiny_problems(), moving_problems()))
def test_the_cheapest_schedule_is_as_cheap_as_any(problem: OfflineProblem) -> None:
    solution = solved(problem, "cost").solution
    assert solution is not None
    assert violations(problem, solution) == []
    value = evaluate(problem, solution)
    *unserved, late, dollars = cost_optimum(problem)
    assert value.unserved_us == tuple(unserved)
    assert value.late_us == late
    assert value.dollars == pytest.approx(dollars, abs=1e-6)


@SLOW
@given(st.one_of(tiny_problems(), moving_problems()))
def test_the_fastest_schedule_is_as_fast_as_any(problem: OfflineProblem) -> None:
    solution = solved(problem, "latency").solution
    assert solution is not None
    assert violations(problem, solution) == []
    value, naive = evaluate(problem, solution), naive_value(problem, solution)
    *unserved, worst, session_ms, migrations = latency_optimum(problem)
    assert value.unserved_us == tuple(unserved)
    assert value.latency_ms_max == pytest.approx(worst, abs=1e-6)
    assert value.latency_ms_mean * naive.session_us == pytest.approx(session_ms, abs=1e-6)
    assert value.migrations == migrations


@SLOW
@given(st.one_of(tiny_problems(periods_max=5), moving_problems()))
def test_the_objective_agrees_with_a_naive_evaluation(problem: OfflineProblem) -> None:
    solution = solve_exact(problem, minimize="cost", time_limit_s=60, seed=0).solution
    assert solution is not None
    value, naive = evaluate(problem, solution), naive_value(problem, solution)
    assert value.unserved_us == naive.unserved
    assert value.late_us == naive.late_us
    assert value.gpu_dollars == pytest.approx(naive.gpu_dollars)
    assert value.move_dollars == pytest.approx(naive.move_dollars)
    assert value.migrations == naive.migrations
    assert value.latency_ms_max == naive.latency_max
    assert value.latency_ms_mean * naive.session_us == pytest.approx(naive.session_ms_us)


@settings(SLOW, max_examples=10)
@given(tiny_problems(periods_max=5))
def test_equal_problems_have_equal_answers(problem: OfflineProblem) -> None:
    first, second = (solve_exact(problem, minimize="cost", time_limit_s=60, seed=3) for _ in range(2))
    assert repr(first) == repr(second)
    assert first.solution is not None
    assert second.solution is not None
    assert first.solution.piece_gpu.tolist() == second.solution.piece_gpu.tolist()
    assert first.solution.span_on_us.tolist() == second.solution.span_on_us.tolist()


@settings(SLOW, max_examples=20)
@given(tiny_problems())
def test_size_grows_with_the_number_of_gpus_and_is_not_zero(problem: OfflineProblem) -> None:
    assert exact_size(problem) >= problem.gpus * problem.periods
