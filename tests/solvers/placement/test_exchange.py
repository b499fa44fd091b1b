"""Whole numbers of patterns near fractions."""

from __future__ import annotations

import numpy as np

from solvers.placement.exchange import whole_patterns
from solvers.placement.exchange_kernel import Choice


def a_choice(gain: list[list[float]], first: list[int], least: list[float]) -> Choice:
    return Choice(
        gain=np.array(gain),
        first=np.array(first, dtype=np.int64),
        least=np.array(least),
        weight=np.ones(len(least)),
    )


def test_exchanges_find_the_only_choice_that_misses_nothing() -> None:
    random = np.random.default_rng(1)
    groups, patterns, rows = 12, 6, 4
    gain = random.integers(-2, 4, (groups * patterns, rows)).astype(float)
    chosen = np.arange(groups) * patterns + random.integers(0, patterns, groups)
    first = list(range(0, groups * patterns + 1, patterns))
    choice = a_choice(gain.tolist(), first, gain[chosen].sum(axis=0).tolist())
    fractions = np.full(groups * patterns, 1 / patterns)
    counts, missing = whole_patterns(choice, fractions, np.random.default_rng(0), lambda: False)
    assert missing == 0
    assert (counts.reshape(groups, patterns).sum(axis=1) == 1).all()
    assert (counts @ gain >= choice.least).all()


def test_all_gpus_of_a_group_follow_some_pattern_also_where_something_is_missing() -> None:
    choice = a_choice([[0.0], [1.0], [0.0]], [0, 2, 3], [9.0])
    counts, missing = whole_patterns(choice, np.array([2.5, 2.5, 4.0]), np.random.default_rng(0), lambda: False)
    assert counts.tolist() == [0, 5, 4]
    assert missing == 4


def test_rounding_alone_is_left_where_no_time_is() -> None:
    choice = a_choice([[0.0], [1.0]], [0, 2], [5.0])
    counts, missing = whole_patterns(choice, np.array([5.0, 0.0]), np.random.default_rng(0), lambda: True)
    assert counts.sum() == 5
    assert missing < 5  # a first look at the clock comes after a few steps
