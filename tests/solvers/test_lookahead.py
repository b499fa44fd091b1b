"""Counts over the epochs ahead against trying everything.

Decides what the look-ahead owes; must never know how it is solved.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from solvers.lookahead import look_ahead
from solvers.lookahead_problem import LookaheadProblem, price_of, usable_counts


def one_type(needs: list[int], **changes: Any) -> LookaheadProblem:
    """One type at 10 a step, usable a step after it started; two ready, five off, all may stop."""
    horizon = len(needs)
    problem = LookaheadProblem(
        price=np.array([10]),
        lead=np.array([1]),
        usable=np.array([2]),
        draining=np.array([0]),
        becoming=np.zeros((1, horizon), dtype=np.int64),
        off=np.array([5]),
        least=np.array([0]),
        may_shrink=np.ones((1, horizon), dtype=np.bool_),
        limits=np.array([[1.0]]),
        sides=np.array([needs], dtype=np.float64),
    )
    return replace(problem, **changes)


def a_random_problem(seed: int) -> LookaheadProblem:
    rng = np.random.default_rng(seed)
    types = int(rng.integers(1, 3))
    horizon = 3 if types == 1 else 2
    becoming = rng.integers(0, 2, (types, horizon)) * rng.integers(0, 2)
    becoming[:, 0] = 0
    return LookaheadProblem(
        price=rng.integers(5, 30, types),
        lead=rng.integers(0, 3, types),
        usable=rng.integers(0, 3, types),
        draining=rng.integers(0, 2, types),
        becoming=becoming,
        off=rng.integers(0, 3, types),
        least=rng.integers(0, 2, types),
        may_shrink=rng.random((types, horizon)) < 0.7,
        limits=np.vstack([rng.uniform(0.2, 1.0, types), np.eye(types)[0]]),
        sides=rng.uniform(0.0, 3.0, (2, horizon)),
    )


def brute_force(problem: LookaheadProblem) -> tuple[float, int]:
    """The least total shortage, and the least price at it, over every choice of starts, stops and takings back."""
    shape = (problem.types, problem.horizon)
    most = problem.most_usable()
    best = (np.inf, 0)
    in_time = np.arange(problem.horizon)[None, :] + problem.lead[:, None] < problem.horizon
    starts_max = np.where(in_time, problem.off[:, None], 0).ravel()
    stops_max = np.where(problem.may_shrink, most, 0).ravel()
    least = np.minimum(problem.least[:, None], most)
    for back in itertools.product(*(range(n + 1) for n in problem.draining)):
        for starts in itertools.product(*(range(n + 1) for n in starts_max)):
            started = np.array(starts).reshape(shape)
            for stops in itertools.product(*(range(n + 1) for n in stops_max)):
                stopped = np.array(stops).reshape(shape)
                if ((started - stopped).cumsum(axis=1) > problem.off[:, None]).any():
                    continue
                usable = usable_counts(problem, started, stopped, np.array(back))
                if (usable < least).any() or (usable > most).any():
                    continue
                shortage = float(np.maximum(problem.sides - problem.limits @ usable, 0.0).sum())
                best = min(best, (round(shortage, 6), price_of(problem, usable, started)))
    return best


@pytest.mark.parametrize("seed", range(40))
def test_shortage_is_least_first_and_then_the_price(seed: int) -> None:
    problem = a_random_problem(seed)
    found = look_ahead(problem, gap=0.0)
    shortage, price = brute_force(problem)
    assert found.proven
    assert found.shortage.sum() == pytest.approx(shortage, abs=1e-5)
    assert found.price == price
    again = usable_counts(problem, found.starts, found.stops, found.taken_back)
    assert (again == found.usable).all()
    assert price_of(problem, found.usable, found.starts) == found.price
    missing = np.maximum(problem.sides - problem.limits @ found.usable, 0.0)
    assert missing == pytest.approx(found.shortage, abs=1e-5)
    assert not found.stops[~problem.may_shrink].any()


def test_gpus_start_as_late_as_their_start_up_allows() -> None:
    found = look_ahead(one_type([2, 2, 2, 4], lead=np.array([2])))
    assert found.starts.tolist() == [[0, 2, 0, 0]]
    assert found.usable.tolist() == [[2, 2, 2, 4]]


def test_a_gap_no_longer_than_the_start_up_is_waited_out() -> None:
    found = look_ahead(one_type([2, 1, 2, 2], lead=np.array([1])))
    assert not found.stops.any() or found.price == look_ahead(one_type([2, 2, 2, 2])).price
    longer = look_ahead(one_type([2, 0, 0, 0, 2], lead=np.array([1])))
    assert longer.stops[0, 1] == 2
    assert longer.starts[0, 3] == 2


def test_nothing_stops_before_it_may() -> None:
    may = np.array([[False, False, True]])
    assert look_ahead(one_type([0, 0, 0], may_shrink=may)).stops.tolist() == [[0, 0, 2]]


def test_gpus_that_start_already_count_when_they_are_ready() -> None:
    becoming = np.array([[0, 0, 2, 0]])
    found = look_ahead(one_type([2, 2, 4, 4], becoming=becoming))
    assert not found.starts.any()
    assert found.usable.tolist() == [[2, 2, 4, 4]]
    assert found.price == 10 * (2 + 2 + 4 + 4) + 10 * 2 * 2


def test_draining_gpus_come_back_before_others_start() -> None:
    found = look_ahead(one_type([4, 4, 4], draining=np.array([2])))
    assert found.taken_back.tolist() == [2]
    assert not found.starts.any()
    assert not look_ahead(one_type([2, 2, 2], draining=np.array([2]))).taken_back.any()


def test_too_small_pools_are_a_shortage_and_not_infeasible() -> None:
    found = look_ahead(one_type([9, 9, 9]))
    assert found.usable.tolist() == [[2, 7, 7]]
    assert found.shortage.tolist() == [[7.0, 2.0, 2.0]]


def test_the_least_count_stays_on() -> None:
    assert look_ahead(one_type([0, 0, 0], least=np.array([1]))).usable.tolist() == [[1, 1, 1]]


def test_constant_demand_changes_nothing() -> None:
    found = look_ahead(one_type([2] * 10))
    assert not found.starts.any()
    assert not found.stops.any()
