"""What the report says: figures that are never rounded to a lie, and sentences that fit the certificate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.report import words
from tests.scheduler.report_plans import Shape, a_fleet, a_plan, minimizing_latency, one_session_plan


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "$0.00"),
        (0.00393, "$0.00393"),
        (1e-6, "< $0.0001"),
        (0.44, "$0.44"),
        (1234.5, "$1,234.50"),
        (2e6, "$2,000,000"),
    ],
)
def test_dollars_keep_their_digits(amount: float, text: str) -> None:
    assert words.dollars(amount) == text


@pytest.mark.parametrize(("share", "text"), [(0.0, "0 %"), (3e-7, "< 0.0001 %"), (0.00342, "0.342 %"), (1.0, "100 %")])
def test_a_gap_that_is_not_zero_never_reads_zero(share: float, text: str) -> None:
    assert words.per_cent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.25, "4.25 s"), (188, "3 min 8 s"), (86_400, "1 d"), (90_000, "1 d 1 h")]
)
def test_durations_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_an_optimal_plan_says_that_nothing_is_cheaper() -> None:
    plan, _ = one_session_plan()
    assert words.verdict(plan) == "Proven optimal"
    claim, served, on_time = words.manager_sentences(plan, 95.0, {})
    assert claim.endswith("no schedule that serves these sessions as well costs less.")
    assert (served, on_time) == (
        "Every active session has a GPU at every moment.",
        "Every chunk meets its latency target.",
    )


def test_shortfalls_say_how_much_of_them_is_unavoidable() -> None:
    plan, _ = one_session_plan()
    objective = replace(plan.objective, unserved_session_seconds=40.0, late_session_seconds=19.0)
    certificate = replace(plan.certificate, bound_unserved_session_seconds=40.0, bound_late_session_seconds=9.5)
    said = words.manager_sentences(replace(plan, objective=objective, certificate=certificate), 95.0, {})
    assert said[1] == ("40 session-seconds (42.1 %) of active time has no GPU; on this fleet no schedule does better.")
    assert "(20 %)" in said[2]
    assert said[2].endswith("on this fleet at least 9.5 of them cannot be avoided.")


def test_the_comparison_is_told_as_what_is_saved() -> None:
    plan, _ = one_session_plan()
    total = plan.objective.total_dollars
    said = words.manager_sentences(plan, 95.0, {"Blanket headroom": total / 0.8})
    assert said[-1].startswith("Blanket headroom would cost $0.135: this schedule saves $0.0269, 20 % of it.")


def test_a_latency_plan_speaks_of_milliseconds_first() -> None:
    plan, _ = a_plan(a_fleet(pools={"h100": 8}), Shape(horizon_s=1200.0, moves=3))
    fast = minimizing_latency(plan)
    assert "ms" in words.manager_sentences(fast, 1.0, {})[0]
    assert [figure.label for figure in words.big_figures(fast, 1.0)][:3] == [
        "Worst chunk latency",
        "Lower bound",
        "Certified gap",
    ]
    assert "mean:" in words.expert_sentence(fast)


def test_the_expert_reads_method_bound_solver_reason_and_check() -> None:
    plan, _ = a_plan(a_fleet(pools={"h100": 8}), Shape(horizon_s=1200.0, moves=3))
    said = words.expert_sentence(plan)
    for part in ("Counting bound", "gap 0.34 %", "sweep (highspy 1.15.1)", "stopped because: the gap of", "240 rows"):
        assert part in said


def test_a_closed_cost_gap_claims_no_more_where_late_time_is_unproven() -> None:
    plan, _ = one_session_plan()
    open_elsewhere = replace(plan, certificate=replace(plan.certificate, status="feasible"))
    notes = {figure.label: figure.note for figure in words.big_figures(open_elsewhere, 95.0)}
    assert notes["Certified gap"] == "nothing better exists that serves as well"
    assert words.verdict(open_elsewhere) != "Proven optimal"
