"""Arrivals multiplied: bodies stay whole, the drawn are the drawn, and the load is as wanted."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import a_trace
from traces.errors import BadInputError
from traces.scale import scale_arrivals
from traces.trace import Trace


def a_busy_trace() -> Trace:
    return a_trace("; ".join(f"s{i} {10 * i}-{10 * i + 20} {10 * i + 40}-{10 * i + 45}" for i in range(100)))


def bodies(trace: Trace) -> dict[str, list[tuple[int, int]]]:
    """Periods of each session from its own start."""
    found: dict[str, list[tuple[int, int]]] = {}
    ids = trace.sessions["session_id"].to_list()
    for index, start, end in trace.periods.iter_rows():
        found.setdefault(ids[index], []).append((start, end))
    return {name: [(a - spans[0][0], b - spans[0][0]) for a, b in spans] for name, spans in found.items()}


@given(factor=st.floats(0.05, 4.0), seed=st.integers(0, 5))
def test_bodies_stay_whole_and_inside_the_horizon(factor: float, seed: int) -> None:
    trace = a_busy_trace()
    scaled = scale_arrivals(trace, factor, seed=seed)
    assert scaled.session_count == pytest.approx(100 * factor, abs=1)
    assert scaled.horizon_us <= trace.horizon_us
    own = bodies(trace)
    for name, body in bodies(scaled).items():
        assert body == own[name.split("+")[0]]


def test_factor_1_is_the_same_demand() -> None:
    trace = a_busy_trace()
    assert scale_arrivals(trace, 1.0).periods.equals(trace.periods)


def test_seeds_draw_differently_and_equal_seeds_equally() -> None:
    trace = a_busy_trace()
    first, again, other = (scale_arrivals(trace, 1.5, seed=seed) for seed in (1, 1, 2))
    assert first.sha256 == again.sha256 != other.sha256


def test_profile_tenant_and_priority_come_along() -> None:
    trace = a_trace("a:world 0-10; b 5-9", priorities={"a": 3})
    scaled = scale_arrivals(trace, 2.0)
    again = scaled.sessions.filter(pl.col("session_id") == "a+1").row(0, named=True)
    assert (again["profile"], again["priority"]) == ("world", 3)


def test_names_that_are_taken_are_passed_over() -> None:
    scaled = scale_arrivals(a_trace("a 0-10; a+1 5-9"), 2.0)
    assert scaled.sessions["session_id"].n_unique() == 4


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 1e9, 1e-6])
def test_factors_that_make_no_sense_are_refused(factor: float) -> None:
    with pytest.raises(BadInputError, match="factor="):
        scale_arrivals(a_busy_trace(), factor)
