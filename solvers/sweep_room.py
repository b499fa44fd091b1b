"""Making room with hindsight: sessions that could as well have been elsewhere since they started.

Decides which members give up their GPU for a heavier period, and rewrites where they were; must never know who asks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from solvers.numba_kernel import inner
from solvers.sweep_choice import packing
from solvers.sweep_moves import B_GIB, B_MOVES, charge, moves_in, moves_out
from solvers.sweep_state import (
    FAR,
    I_ON,
    W_MISFIT,
    W_MOVE,
    Fleet,
    IntArray,
    Limits,
    RealArray,
    State,
    Tables,
    Trail,
    Work,
    emit,
    has_memory,
    note_blocked,
    put,
    slot_of,
    take,
)

EJECTED_MAX = 5  # sessions that may make room for one


@inner
def make_room(
    state: State,
    work: Work,
    tables: Tables,
    fleet: Fleet,
    limits: Limits,
    weights: RealArray,
    budget: RealArray,
    trail: Trail,
    period: int,
    at_us: int,
    boundary_us: int,
) -> int:
    """Free a GPU for the period by putting lighter members where they could have been all along; -1 if none can be.

    GPUs on which fewer members need to go are tried first; those that need more only if none of these can be freed.
    """
    k = work.class_index[period]
    best = FAR
    chosen = -1
    best_n = 0
    ejected = np.zeros(EJECTED_MAX, np.int32)
    targets = np.zeros(EJECTED_MAX, np.int32)
    migrates = np.zeros(EJECTED_MAX, np.bool_)
    best_ejected = np.zeros(EJECTED_MAX, np.int32)
    best_targets = np.zeros(EJECTED_MAX, np.int32)
    best_migrates = np.zeros(EJECTED_MAX, np.bool_)
    on = state.cursor[I_ON]
    for step in range(EJECTED_MAX * on):
        gpu = state.on_list[step % on]
        fewest = 1 + step // on
        if chosen >= 0 and step % on == 0:
            break
        if tables.to_eject[state.content[gpu], k] != fewest or state.ready_us[gpu] > at_us:
            continue
        misfit = weights[W_MISFIT] if state.off_us[gpu] < work.end_us[period] else 0.0
        n, cost = _eject(
            state,
            work,
            tables,
            fleet,
            limits,
            weights,
            budget,
            gpu,
            k,
            boundary_us,
            misfit,
            best,
            ejected,
            targets,
            migrates,
        )
        if cost < best:
            best = cost
            chosen = gpu
            best_n = n
            best_ejected[:] = ejected
            best_targets[:] = targets
            best_migrates[:] = migrates
    for z in range(best_n):
        _relocate(
            state,
            work,
            tables,
            budget,
            trail,
            chosen,
            best_ejected[z],
            best_targets[z],
            best_migrates[z],
            at_us,
            boundary_us,
        )
    return chosen


@inner
def _eject(
    state: State,
    work: Work,
    tables: Tables,
    fleet: Fleet,
    limits: Limits,
    weights: RealArray,
    budget: RealArray,
    gpu: int,
    k: int,
    boundary_us: int,
    cost: float,
    cost_max: float,
    ejected: IntArray,
    targets: IntArray,
    migrates: npt.NDArray[np.bool_],
) -> tuple[int, float]:
    """Choose members to go until one of class k fits on time: how many, and the cost, which is FAR where none fits.

    `cost` is where counting begins; it is given up at `cost_max`. The choice is left in the three arrays.
    """
    content = state.content[gpu]
    n = 0
    moves_more = 0
    fits = False
    while n < EJECTED_MAX and cost < cost_max and not fits:
        pick = -1
        pick_score = FAR
        pick_cost = 0.0
        for slot in range(state.members[gpu]):
            member = state.member[gpu, slot]
            value = tables.class_value[work.class_index[member]]
            if value >= tables.class_value[k] or _among(ejected, n, member):
                continue
            other, move, extra = _other_place(
                state, work, tables, fleet, limits, weights, budget, gpu, slot, boundary_us, targets, n, moves_more
            )
            if other >= 0 and extra - 0.5 * value < pick_score:
                pick_score = extra - 0.5 * value
                pick_cost = extra
                pick = member
                targets[n] = other
                migrates[n] = move
        if pick < 0:
            break
        ejected[n] = pick
        moves_more += 1 if migrates[n] else 0
        n += 1
        cost += pick_cost + 0.01
        content = tables.remove[content, work.class_index[pick]]
        after = tables.add[content, k]
        fits = after >= 0 and tables.late[after] == 0
    if not fits:
        return n, FAR
    after = tables.add[content, k]
    return n, cost + packing(weights, tables.waste[after] - tables.waste[content], tables.room[after])


@inner
def _other_place(
    state: State,
    work: Work,
    tables: Tables,
    fleet: Fleet,
    limits: Limits,
    weights: RealArray,
    budget: RealArray,
    gpu: int,
    slot: int,
    boundary_us: int,
    taken: IntArray,
    taken_count: int,
    moves_more: int,
) -> tuple[int, bool, float]:
    """Where a member could have been instead: since its piece began, or since the last boundary (a migration)."""
    period = state.member[gpu, slot]
    k = work.class_index[period]
    since_us = state.since_us[gpu, slot]
    end_us = work.end_us[period]
    at_boundary = since_us < boundary_us
    may_move = (
        at_boundary
        and weights[W_MOVE] < FAR
        and budget[B_MOVES] + moves_more + 1 <= limits.moves
        and budget[B_GIB] + tables.state_gib[k] * (moves_more + 1) <= limits.gib
        and moves_out(budget, gpu) + moves_more + 1 <= limits.out_per_gpu
    )
    may_shift = not state.moved[gpu, slot] and (not at_boundary or fleet.roomy[gpu])
    best = FAR
    chosen = -1
    migrates = False
    if not may_move and not may_shift:
        return chosen, migrates, best
    for position in range(state.cursor[I_ON]):
        other = state.on_list[position]
        if other == gpu:
            continue
        before = state.content[other]
        after = tables.add[before, k]
        if after < 0 or tables.late[after] > 0:
            continue
        if at_boundary and not has_memory(state.boundary_gib[other] + tables.state_gib[k], fleet.memory_gib[other]):
            continue
        blocked_us = max(state.blocked_us[other, k], state.ready_us[other])
        score = 0.0
        move = False
        if not (may_shift and blocked_us <= since_us):
            if not (may_move and blocked_us <= boundary_us and moves_in(budget, other) + 1 <= limits.in_per_gpu):
                continue
            score = weights[W_MOVE]
            move = True
        if _among(taken, taken_count, other):
            continue
        if state.off_us[other] < end_us:
            score += weights[W_MISFIT]
        score += packing(weights, tables.waste[after] - tables.waste[before], tables.room[after])
        if score < best:
            best = score
            chosen = other
            migrates = move
    return chosen, migrates, best


@inner
def _relocate(
    state: State,
    work: Work,
    tables: Tables,
    budget: RealArray,
    trail: Trail,
    gpu: int,
    period: int,
    other: int,
    migrates: bool,
    at_us: int,
    boundary_us: int,
) -> None:
    """Rewrite the past: the member was on `other` since its piece began, or since the last boundary."""
    slot = slot_of(state, gpu, period)
    since_us = state.since_us[gpu, slot]
    k = work.class_index[period]
    note_blocked(state, tables, gpu, at_us)
    take(state, work, tables, gpu, slot)
    if since_us < boundary_us:
        state.boundary_gib[other] += tables.state_gib[k]
    if migrates:
        emit(state, trail, period, gpu, since_us, boundary_us)
        charge(budget, gpu, other, tables.state_gib[k])
        since_us = boundary_us
    put(state, work, tables, other, period, since_us, migrates)
    for c in range(tables.add.shape[1]):
        state.blocked_us[other, c] = at_us


@inner
def _among(values: IntArray, count: int, wanted: int) -> bool:
    """Whether one of the first `count` values is the wanted one."""
    found = False
    for position in range(count):
        found = found or values[position] == wanted
    return found
