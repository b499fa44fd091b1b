"""CP-SAT against an oracle that tries everything.

Decides whether the exact stage is exact; must never know how its model is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solvers.contents import RoundCosts, TypeLimits
from solvers.offline_exact import ExactResult, exact_size, solve_exact
from solvers.offline_objective import evaluate, violations
from solvers.offline_problem import NEVER_ON, MoveBudget, OfflineProblem
from tests.solvers.brute_force import cost_optimum, latency_optimum, naive_value
from tests.solvers.builders import a_problem
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


@pytest.mark.parametrize(("memory_gib", "unserved_us"), [(2.0, 0), (1.0, 1)])
def test_a_session_waits_a_microsecond_where_the_memory_is_still_taken(memory_gib: float, unserved_us: int) -> None:
    """At 10 us one session leaves GPU 0 for GPU 1, just usable, and one begins that can run on GPU 0 alone."""
    tables = [((100.0,), (100.0,)), ((100.0,), ())]
    changes: dict[str, Any] = {
        "types": tuple(
            TypeLimits(
                costs=RoundCosts(batching="grouped", tables_ms=table), memory_gib=memory_gib, state_gib=(1.0, 1.0)
            )
            for table in tables
        ),
        "target_ms": (100.0, 100.0),
        "state_gib": (1.0, 1.0),
        "class_index": np.array([0, 1], dtype=np.int32),
        "home": np.array([0, -1], dtype=np.int32),
        "price_per_hour": (3.6e9, 3.6e9),
        "startup_us": (0, 15),
        "gpu_type": np.array([0, 1], dtype=np.int32),
        "gpu_always_on": np.array([True, True]),
        "gpu_on_us": np.array([NEVER_ON, -5]),
        "transfer_same_s": (0.5e-6, 0.5e-6),
        "transfer_cross_s": (1e-6, 1e-6),
    }
    problem = a_problem([(0, 30), (10, 30)], **changes)
    for minimize in ("cost", "latency"):
        solution = solved(problem, minimize).solution
        assert solution is not None
        assert violations(problem, solution) == []
        value = evaluate(problem, solution)
        assert (value.unserved_us, value.late_us, value.migrations) == ((unserved_us,), 0, 1)


@SLOW
@given(tiny_problems())
def test_a_search_that_begins_at_an_optimum_ends_at_one(problem: OfflineProblem) -> None:
    solution = solved(problem, "cost").solution
    assert solution is not None
    again = solve_exact(problem, minimize="cost", time_limit_s=60, seed=1, hint=solution)
    assert again.status == "optimal"
    assert again.solution is not None
    found, known = evaluate(problem, again.solution), evaluate(problem, solution)
    assert (found.unserved_us, found.late_us) == (known.unserved_us, known.late_us)
    assert found.dollars == pytest.approx(known.dollars, abs=1e-6)


@pytest.mark.parametrize(
    "budget",
    [
        MoveBudget(moves=1),
        MoveBudget(out_per_gpu=1),
        MoveBudget(in_per_gpu=1),
        MoveBudget(gib=1.5),
        MoveBudget(moves=0),
    ],
)
def test_budgets_keep_sessions_on_a_dear_gpu_for_longer(budget: MoveBudget) -> None:
    """Two sessions are on GPU 0 at first; GPU 1 is usable from 10 us and much cheaper."""
    changes: dict[str, Any] = {
        "home": np.array([0, 0], dtype=np.int32),
        "price_per_hour": (5 * 3.6e9, 3.6e9),
        "startup_us": (0, 15),
        "gpu_type": np.array([0, 1], dtype=np.int32),
        "gpu_on_us": np.array([-10, -5]),
    }
    base = a_problem([(0, 40)] * 2)
    free = replace(base, types=base.types * 2, **changes)
    limited = replace(free, budget=budget)
    dollars = []
    for problem in (free, limited):
        solution = solved(problem, "cost").solution
        assert solution is not None
        assert violations(problem, solution) == []
        value = evaluate(problem, solution)
        *unserved, late, least = cost_optimum(problem)
        assert (value.unserved_us, value.late_us) == (tuple(unserved), late)
        assert value.dollars == pytest.approx(least)
        dollars.append(value.dollars)
    assert dollars[0] < dollars[1]
