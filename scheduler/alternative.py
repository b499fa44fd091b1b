"""The best plan in which one session is not treated as a decision treats it.

Decides how a session is held fixed and what the rest is worth then; must never know why the decision was taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scheduler.cluster import Session
from scheduler.decision_case import Case, Difference, first_difference, moved
from scheduler.formulate import Formulated
from scheduler.plan import Move
from scheduler.planner import Planner
from scheduler.policy import Budget
from scheduler.sizes import state_mib
from solvers.placement.check import evaluate, violations
from solvers.placement.pinned import pinned
from solvers.placement.problem import IntArray
from solvers.placement.solution import Value, better


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """The best plan found in which the session is not treated as in the decision."""

    what: str
    found_by: str  # which solver, and why it stopped
    difference: Difference | None  # the first tier that differs; None: none does
    verdict: str


def alternative(case: Case, session: Session, move: Move, budget: Budget) -> tuple[Alternative, Value] | None:
    """Plan again with the session where it is; None where no tier of the placement depends on that."""
    held = _held(case, session, move)
    return None if held is None else _solved(case, move, *held, budget)


def _held(case: Case, session: Session, move: Move) -> tuple[str, Formulated] | None:
    """The same problem with the session fixed where it is, in words and in numbers.

    Sessions of one profile on one GPU are interchangeable, so as many of them are held that no equal takes its turn.
    None: no tier of the placement depends on where this state is.
    """
    problem, formulated = case.problem, case.formulated
    if move.kind == "offload":
        if move.reason != "memory" or move.source is None:
            return None
        row = formulated.row_of[move.source]
        memory = problem.memory_mib.copy()
        memory[row] -= state_mib(case.record.fleet, session.profile)
        words = f"it stays, and its state keeps its room on GPU {move.source}"
        return words, replace(formulated, problem=replace(problem, memory_mib=memory))
    k = case.class_of(session)
    if move.kind == "migrate":
        assert move.source is not None
        row = formulated.row_of[move.source]
        count = int(problem.running[row, k] - case.placement.out[row, k]) + 1
        levels = tuple(np.append(level, 0) for level in formulated.levels)
        beside = "" if count == 1 else f", and {count - 1} equal {sessions_words(count - 1)} there with it"
        words = f"it stays on GPU {move.source}{beside}"
        return words, replace(formulated, problem=pinned(problem, row, k, count), levels=levels)
    left = int(case.placement.placed[:, k].sum()) - 1
    waiting = problem.waiting.copy()
    back = int(waiting[k]) - left
    waiting[k] = left
    words = f"it keeps waiting, and {back - 1} {sessions_words(back - 1)} of its profile behind it" if back > 1 else ""
    reduced = replace(formulated, problem=replace(problem, waiting=waiting), levels=_shortened(formulated, k, back))
    return words or "it keeps waiting", reduced


def _solved(case: Case, move: Move, what: str, formulated: Formulated, budget: Budget) -> tuple[Alternative, Value]:
    """Plan with the session fixed, by the planner's own way; who was taken out of the queue counts as unserved."""
    answer, _ = Planner(case.record.fleet, case.record.settings).place(formulated, budget.meter())
    assert answer is not None, "somebody moves, so there is a GPU"
    serve = list(answer.value.serve)
    gone = case.problem.waiting - formulated.problem.waiting[: case.problem.classes]
    for k in np.flatnonzero(gone):
        serve[int(case.problem.priority_rank[k])] += int(gone[k])
    value, found_by = replace(answer.value, serve=tuple(serve)), f"{answer.solver}: {answer.end_reason}"
    plain = _plan_without(case, move)
    if plain is not None and better(case.problem, plain, value):
        value, found_by = plain, "the plan without this move"
    return compared(case, what, found_by, value), value


def _plan_without(case: Case, move: Move) -> Value | None:
    """What all the other moves of the plan are worth; None where they are not allowed without it."""
    if move.target is None:
        return None
    k = case.class_of(case.record.snapshot.sessions[move.session_id])
    rows = case.formulated.row_of
    if move.source is not None:
        rest = moved(case.placement, rows[move.source], rows[move.target], k, -1)
    else:
        placed = case.placement.placed.copy()
        placed[rows[move.target], k] -= 1
        rest = replace(case.placement, placed=placed)
    return None if violations(case.problem, rest) else evaluate(case.problem, rest)


def compared(case: Case, what: str, found_by: str, value: Value) -> Alternative:
    """What a value is worth beside that of the plan."""
    found = first_difference(case.problem, value, case.value)
    if found is None:
        verdict = "no tier is worse; the plan is one of several equally good ones"
    elif found.by > 0:
        verdict = str(found)
    else:
        verdict = f"{found}: the search ended before it found this, see the gap of the decision"
    return Alternative(what=what, found_by=found_by, difference=found, verdict=verdict)


def _shortened(formulated: Formulated, k: int, count: int) -> tuple[IntArray, ...]:
    """The levels without the last of a class."""
    levels = [level.copy() for level in formulated.levels]
    for level in reversed(levels):
        gone = min(count, int(level[k]))
        level[k] -= gone
        count -= gone
    return tuple(level for level in levels if level.any())


def sessions_words(count: int) -> str:
    """One session, two sessions."""
    return "session" if count == 1 else "sessions"
