"""Least latency on a fixed fleet: schedules that keep the rules, and bounds that hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvers.latency import LatencyResult, minimize_latency
from solvers.latency_improve import Improver
from solvers.offline_objective import evaluate, spans_for, violations
from solvers.offline_problem import MoveBudget, OfflineProblem, OfflineSolution
from solvers.sweep import Pieces
from tests.solvers.latency_cases import a_problem, a_random_problem, best_at_one_instant, contents_of, grouped


def solved(problem: OfflineProblem, seed: int = 0) -> LatencyResult:
    return minimize_latency(problem, contents_of(problem), deadline_s=1.0, clock=lambda: 0.0, seed=seed)


def as_solution(problem: OfflineProblem, pieces: Pieces) -> OfflineSolution:
    spans = spans_for(problem, pieces.gpu, pieces.start_us, pieces.end_us)
    return OfflineSolution(
        piece_period=pieces.period,
        piece_gpu=pieces.gpu,
        piece_start_us=pieces.start_us,
        piece_end_us=pieces.end_us,
        span_gpu=spans[0],
        span_on_us=spans[1],
        span_off_us=spans[2],
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_schedule_keeps_every_rule_and_no_bound_exceeds_it(seed: int) -> None:
    problem = a_random_problem(seed, memory_gib=100.0 if seed % 2 else 4.0)
    result = solved(problem)
    assert violations(problem, result.solution) == []
    assert result.objective == evaluate(problem, result.solution)
    assert 0 < result.bound_worst_ms <= result.objective.latency_ms_max
    assert 0 < result.bound_mean_ms <= result.objective.latency_ms_mean
    assert result.bound_unserved_us <= sum(result.objective.unserved_us)


@pytest.mark.parametrize("seed", range(8))
def test_one_instant_is_solved_to_the_best_worst_latency(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = a_problem([grouped([[100, 180, 250], [120, 230]])], [3], [(0, 10, int(k)) for k in rng.integers(0, 2, 6)])
    best = best_at_one_instant(problem)
    assert best is not None
    result = solved(problem)
    assert result.objective.latency_ms_max == pytest.approx(best[0])
    assert result.bound_worst_ms <= best[0]


def test_equal_problems_have_equal_schedules() -> None:
    problem = a_random_problem(3)
    first, second = solved(problem, seed=5), solved(problem, seed=5)
    assert first.objective == second.objective
    assert np.array_equal(first.solution.piece_gpu, second.solution.piece_gpu)
    assert np.array_equal(first.solution.piece_start_us, second.solution.piece_start_us)


def test_a_fleet_too_small_leaves_no_more_unserved_than_it_must() -> None:
    problem = a_problem([grouped([[100, 180]])], [2], [(0, 20, 0)] * 5)
    result = solved(problem)
    assert sum(result.objective.unserved_us) == 20
    assert result.bound_unserved_us == pytest.approx(20, rel=1e-5)
    assert violations(problem, result.solution) == []
    assert 0 < result.bound_worst_ms <= result.objective.latency_ms_max == 180


def test_sessions_of_lower_priority_are_the_ones_unserved() -> None:
    problem = a_problem([grouped([[100]])], [1], [(0, 20, 0), (0, 20, 0)], priority=[0, 1])
    result = solved(problem)
    assert result.objective.unserved_us == (0, 20)
    assert result.bound_worst_ms == 100


def test_a_trace_without_periods_has_no_latency() -> None:
    result = solved(a_problem([grouped([[100]])], [1], []))
    assert (result.objective.latency_ms_max, result.bound_worst_ms, result.gap) == (0.0, 0.0, 0.0)


def mixed(problem: OfflineProblem) -> tuple[Improver, list[np.ndarray]]:
    """Two GPUs with one session of each class on each, although like sessions belong together."""
    pieces = Pieces(
        period=np.arange(4, dtype=np.int32),
        gpu=np.array([0, 0, 1, 1], dtype=np.int32),
        start_us=problem.start_us,
        end_us=problem.end_us,
    )
    tables = contents_of(problem)
    return Improver(problem, tables, pieces), [table.counts.sum(axis=1) * table.latency_ms for table in tables]


def exchanged(problem: OfflineProblem) -> tuple[float, int, list[str]]:
    """Mean latency, migrations and violations after one pass of exchanges."""
    improver, potential = mixed(problem)
    before = improver.total(potential)
    change = improver.swap(potential, split=True, gain_min=1.0, stop=lambda: False)
    assert improver.total(potential) == pytest.approx(before + change)
    solution = as_solution(problem, improver.pieces())
    value = evaluate(problem, solution)
    assert value.latency_ms_mean * float((problem.end_us - problem.start_us).sum()) == pytest.approx(before + change)
    return value.latency_ms_mean, value.migrations, violations(problem, solution)


ALIKE = grouped([[100, 150], [100, 150]])


def test_like_sessions_are_brought_together_by_an_exchange() -> None:
    problem = a_problem([ALIKE], [2], [(0, 30, 0), (0, 30, 1), (0, 30, 0), (0, 30, 1)])
    assert exchanged(problem) == (150.0, 0, [])


def test_an_exchange_under_way_costs_two_migrations() -> None:
    problem = a_problem([ALIKE], [2], [(0, 30, 0), (0, 30, 1), (0, 30, 0), (0, 30, 1)])
    problem = replace(problem, home=np.array([0, 0, 1, 1], dtype=np.int32))
    assert exchanged(problem) == ((10 * 200 + 20 * 150) / 30, 2, [])


def test_no_exchange_exceeds_the_budget() -> None:
    problem = a_problem([ALIKE], [2], [(0, 30, 0), (0, 30, 1), (0, 30, 0), (0, 30, 1)], budget=MoveBudget(moves=1))
    problem = replace(problem, home=np.array([0, 0, 1, 1], dtype=np.int32))
    assert exchanged(problem) == (200.0, 0, [])


def test_no_exchange_exceeds_the_memory_during_moves() -> None:
    tight = grouped([[100, 150], [100, 150]], memory_gib=2.5)
    problem = a_problem([tight], [2], [(0, 30, 0), (0, 30, 1), (0, 30, 0), (0, 30, 1)])
    problem = replace(problem, home=np.array([0, 0, 1, 1], dtype=np.int32))
    assert exchanged(problem) == (200.0, 0, [])


@pytest.mark.parametrize("seed", range(10))
def test_passes_keep_the_rules_and_account_for_what_they_gain(seed: int) -> None:
    problem = a_random_problem(seed, memory_gib=100.0 if seed % 2 else 4.0)
    result = solved(problem)
    tables = contents_of(problem)
    rng = np.random.default_rng(seed)
    potential = [table.counts.sum(axis=1) * table.latency_ms * float(rng.integers(1, 3)) for table in tables]
    start = result.solution
    improver = Improver(
        problem,
        tables,
        Pieces(
            period=start.piece_period, gpu=start.piece_gpu, start_us=start.piece_start_us, end_us=start.piece_end_us
        ),
    )
    total = improver.total(potential)
    for _ in range(3):
        total += improver.run(potential, split=True, gain_min=1.0, stop=lambda: False)
        total += improver.swap(potential, split=True, gain_min=1.0, stop=lambda: False)
        assert improver.total(potential) == pytest.approx(total)
    solution = as_solution(problem, improver.pieces())
    assert violations(problem, solution) == []
    assert evaluate(problem, solution).unserved_us == result.objective.unserved_us
