"""A decision as numbers again: its problem, its placement, and how two values of it compare.

Decides what a written plan is worth to the solvers' rules; must never know which session is asked about.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.cluster import Session
from scheduler.decision_json import DecisionRecord
from scheduler.formulate import Formulated, formulate
from scheduler.plan import TierName
from scheduler.planner_report import tier_values, unit_of
from solvers.placement.check import evaluate
from solvers.placement.problem import Problem
from solvers.placement.solution import Placement, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first tier in which two values differ; `by` is negative where the one asked about is better."""

    tier: TierName
    by: float
    unit: str

    def __str__(self) -> str:
        return f"{self.tier} would be {abs(self.by):,.4g} {self.unit} {'worse' if self.by > 0 else 'better'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A decision as numbers again: the problem, and what the plan makes of it."""

    record: DecisionRecord
    formulated: Formulated
    placement: Placement  # of the moves that the plan makes
    value: Value
    before: Value

    @property
    def problem(self) -> Problem:
        return self.formulated.problem

    def class_of(self, session: Session) -> int:
        return self.formulated.profiles.index(session.profile)

    def latency_ms(self, placement: Placement, row: int) -> float:
        return float(self.problem.latency_us(placement.after(self.problem))[row]) / 1000.0


def case_of(record: DecisionRecord) -> Case:
    """Formulate the snapshot again, with the GPUs as they were decided; the moves of the plan are its placement."""
    plan = record.decision.plan
    formulated = formulate(record.snapshot, record.fleet, record.settings, record.now_s, plan.gpus)
    problem = formulated.problem
    placement = Placement.unchanged(problem)
    for move in plan.moves:
        if move.target is None:
            continue
        k = formulated.profiles.index(record.snapshot.sessions[move.session_id].profile)
        row = formulated.row_of[move.target]
        if move.source is None:
            placement.placed[row, k] += 1
        else:
            placement.arrived[row, k] += 1
            placement.out[formulated.row_of[move.source], k] += 1
    return Case(
        record=record,
        formulated=formulated,
        placement=placement,
        value=evaluate(problem, placement),
        before=evaluate(problem, Placement.unchanged(problem)),
    )


def first_difference(problem: Problem, value: Value, than: Value) -> Difference | None:
    """The tier that decides between two values, in the order of the objective; None if none does."""
    own, other = tier_values(problem, value), tier_values(problem, than)
    near = problem.tiers.balance_tolerance * max(value.balance, than.balance)
    for tier in own:
        if tier == "serve" and value.serve != than.serve:
            first = next(a - b for a, b in zip(value.serve, than.serve, strict=True) if a != b)
            return Difference(tier=tier, by=first, unit=unit_of(tier))
        if own[tier] == other[tier] or (tier == "balance" and abs(value.balance - than.balance) <= near):
            continue
        return Difference(tier=tier, by=own[tier] - other[tier], unit=unit_of(tier))
    return None


def moved(placement: Placement, source: int, target: int, k: int, count: int) -> Placement:
    """The placement with so many more (or fewer) of a class migrating from one GPU to another."""
    out, arrived = placement.out.copy(), placement.arrived.copy()
    out[source, k] += count
    arrived[target, k] += count
    return Placement(out=out, arrived=arrived, placed=placement.placed)
