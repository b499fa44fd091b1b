"""Descents by single migrations: what they leave alone, and that they end with the meter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings

from solvers.placement import polish as polishing
from solvers.placement.bounds import certificate
from solvers.placement.check import violations
from solvers.placement.fitting import Fitter
from solvers.placement.incumbent import Incumbent
from solvers.placement.meter import Meter
from solvers.placement.polish import lower_peaks, polish
from solvers.placement.problem import IntArray, Problem
from solvers.placement.solution import Bounds, Placement
from tests.solvers.placement.builders import a_placement_problem
from tests.solvers.placement.fleets import a_fleet, placed_one_by_one
from tests.solvers.placement.strategies import placement_problems

WORK = 2000


def the_unchanged(problem: Problem) -> Incumbent:
    return Incumbent(problem, Placement.unchanged(problem), Bounds())


def a_clock(step_s: float) -> Callable[[], float]:
    """Time that passes only by looking at it."""
    looks = count()
    return lambda: step_s * next(looks)


def skewed(gpus: int) -> Problem:
    """Every second GPU holds four sessions, the others none."""
    problem = a_placement_problem(" | ".join(["AAAA", ""] * (gpus // 2)), moves_max=gpus, out_max=4, in_max=4)
    return replace(problem, tiers=replace(problem.tiers, smooth_moves=gpus, meet=False))


def test_smoothing_ends_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polishing, "LOOKS_AT_ONCE", 1)  # a step between two looks at the clock
    problem = skewed(40)
    all_of_it, some_of_it = the_unchanged(problem), the_unchanged(problem)
    polish(problem, all_of_it, Meter(work=WORK))
    polish(problem, some_of_it, Meter(clock=a_clock(0.001), seconds=0.02))
    assert all_of_it.placement.moves == 40
    assert 0 < some_of_it.placement.moves < 20
    assert some_of_it.value.smooth < the_unchanged(problem).value.smooth


@pytest.mark.parametrize("batching", ["grouped", "packed", "turboserve"])
def test_how_often_the_meter_is_looked_at_changes_nothing_else(batching: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = a_fleet(48, 3, batching)  # type: ignore[arg-type]

    def lowered() -> IntArray:
        incumbent = Incumbent(problem, placed_one_by_one(problem), Bounds())
        lower_peaks(problem, incumbent, Meter(work=WORK))
        polish(problem, incumbent, Meter(work=WORK))
        return incumbent.placement.after(problem)

    at_once = lowered()
    monkeypatch.setattr(polishing, "LOOKS_AT_ONCE", 1)
    assert (lowered() == at_once).all()


def test_peaks_are_lowered_with_few_migrations() -> None:
    problem = a_placement_problem("AAAAAA | AAA | A | ", moves_max=4, out_max=4, in_max=4)
    incumbent = the_unchanged(problem)
    before = incumbent.value.balance
    assert lower_peaks(problem, incumbent, Meter(work=WORK)) == "no single migration helps"
    assert incumbent.value.balance == before // 2  # 3 sessions everywhere at most
    assert incumbent.placement.moves == 3


def test_where_nobody_runs_there_is_no_peak() -> None:
    problem = a_placement_problem(" | ")
    assert lower_peaks(problem, the_unchanged(problem), Meter(work=WORK)).startswith("does not apply")


@settings(max_examples=100)
@given(placement_problems())
def test_lower_peaks_make_no_tier_before_worse(problem: Problem) -> None:
    incumbent = Incumbent(problem, Fitter(problem).place(), Bounds())
    before = incumbent.value
    lower_peaks(problem, incumbent, Meter(work=WORK))
    after = incumbent.value
    assert not violations(problem, incumbent.placement)
    assert (after.repair, after.serve) == (before.repair, before.serve) or after.repair < before.repair
    assert after.meet <= before.meet or after.repair < before.repair or not problem.tiers.meet
    assert after.balance <= before.balance or not problem.tiers.balance


def test_a_descent_is_below_what_is_proven_of_nobody() -> None:
    problem = a_fleet(32, 4, "packed", types=3)
    fitter = Fitter(problem)
    incumbent = Incumbent(problem, fitter.place(), certificate(problem, fitter.given))
    lower_peaks(problem, incumbent, Meter(work=WORK))
    assert incumbent.value.balance >= incumbent.bounds.balance
    assert np.all(incumbent.placement.out.sum(axis=1) <= problem.out_max)
