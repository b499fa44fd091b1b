"""Why one session of a decision moves or stays, from the values of the plan with and without that one change.

Decides which tier or limit holds a session where it is or drives it away; must never search for another plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from scheduler.cluster import Session
from scheduler.decision_case import Case, first_difference, moved
from scheduler.plan import Move, TierName
from scheduler.sizes import MIB_PER_GIB, room_mib, state_mib
from solvers.placement.check import evaluate, violations
from solvers.placement.problem import NEVER_US
from solvers.placement.solution import Placement, Value, better


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What binds a session, in words and in the figures that the words rest on."""

    tier: TierName | None  # the tier that would suffer; None: a limit, or nothing
    text: str
    figures: Mapping[str, float] = field(default_factory=dict)  # by name with its unit last


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherPlace:
    """Where a session that stays could go instead, and what the plan would be worth then."""

    row: int
    value: Value


def why_it_migrates(case: Case, move: Move) -> Constraint:
    """What the plan would suffer if everything went as planned but for this one migration."""
    problem, formulated = case.problem, case.formulated
    assert move.source is not None
    assert move.target is not None
    k = case.class_of(case.record.snapshot.sessions[move.session_id])
    row, target = formulated.row_of[move.source], formulated.row_of[move.target]
    without = moved(case.placement, row, target, k, -1)
    value = evaluate(problem, without)
    found = first_difference(problem, value, case.value)
    if found is None or found.by < 0:
        words = "nothing is lost" if found is None else str(found)
        return Constraint(tier=None, text=f"by itself this move is not needed: without it alone {words}")
    tell = _TELLS.get(found.tier)
    if tell is not None:
        return tell(case, without, row)
    text = f"without it {found}"
    return Constraint(tier=found.tier, text=text, figures={"worse_by": found.by})


def _broken(case: Case, without: Placement, row: int) -> Constraint:
    problem, gpu_id = case.problem, case.formulated.gpu_ids[row]
    held, room = int(without.after(problem)[row] @ problem.state_mib), int(problem.memory_mib[row])
    if held > room:
        return _memory("repair", f"GPU {gpu_id} would hold", held, room)
    count = int(without.after(problem)[row].sum())
    text = f"a batch of {count} sessions may not run on GPU {gpu_id}"
    return Constraint(tier="repair", text=text, figures={"sessions": count})


def _late(case: Case, without: Placement, row: int) -> Constraint:
    problem, formulated = case.problem, case.formulated
    after, latency_ms = without.after(problem)[row], case.latency_ms(without, row)
    targets = [(int(problem.target_us[k]) / 1000.0, formulated.profiles[k]) for k in np.flatnonzero(after)]
    target_ms, profile = min(targets)
    text = f"GPU {formulated.gpu_ids[row]} would run at {latency_ms:.0f} ms, above the {target_ms:.0f} ms target"
    return Constraint(
        tier="meet", text=f"{text} of {profile}", figures={"latency_ms": latency_ms, "target_ms": target_ms}
    )


def _emptied(case: Case, without: Placement, row: int) -> Constraint:  # noqa: ARG001
    return Constraint(tier="leave", text=f"GPU {case.formulated.gpu_ids[row]} is to be emptied")


def _worst(case: Case, without: Placement, row: int) -> Constraint:
    latency_ms, worst_ms = case.latency_ms(without, row), case.value.balance / 1000.0
    gain = (latency_ms - worst_ms) / latency_ms
    text = f"GPU {case.formulated.gpu_ids[row]} would run at {latency_ms:.0f} ms and be the worst"
    return Constraint(
        tier="balance",
        text=f"{text}; with the move the worst is {worst_ms:.0f} ms, {gain:.1%} less",
        figures={"latency_ms": latency_ms, "worst_ms": worst_ms, "gain_share": gain},
    )


_Tell = Callable[[Case, Placement, int], Constraint]
_TELLS: Mapping[TierName, _Tell] = {"repair": _broken, "meet": _late, "leave": _emptied, "balance": _worst}


def why_it_enters(case: Case, session: Session, move: Move) -> Constraint:
    """Somebody who waits is served as soon as there is room."""
    assert move.target is not None
    problem, row = case.problem, case.formulated.row_of[move.target]
    latency_ms = case.latency_ms(case.placement, row)
    waited_s = case.record.now_s - session.since_s
    free = int(problem.memory_mib[row] - case.placement.after(problem)[row] @ problem.state_mib) / MIB_PER_GIB
    text = f"it waits since {waited_s:.1f} s, and GPU {move.target} has room: it will run at {latency_ms:.0f} ms"
    figures = {"waited_s": waited_s, "latency_ms": latency_ms, "left_gib": free}
    return Constraint(tier="serve", text=f"{text} with {free:.1f} GiB left", figures=figures)


def why_it_waits(case: Case, session: Session) -> Constraint:
    """What every GPU that receives sessions lacks."""
    problem, k = case.problem, case.class_of(session)
    rows = np.flatnonzero(problem.receives)
    until_s = case.formulated.held.get(session.session_id)
    if until_s is not None:
        text = "no GPU could run it without making somebody late, and its first chunk can still be on time"
        left_s = until_s - case.record.now_s
        return Constraint(tier="meet", text=f"{text} for {left_s:.1f} s", figures={"may_wait_s": left_s})
    if not len(rows):
        return Constraint(tier="serve", text="no GPU is ready to take sessions")
    held = problem.running + case.placement.arrived + case.placement.placed
    free = (problem.memory_mib - held @ problem.state_mib)[rows]
    more = case.placement.after(problem)
    more[:, k] += 1
    runs = problem.latency_us(more)[rows] < NEVER_US
    fits = free >= problem.state_mib[k]
    if (fits & runs).any():
        gpu_id = case.formulated.gpu_ids[rows[np.flatnonzero(fits & runs)[0]]]
        return Constraint(tier="serve", text=f"GPU {gpu_id} has room, and no move to it was found in this epoch")
    no_memory, batch_full = int((~fits).sum()), int((fits & ~runs).sum())
    most_gib, state_gib = float(free.max()) / MIB_PER_GIB, float(problem.state_mib[k]) / MIB_PER_GIB
    text = (
        f"{no_memory} of {len(rows)} GPUs have no memory for its {state_gib:.1f} GiB (at most {most_gib:.1f} are free)"
    )
    return Constraint(
        tier="serve",
        text=f"{text}, on {batch_full} its batch may not run",
        figures={
            "gpus": len(rows),
            "gpus_without_memory": no_memory,
            "gpus_with_full_batch": batch_full,
            "free_max_gib": most_gib,
            "state_gib": state_gib,
        },
    )


def why_it_is_offloaded(case: Case, session: Session, move: Move) -> Constraint:
    """The room that is left to idle states, or that a batch cannot run with somebody in it."""
    record, problem = case.record, case.problem
    assert move.source is not None
    row = case.formulated.row_of[move.source]
    if session.status == "active":
        after = case.placement.after(problem)[row]
        held, room = int(after @ problem.state_mib), int(problem.memory_mib[row])
        if held > room:
            return _memory("repair", f"GPU {move.source} would hold", held, room)
        text = f"a batch of {after.sum()} sessions may not run on GPU {move.source}, and nobody can migrate out of it"
        return Constraint(tier="repair", text=text, figures={"sessions": int(after.sum())})
    if move.reason == "drain":
        return Constraint(tier=None, text=f"GPU {move.source} is to be emptied")
    if move.reason == "return":
        latency_ms = case.latency_ms(case.placement, row)
        text = f"GPU {move.source} will run at {latency_ms:.0f} ms, and somebody would be late if it returned there"
        return Constraint(tier="meet", text=text, figures={"latency_ms": latency_ms})
    entering = (case.placement.arrived + case.placement.placed)[row]
    room = int(case.formulated.idle_room_mib[row] - entering @ problem.state_mib)
    held = sum(state_mib(record.fleet, one.profile) for one in case.formulated.idle.get(row, ()))
    if move.reason == "memory":
        return _memory(None, f"idle sessions on GPU {move.source} hold", held, room)
    whole = room_mib(record.fleet, record.snapshot.gpus[move.source].gpu_type)
    reserve = int(record.settings.idle.reserve_share * whole)
    found = _memory(None, f"idle sessions on GPU {move.source} hold", held, room - reserve)
    text = f"{found.text} outside the reserve of {reserve / MIB_PER_GIB:.1f} GiB, and it is unlikely to return soon"
    return replace(found, text=text, figures={**found.figures, "reserve_gib": reserve / MIB_PER_GIB})


def why_it_stays(case: Case, session: Session) -> tuple[Constraint, OtherPlace | None]:
    """What the best single move of an active session would cost, with all else as planned."""
    problem, formulated = case.problem, case.formulated
    assert session.gpu is not None
    row, k = formulated.row_of[session.gpu], case.class_of(session)
    latency_ms = case.latency_ms(case.placement, row)
    here = f"GPU {session.gpu} will run at {latency_ms:.0f} ms, its target is {problem.target_us[k] / 1000:.0f} ms"
    figures = {"latency_ms": latency_ms, "target_ms": float(problem.target_us[k]) / 1000.0}
    best = None
    for target in _unlike_targets(case, row):
        gone = moved(case.placement, row, target, k, +1)
        if not violations(problem, gone):
            value = evaluate(problem, gone)
            if best is None or better(problem, value, best.value):
                best = OtherPlace(row=target, value=value)
    if best is None:
        return Constraint(tier=None, text=f"{here}; {_limit(case, row)}", figures=figures), None
    found = first_difference(problem, best.value, case.value)
    text = f"{here}; on GPU {formulated.gpu_ids[best.row]}, the best of the others, {found or 'nothing would change'}"
    tier = None
    if found is not None and found.by > 0:
        tier = found.tier
    elif found is not None and found.tier == "balance":
        gain = 1 - best.value.balance / case.value.balance
        least = problem.tiers.balance_gain_min
        if gain < least and case.value.meet == 0:
            text += f", {gain:.1%}, and a migration has to gain {least:.1%}"
    return Constraint(tier=tier, text=text, figures=figures), best


def _unlike_targets(case: Case, source: int) -> Iterator[int]:
    """One of each kind of GPU: equal GPUs with equal contents and room are equally good."""
    problem, placement = case.problem, case.placement
    after, arrived = placement.after(problem), placement.arrived.sum(axis=1)
    entering = placement.arrived + placement.placed
    seen: set[tuple[int, ...]] = set()
    for row in np.flatnonzero(problem.receives):
        key = (problem.gpu_type[row], problem.memory_mib[row], problem.in_max[row] - arrived[row])
        kind = (*map(int, key), *map(int, after[row]), *map(int, entering[row]), *map(int, placement.out[row]))
        if row != source and kind not in seen:
            seen.add(kind)
            yield int(row)


def _limit(case: Case, row: int) -> str:
    """Why an active session cannot be moved at all."""
    problem, placement = case.problem, case.placement
    if placement.moves >= problem.moves_max:
        return f"the budget of {problem.moves_max} migrations in this epoch is used up"
    if placement.out[row].sum() >= problem.out_max[row]:
        return f"no more than {problem.out_max[row]} sessions may leave this GPU in this epoch"
    return "no other GPU can take it within the budget"


def _memory(tier: TierName | None, what: str, held_mib: int, room_mib_: int) -> Constraint:
    held, room = held_mib / MIB_PER_GIB, room_mib_ / MIB_PER_GIB
    text = f"{what} {held:.1f} GiB of states, and there is room for {room:.1f} GiB"
    return Constraint(tier=tier, text=text, figures={"held_gib": held, "room_gib": room})
