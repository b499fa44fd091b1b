"""Plans of random small inputs are what they claim, and as good as an oracle that tries everything finds possible.

Decides what must hold for every plan; must never know how plans are found.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from runtime.api import epochal_plan
from scheduler.formulate_offline import formulate
from scheduler.offline_plan import OfflinePlan
from scheduler.verify import Verdict, verify
from tests.e2e.inputs import TICK_S, Input, inputs
from tests.solvers.brute_force import cost_optimum

EPS = 1e-6  # relative, of dollars; absolute, of ticks

small = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def planned(case: Input) -> tuple[OfflinePlan, Verdict]:
    """The plan, which passed the independent check."""
    trace, fleet = case.trace, case.fleet
    plan = epochal_plan(trace, fleet, deadline_s=20.0)
    verdict = verify(trace, fleet, plan)
    assert verdict.findings == ()
    assert verdict.unchecked == ()
    return plan, verdict


def best_possible(case: Input) -> tuple[tuple[float, ...], float, float]:
    """Unserved ticks by priority, highest first; late ticks; dollars."""
    *unserved, late, dollars = cost_optimum(formulate(case.trace, case.fleet, gpus=None, state=None).problem)
    return tuple(unserved), late, dollars


@small
@given(inputs(tick_s=1.0, periods_max=12, gpus_max=4))
def test_a_plan_is_what_it_claims(case: Input) -> None:
    planned(case)


@small
@given(inputs())
def test_no_plan_is_better_than_possible_and_a_proven_one_is_as_good(case: Input) -> None:
    plan, verdict = planned(case)
    unserved, late, dollars = best_possible(case)
    priorities = sorted(set(case.trace.sessions["priority"]), reverse=True)
    short = (*(round(verdict.unserved_by_priority.get(priority, 0.0) / TICK_S) for priority in priorities),)
    short = (*short, round(plan.objective.late_session_seconds / TICK_S))
    assert short >= (*unserved, late)
    if short == (*unserved, late):
        assert plan.objective.total_dollars >= dollars * (1 - EPS)
    if plan.solver.end_reason.startswith("proven") or plan.certificate.status == "optimal":
        assert short == (*unserved, late)
        assert plan.objective.total_dollars == pytest.approx(dollars, rel=EPS)


@small
@given(inputs())
def test_no_bound_exceeds_the_optimum(case: Input) -> None:
    plan, _ = planned(case)
    unserved, late, dollars = best_possible(case)
    bounds, value = plan.certificate, plan.objective
    assert bounds.bound_dollars is not None
    assert bounds.bound_unserved_session_seconds / TICK_S <= sum(unserved) + EPS
    if sum(unserved) > value.unserved_session_seconds / TICK_S + EPS:
        return  # the optimum leaves more unserved, of lower priority: the other bounds do not speak of it
    assert bounds.bound_late_session_seconds / TICK_S <= late + EPS
    if late <= value.late_session_seconds / TICK_S + EPS:
        assert bounds.bound_dollars <= dollars * (1 + EPS)
