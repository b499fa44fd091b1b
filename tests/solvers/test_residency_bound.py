"""No choice of kept intervals is worth more than the bound."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from solvers.residency_bound import kept_bound

_INTERVALS = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=7)


def _best(intervals: list[tuple[int, int, int]], capacity: int) -> int:
    """By trying every choice at every instant."""
    best = 0
    for kept in product((0, 1), repeat=len(intervals)):
        chosen = [interval for interval, keep in zip(intervals, kept, strict=True) if keep]
        held = [sum(s for a, length, s in chosen if a <= t < a + length) for t in range(15)]
        if max(held) <= capacity:
            best = max(best, sum(size for _, _, size in chosen))
    return best


def _bound(intervals: list[tuple[int, int, int]], capacity: int) -> float:
    start, length, size = np.array(intervals, np.int64).T
    return kept_bound(start, start + length, size, capacity)


@given(intervals=_INTERVALS, capacity=st.integers(1, 8))
def test_no_choice_is_worth_more_than_the_bound(intervals: list[tuple[int, int, int]], capacity: int) -> None:
    assert _best(intervals, capacity) <= _bound(intervals, capacity) + 1e-6


@given(intervals=_INTERVALS, capacity=st.integers(1, 4))
def test_with_equal_sizes_the_bound_is_attained(intervals: list[tuple[int, int, int]], capacity: int) -> None:
    equal = [(start, length, 1) for start, length, _ in intervals]
    assert abs(_best(equal, capacity) - _bound(equal, capacity)) < 1e-6
