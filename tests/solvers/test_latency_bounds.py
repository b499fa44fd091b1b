"""Bounds on the latency of a fixed fleet, against everything there is to try."""

from __future__ import annotations

import numpy as np
import pytest

from solvers.demand import demand_of
from solvers.latency_bounds import (
    fullest,
    lattice_of,
    mean_bound,
    raised_by_packing,
    unserved_bound_us,
    worst_bound,
)
from solvers.offline_problem import OfflineProblem
from tests.solvers.latency_cases import a_problem, best_at_one_instant, contents_of, grouped, random_tables


def at_once(seed: int) -> OfflineProblem:
    """Up to six sessions of two classes that are all active during [0, 10)."""
    rng = np.random.default_rng(seed)
    types = [grouped(random_tables(rng, 2)) for _ in range(int(rng.integers(1, 3)))]
    sessions = int(rng.integers(1, 7))
    return a_problem(types, [2] * len(types), [(0, 10, int(k)) for k in rng.integers(0, 2, sessions)])


@pytest.mark.parametrize("seed", range(30))
def test_bounds_never_exceed_the_best_placement(seed: int) -> None:
    problem = at_once(seed)
    best = best_at_one_instant(problem)
    assert best is not None
    tables, demand = contents_of(problem), demand_of(problem, complete=True)
    bound = worst_bound(problem, tables, demand)
    assert 0 < bound.latency_ms <= best[0]
    assert 0 < mean_bound(problem, tables, demand, best[0]) <= best[1] / problem.periods + 1e-6
    raised = raised_by_packing(problem, tables, demand, bound, 1e9, limit_s=10.0)
    assert bound.latency_ms <= raised.latency_ms == pytest.approx(best[0])


def test_one_class_is_bounded_exactly() -> None:
    problem = a_problem([grouped([[100, 180, 250]])], [3], [(0, 10, 0)] * 7)
    bound = worst_bound(problem, contents_of(problem), demand_of(problem, complete=True))
    assert bound.latency_ms == 250


def test_a_packing_without_fractions_raises_the_bound() -> None:
    problem = a_problem([grouped([[100, 110, 120], [100, 110]])], [1], [(0, 10, 0), (0, 10, 1)])
    tables, demand = contents_of(problem), demand_of(problem, complete=True)
    bound = worst_bound(problem, tables, demand)
    assert bound.latency_ms == 110
    assert raised_by_packing(problem, tables, demand, bound, 200.0, limit_s=10.0).latency_ms == 200


def test_the_proof_excludes_the_next_lower_latency() -> None:
    problem = a_problem([grouped([[100, 180, 250], [120, 230]])], [2], [(0, 10, 0)] * 3 + [(0, 10, 1)] * 2)
    tables, demand = contents_of(problem), demand_of(problem, complete=True)
    bound = worst_bound(problem, tables, demand)
    assert bound.proof is not None
    lower = lattice_of(tables)[lattice_of(tables) < bound.latency_ms].max()
    holds = tables[0].counts[tables[0].latency_ms <= lower] @ np.array(bound.proof)
    assert 2 * holds.max() < (demand.counts @ np.array(bound.proof)).max()


def test_unserved_time_lowers_the_bound_of_the_worst_latency() -> None:
    problem = a_problem([grouped([[100, 180, 250]])], [1], [(0, 10, 0), (0, 10, 0), (0, 5, 0)])
    tables, demand = contents_of(problem), demand_of(problem, complete=True)
    for unserved_us, least in ((0.0, 250), (5.0, 180), (15.0, 100)):
        assert worst_bound(problem, tables, demand, unserved_us=unserved_us).latency_ms == least


def test_what_nobody_can_hold_is_unserved() -> None:
    problem = a_problem([grouped([[100, 180]])], [2], [(0, 10, 0)] * 5 + [(4, 6, 0)])
    tables, demand = contents_of(problem), demand_of(problem, complete=True)
    assert unserved_bound_us(problem, tables, demand) == pytest.approx(10 + 2, rel=1e-5)


def test_the_fullest_demands_cover_all_others() -> None:
    counts = np.random.default_rng(1).integers(0, 6, (200, 3)).astype(np.int32)
    front = fullest(counts)
    assert all((front >= row).all(axis=1).any() for row in counts)
    assert all(((front >= row).all(axis=1)).sum() == 1 for row in front)
