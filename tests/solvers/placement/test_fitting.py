"""Fitting everybody below a level, on its way from look to look at the clock."""

from __future__ import annotations

import pytest

from solvers.placement import fitting
from solvers.placement.check import evaluate, violations
from solvers.placement.fitting import Attempt, Fitter
from solvers.placement.problem import Batching
from solvers.placement.solution import Placement
from tests.solvers.placement.fleets import a_fleet

BATCHING: tuple[Batching, ...] = ("grouped", "packed", "turboserve")


def an_attempt(limit_us: int, *, ends: bool = False, noise: float = 0.0) -> Attempt:
    return Attempt(limit_us=limit_us, on_time=False, ends=lambda: ends, noise=noise, seed=3)


@pytest.mark.parametrize("batching", BATCHING)
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_how_often_the_clock_is_looked_at_changes_nothing_else(
    batching: Batching, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = a_fleet(48, 3, batching)
    fitter = Fitter(problem)
    level = int(0.99 * evaluate(problem, fitter.place()).balance)
    at_once = fitter.fit(an_attempt(level, noise=noise))
    monkeypatch.setattr(fitting, "LOOKS_AT_ONCE", 1)
    step_by_step = fitter.fit(an_attempt(level, noise=noise))
    assert at_once.work == step_by_step.work
    assert _after(at_once.placement) == _after(step_by_step.placement)
    if at_once.placement is not None:
        assert not violations(problem, at_once.placement)
        assert evaluate(problem, at_once.placement).balance <= level


def test_an_attempt_that_is_ended_comes_back_without_a_placement() -> None:
    problem = a_fleet(48, 3, "grouped")
    fitter = Fitter(problem)
    level = 2 * evaluate(problem, fitter.place()).balance
    assert fitter.fit(an_attempt(level)).placement is not None
    assert fitter.fit(an_attempt(level, ends=True)).placement is None


def _after(placement: Placement | None) -> tuple[bytes, bytes, bytes] | None:
    if placement is None:
        return None
    return placement.out.tobytes(), placement.arrived.tobytes(), placement.placed.tobytes()
