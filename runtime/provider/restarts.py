"""When a worker that keeps dying is started again.

Decides how long to wait after a death, and when to give up for a while; must never know a clock or a process.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRule:
    """After one death the next start waits for nothing; after n in a row it waits `delay_s` * 2^(n-2)."""

    delay_s: float = 0.5
    delay_s_max: float = 30.0
    deaths_max: int = 5  # in a row, after which we rest
    rest_s: float = 300.0  # and as long without a death makes the next one the first

    def __post_init__(self) -> None:
        assert 0 < self.delay_s <= self.delay_s_max <= self.rest_s, self
        assert self.deaths_max >= 1, self


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaths:
    """Of one GPU's workers, in a row: each less than `rest_s` after the one before."""

    count: int = 0
    last_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStart:
    """Not before `at_s`."""

    at_s: float
    gave_up: bool


def after_death(deaths: Deaths, now_s: float, rule: RestartRule) -> Deaths:
    """One more; `now_s` does not go back."""
    if deaths.count and now_s - deaths.last_s < rule.rest_s:
        return Deaths(count=deaths.count + 1, last_s=now_s)
    return Deaths(count=1, last_s=now_s)


def next_start(deaths: Deaths, rule: RestartRule) -> NextStart:
    """When the next may be; a time that is past means now."""
    if deaths.count >= rule.deaths_max:
        return NextStart(at_s=deaths.last_s + rule.rest_s, gave_up=True)
    if deaths.count < 2:
        return NextStart(at_s=deaths.last_s, gave_up=False)
    delay_s = rule.delay_s * 2.0 ** min(deaths.count - 2, 64)
    return NextStart(at_s=deaths.last_s + min(delay_s, rule.delay_s_max), gave_up=False)
