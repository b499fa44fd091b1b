"""Contents of a GPU against a naive enumeration.

Decides whether the table holds exactly what a GPU can run; must never know how it is built.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.contents import IntArray, RoundCosts, TooManyContentsError, TypeLimits, enumerate_contents
from tests.solvers.brute_force import gib_of, late_of, latency_of
from tests.solvers.builders import a_problem
from tests.strategies import type_limits

FAST = settings(max_examples=150, deadline=None, derandomize=True)


@st.composite
def limits_and_targets(draw: st.DrawFn) -> tuple[TypeLimits, tuple[float, ...]]:
    classes = draw(st.integers(1, 3))
    state_gib = tuple(draw(st.sampled_from([0.1, 1.0, 1.5])) for _ in range(classes))
    batching = draw(st.sampled_from(["grouped", "packed", "turboserve"]))
    targets = tuple(draw(st.sampled_from([2.0, 5.0, 9.0, 30.0])) for _ in range(classes))
    return draw(type_limits(batching, state_gib)), targets


@FAST
@given(limits_and_targets(), st.booleans(), st.sampled_from([4.0, np.inf]))
def test_the_table_holds_every_content_that_fits_and_no_other(
    drawn: tuple[TypeLimits, tuple[float, ...]], allow_late: bool, latency_ms_max: float
) -> None:
    limits, target_ms = drawn
    problem = a_problem([], types=(limits,), target_ms=target_ms, state_gib=limits.state_gib)
    table = enumerate_contents(limits, target_ms, allow_late=allow_late, latency_ms_max=latency_ms_max)
    expected = {
        counts
        for counts in itertools.product(range(5), repeat=len(target_ms))
        if latency_of(problem, 0, counts) <= min(latency_ms_max, 1e6)
        and gib_of(problem, counts) <= limits.memory_gib + 1e-9
        and (allow_late or not late_of(problem, 0, counts))
    }
    rows = [tuple(row) for row in table.counts.tolist()]
    assert len(rows) == len(set(rows))
    assert set(rows) == expected
    assert rows[0] == (0,) * len(target_ms)
    assert table.latency_ms.tolist() == pytest.approx([latency_of(problem, 0, row) for row in rows])
    assert table.memory_gib.tolist() == pytest.approx([gib_of(problem, row) for row in rows])
    assert table.late.tolist() == [late_of(problem, 0, row) for row in rows]


@FAST
@given(limits_and_targets())
def test_adding_and_removing_a_session_are_inverse(drawn: tuple[TypeLimits, tuple[float, ...]]) -> None:
    limits, target_ms = drawn
    table = enumerate_contents(limits, target_ms, allow_late=True)
    assert_transitions_are_true(table.counts, table.add, table.remove)
    full = {row for row in range(table.size) if (table.add[row] < 0).all()}
    assert set(table.maximal().tolist()) == full


def assert_transitions_are_true(counts: IntArray, add: IntArray, remove: IntArray) -> None:
    known = {tuple(row): position for position, row in enumerate(counts.tolist())}
    for position, row in enumerate(counts.tolist()):
        for k in range(len(row)):
            more, less = list(row), list(row)
            more[k] += 1
            less[k] -= 1
            assert add[position, k] == known.get(tuple(more), -1)
            assert remove[position, k] == known.get(tuple(less), -1)


def test_transitions_are_true_for_many_classes() -> None:
    """Codes of contents do not fit into 63 bits here."""
    classes = 45
    costs = RoundCosts(batching="packed", fixed_ms=1.0, per_session_ms=(1.0,) * classes, sessions_max=2)
    limits = TypeLimits(costs=costs, memory_gib=100.0, state_gib=(1.0,) * classes)
    table = enumerate_contents(limits, (10.0,) * classes, allow_late=False)
    assert table.size == 1 + classes + classes * (classes + 1) // 2
    assert_transitions_are_true(table.counts, table.add, table.remove)


def test_too_many_contents_are_refused() -> None:
    classes = 8
    costs = RoundCosts(batching="packed", fixed_ms=0.0, per_session_ms=(1.0,) * classes, sessions_max=16)
    limits = TypeLimits(costs=costs, memory_gib=100.0, state_gib=(1.0,) * classes)
    with pytest.raises(TooManyContentsError, match="contents of a GPU with 8 classes"):
        enumerate_contents(limits, (100.0,) * classes, allow_late=False)
