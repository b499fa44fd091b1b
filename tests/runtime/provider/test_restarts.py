"""The rule about workers that keep dying: pure, and true of any series of deaths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.provider.restarts import Deaths, RestartRule, after_death, next_start

RULE = RestartRule(delay_s=0.5, delay_s_max=3.0, deaths_max=6, rest_s=100.0)
_GAPS = st.lists(st.floats(0.0, 500.0), min_size=1, max_size=40)


def died(at_s: list[float], rule: RestartRule = RULE) -> Deaths:
    deaths = Deaths()
    for now_s in at_s:
        deaths = after_death(deaths, now_s, rule)
    return deaths


@pytest.mark.parametrize(("count", "delay_s"), [(1, 0.0), (2, 0.5), (3, 1.0), (4, 2.0), (5, 3.0)])
def test_the_delay_doubles_up_to_its_bound(count: int, delay_s: float) -> None:
    following = next_start(died([7.0] * count), RULE)
    assert (following.at_s, following.gave_up) == (7.0 + delay_s, False)


def test_the_last_death_in_a_row_is_followed_by_a_rest() -> None:
    following = next_start(died([7.0] * 6), RULE)
    assert (following.at_s, following.gave_up) == (107.0, True)


def test_the_first_start_waits_for_nothing() -> None:
    assert next_start(Deaths(), RULE).at_s == 0.0


def test_a_death_after_the_rest_is_the_first_again() -> None:
    assert died([0.0] * 6 + [100.0]).count == 1
    assert died([0.0] * 5 + [99.9]).count == 6


def test_a_very_long_row_has_a_finite_delay() -> None:
    rule = RestartRule(delay_s=1e-9, delay_s_max=30.0, deaths_max=10**9)
    assert next_start(Deaths(count=10**8, last_s=1.0), rule).at_s == 31.0


@given(_GAPS)
def test_whatever_dies_starts_are_bounded_in_any_rest(gaps_s: list[float]) -> None:
    """Whoever starts when the rule says so starts at most `deaths_max` times within `rest_s`."""
    now_s, deaths, starts_s = 0.0, Deaths(), [0.0]
    for lived_s in gaps_s:
        now_s += lived_s
        deaths = after_death(deaths, now_s, RULE)
        following = next_start(deaths, RULE)
        assert following.at_s >= now_s
        assert following.gave_up == (deaths.count >= RULE.deaths_max)
        now_s = following.at_s
        starts_s.append(now_s)
    for first in starts_s:
        assert sum(first <= start_s < first + RULE.rest_s for start_s in starts_s) <= 2 * RULE.deaths_max


@given(_GAPS)
def test_a_row_ends_only_with_a_long_life(gaps_s: list[float]) -> None:
    now_s, deaths = 0.0, Deaths()
    for gap_s in gaps_s:
        before, now_s = deaths, now_s + gap_s
        deaths = after_death(deaths, now_s, RULE)
        goes_on = before.count > 0 and now_s - before.last_s < RULE.rest_s
        assert deaths.count == (before.count + 1 if goes_on else 1)
