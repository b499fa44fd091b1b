"""A solver's answer as a report in units that people read.

Decides units and what counts as proven; must never know how the answer was found.
"""

from __future__ import annotations

from scheduler.plan import StageTime, TierName, TierReport
from solvers.placement.problem import Problem
from solvers.placement.solution import TIERS, Answer, Bounds, Value

_UNITS: dict[str, tuple[str, float]] = {  # unit, and how many of the solvers' units are one
    "repair": ("MiB and sessions", 1.0),
    "serve": ("sessions", 1.0),
    "meet": ("ms", 1000.0),
    "leave": ("sessions", 1.0),
    "balance": ("ms", 1000.0),
    "move": ("GiB", 1024.0),
    "smooth": ("ms^2", 1.0),
}


def tier_reports(
    problem: Problem, answer: Answer | None, pay: TierReport | None, *, gap: float
) -> tuple[TierReport, ...]:
    """One report per tier that counts, in the order of the tiers; `pay` comes after `meet`.

    A bound holds among placements that are optimal in the tiers before, so one is only proven if those are.
    """
    if answer is None:
        waiting = float(problem.waiting.sum())
        empty = TierReport(
            tier="serve",
            unit="sessions",
            before=waiting,
            value=waiting,
            bound=waiting,
            gap=0.0,
            proven=True,
            proof="no GPU is ready",
        )
        return (empty,) if pay is None else (empty, pay)
    tiers = problem.tiers
    wanted: list[tuple[TierName, bool]] = [
        ("repair", True),
        ("serve", True),
        ("meet", tiers.meet),
        ("leave", tiers.leave),
        ("balance", tiers.balance),
        ("move", tiers.move),
        ("smooth", tiers.smooth),
    ]
    reports: list[TierReport] = []
    for tier, counts in wanted:
        if counts:
            reports.append(_report(tier, answer, gap, before_proven=all(one.proven for one in reports)))
        if tier == "meet" and pay is not None:
            reports.append(pay)
    return tuple(reports)


def tier_values(problem: Problem, value: Value) -> dict[TierName, float]:
    """A value tier by tier in the units of the reports; only tiers that count."""
    tiers = problem.tiers
    counts = {"meet": tiers.meet, "leave": tiers.leave, "balance": tiers.balance, "move": tiers.move}
    counts |= {"smooth": tiers.smooth}
    return {tier: _number(tier, value) / _UNITS[tier][1] for tier in TIERS if counts.get(tier, True)}


def unit_of(tier: TierName) -> str:
    """What a number of this tier counts."""
    return _UNITS[tier][0]


def stage_times(answer: Answer) -> tuple[StageTime, ...]:
    return tuple(
        StageTime(
            solver=stage.solver,
            seconds=stage.seconds,
            end_reason=stage.end_reason,
            value=None if stage.value is None else stage.value.balance / 1000.0,
            bound=stage.balance_bound_us / 1000.0,
            gap=stage.gap,
        )
        for stage in answer.stages
    )


def _report(tier: TierName, answer: Answer, gap: float, *, before_proven: bool) -> TierReport:
    unit, scale = _UNITS[tier]
    before, value, bound = (_number(tier, of) / scale for of in (answer.before, answer.value, answer.bounds))
    share = 0.0 if value <= bound or value == 0 else (value - bound) / value
    return TierReport(
        tier=tier,
        unit=unit,
        before=before,
        value=value,
        bound=bound,
        gap=share,
        proven=before_proven and share <= gap,
        proof="" if tier == "pay" else answer.bounds.proofs.get(tier, ""),
    )


def _number(tier: TierName, of: Value | Bounds) -> float:
    number = getattr(of, tier)
    return float(sum(number)) if isinstance(number, tuple) else float(number)
