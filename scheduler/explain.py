"""What a decision does with one session, what binds it, and what the best plan without that would be worth.

Decides what there is to say about a session; must never read a file, nor know how it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.alternative import Alternative, alternative, compared, sessions_words
from scheduler.binding import (
    Constraint,
    why_it_enters,
    why_it_is_offloaded,
    why_it_migrates,
    why_it_stays,
    why_it_waits,
)
from scheduler.cluster import MoveKind, Session, SessionId
from scheduler.decision_case import Case, case_of
from scheduler.decision_json import DecisionRecord
from scheduler.plan import Move, Seat, TierName
from scheduler.planner_report import tier_values, unit_of
from scheduler.policy import Budget
from scheduler.seats import place_of
from scheduler.transfers import move_s
from solvers.placement.solution import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class TierChange:
    """One tier: without any plan, with this one, and with the alternative."""

    tier: TierName
    unit: str
    before: float
    value: float
    alternative: float | None  # None: there is none, or it does not speak of this tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything there is to say about one session of a decision."""

    session_id: SessionId
    profile: str
    status: str
    priority: int
    kind: MoveKind | None  # None: it does not move
    reason: str | None  # the planner's word for the move
    wave: int | None
    source: Seat
    target: Seat
    state_bytes: int
    transfer_ms: float  # alone on its links
    constraint: Constraint
    chosen_among: str | None  # why it and not an equal session beside it
    alternative: Alternative | None
    tiers: tuple[TierChange, ...]
    warnings: tuple[str, ...] = ()  # of the decision


def explain(record: DecisionRecord, session_id: SessionId, budget: Budget) -> Explanation:
    """Explain one session of the snapshot; `budget` is for the plan in which it is held where it is."""
    session = record.snapshot.sessions[session_id]
    plan = record.decision.plan
    case = case_of(record)
    move = next((one for one in plan.moves if one.session_id == session_id), None)
    other: Alternative | None = None
    value: Value | None = None
    if move is None:
        constraint, other, value = _stays(case, session)
    else:
        constraint = _why(case, session, move)
        found = alternative(case, session, move, budget)
        if found is not None:
            other, value = found
    return Explanation(
        session_id=session_id,
        profile=session.profile,
        status=session.status,
        priority=session.priority,
        kind=None if move is None else move.kind,
        reason=None if move is None else move.reason,
        wave=None if move is None else move.wave,
        source=place_of(session, record.snapshot),
        target=plan.seats[session_id],
        state_bytes=0 if move is None else move.state_bytes,
        transfer_ms=0.0 if move is None else 1000.0 * move_s(record.fleet, move),
        constraint=constraint,
        chosen_among=None if move is None else _chosen_among(case, session, move),
        alternative=other,
        tiers=_tiers(case, value),
        warnings=record.decision.report.warnings,
    )


def _why(case: Case, session: Session, move: Move) -> Constraint:
    if move.kind == "migrate":
        return why_it_migrates(case, move)
    if move.kind == "offload":
        return why_it_is_offloaded(case, session, move)
    return why_it_enters(case, session, move)


def _stays(case: Case, session: Session) -> tuple[Constraint, Alternative | None, Value | None]:
    """Why nothing happens to a session, and for an active one the best place that it could go to."""
    flight = case.record.snapshot.moves.get(session.session_id)
    if flight is not None:
        text = f"it is on its way ({flight.kind}) since {case.record.now_s - flight.started_s:.1f} s"
        return Constraint(tier=None, text=f"{text}; nobody is moved twice at once"), None, None
    if session.status == "suspended":
        return Constraint(tier=None, text="it is idle, and its state is in host memory or lost"), None, None
    if session.status == "idle":
        return Constraint(tier=None, text="it is idle, and its state keeps its room on the GPU"), None, None
    if session.gpu is None or session.gpu not in case.formulated.row_of:
        return why_it_waits(case, session), None, None
    constraint, best = why_it_stays(case, session)
    if best is None:
        return constraint, None, None
    what = f"it goes to GPU {case.formulated.gpu_ids[best.row]}, and all else is as planned"
    return constraint, compared(case, what, "every single move of it was tried", best.value), best.value


def _chosen_among(case: Case, session: Session, move: Move) -> str | None:
    """Which of its equals could have gone, and what told them apart; only for migrations."""
    if move.kind != "migrate" or move.source is None:
        return None
    row, k = case.formulated.row_of[move.source], case.class_of(session)
    going = {one.session_id for one in case.record.decision.plan.moves}
    equals = [one for one in case.formulated.movable[row, k] if one.session_id not in going]
    if not equals:
        return None
    text = f"{len(equals)} equal {sessions_words(len(equals))} beside it could have gone instead"
    if len({(one.slack_ms, one.moved_s) for one in (session, *equals)}) == 1:
        return f"{text}; nothing but the name told them apart"
    slack = "not known" if session.slack_ms is None else f"{session.slack_ms:.0f} ms"
    since = "it never moved" if session.moved_s is None else f"it moved {case.record.now_s - session.moved_s:.0f} s ago"
    return f"{text}; most slack goes first, then who has not moved for the longest time (slack {slack}, {since})"


def _tiers(case: Case, value: Value | None) -> tuple[TierChange, ...]:
    """In the order of the tiers; what GPUs cost is as the decision tells it."""
    problem = case.problem
    before, after = tier_values(problem, case.before), tier_values(problem, case.value)
    other: Mapping[TierName, float] = {} if value is None else tier_values(problem, value)
    changes = [
        TierChange(tier=tier, unit=unit_of(tier), before=before[tier], value=after[tier], alternative=other.get(tier))
        for tier in after
    ]
    for pay in case.record.decision.report.tiers:
        if pay.tier == "pay":
            index = next(
                (i for i, one in enumerate(changes) if one.tier not in ("repair", "serve", "meet")), len(changes)
            )
            changes.insert(
                index,
                TierChange(
                    tier="pay",
                    unit=pay.unit,
                    before=pay.before,
                    value=pay.value,
                    alternative=None if value is None else pay.value,
                ),
            )
    return tuple(changes)


def place_words(seat: Seat) -> str:
    """Where a state is, for people."""
    if seat.gpu is not None:
        return f"GPU {seat.gpu}"
    return "nowhere" if seat.node is None else f"host memory of node {seat.node}"
