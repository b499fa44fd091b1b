"""What was paid over the least, against figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.controller.regret import HALF_LIFE_S, Regret

FIRST = Regret(at_s=100.0, paid_dollars=50.0, least_per_hour=3600.0)  # a dollar a second


def test_only_what_is_paid_since_the_first_plan_counts() -> None:
    assert FIRST.ratio is None
    later = FIRST.until(101.0, 51.5)
    assert later.ratio == pytest.approx(0.5)
    assert FIRST.until(101.0, 51.0).ratio == pytest.approx(0.0)
    assert FIRST.until(101.0, 50.25).ratio == pytest.approx(-0.75)


def test_what_nobody_needed_is_told_once_anybody_needs_something() -> None:
    idle = replace(FIRST, least_per_hour=0.0).until(101.0, 51.0)
    assert idle.ratio is None
    assert replace(idle, least_per_hour=3600.0).until(102.0, 52.0).ratio == pytest.approx(1.0, rel=2e-3)


def test_the_past_counts_half_after_a_half_life() -> None:
    wasteful = FIRST.until(101.0, 60.0)
    assert (wasteful.recent_paid, wasteful.recent_least) == (10.0, 1.0)
    resting = replace(wasteful, least_per_hour=0.0).until(101.0 + HALF_LIFE_S, 60.0)
    assert (resting.recent_paid, resting.recent_least) == (5.0, 0.5)
    assert resting.ratio == wasteful.ratio
