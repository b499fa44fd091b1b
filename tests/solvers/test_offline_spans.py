"""Spans against an oracle that tries every way of paying.

Decides whether the cheapest spans are the cheapest; must never know how they are found.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.offline_problem import NEVER_ON, OfflineProblem
from solvers.offline_spans import spans_for
from tests.solvers.brute_force import on_patterns
from tests.solvers.builders import a_problem, a_solution
from tests.strategies import tiny_problems


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tiny_problems(), st.data())
def test_no_spans_are_cheaper(problem: OfflineProblem, data: st.DataObject) -> None:
    pieces: list[tuple[int, int, int]] = []
    expected = 0.0
    for gpu in range(problem.gpus):
        patterns = on_patterns(problem, gpu, throughout=False)
        possible = sorted(frozenset().union(*(pattern.usable for pattern in patterns)))
        busy = frozenset(data.draw(st.sets(st.sampled_from(possible)))) if possible else frozenset()
        pieces += [(gpu, t, t + 1) for t in sorted(busy)]
        expected += min(pattern.dollars for pattern in patterns if busy <= pattern.usable)
    columns = np.array(pieces, dtype=np.int64).reshape(-1, 3).T
    span_gpu, on_us, off_us = spans_for(problem, columns[0].astype(np.int32), columns[1], columns[2])
    price = np.array(problem.price_per_hour)[problem.gpu_type[span_gpu]]
    assert float(((off_us - on_us) / 3.6e9 * price).sum()) == pytest.approx(expected)


def spans(problem: OfflineProblem, pieces: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int]]:
    solution = a_solution(problem, pieces)
    columns = (solution.span_gpu, solution.span_on_us, solution.span_off_us)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_a_gpu_is_switched_off_where_it_can_be_back_in_time() -> None:
    problem = a_problem([(0, 10), (36, 40)])
    assert spans(problem, [(0, 0, 0, 10), (1, 0, 36, 40)]) == [(0, -20, 10), (0, 20, 40)]


def test_a_gpu_that_would_have_to_be_on_again_at_once_stays_on() -> None:
    problem = a_problem([(0, 10), (26, 40)])
    assert spans(problem, [(0, 0, 0, 10), (1, 0, 26, 40)]) == [(0, -20, 40)]


def test_a_gpu_on_since_zero_is_paid_for_one_epoch() -> None:
    problem = a_problem([(0, 30)], gpu_on_us=np.array([0, NEVER_ON]))
    assert spans(problem, []) == [(0, 0, 10)]


def test_nothing_to_do_costs_nothing() -> None:
    assert spans(a_problem([]), []) == []
