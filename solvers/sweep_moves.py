"""Migrations at an epoch boundary: their budget, emptying GPUs, lowering waste.

Decides which sessions move and whether they may; must never know what happens within an epoch.
"""

from __future__ import annotations

import numpy as np

from solvers.numba_kernel import inner
from solvers.sweep_choice import packing
from solvers.sweep_state import (
    FAR,
    I_ON,
    W_IMPROVE,
    W_MISFIT,
    Fleet,
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
    take,
)

# The budget's array
B_MOVES = 0
B_GIB = 1
B_OUT = 2  # from here on one per GPU for its outgoing migrations, then one per GPU for its incoming ones


@inner
def new_budget(gpus: int) -> RealArray:
    """What was spent at a boundary: [moves, gib, out per gpu..., in per gpu...]."""
    return np.zeros(B_OUT + 2 * gpus)


@inner
def moves_out(budget: RealArray, gpu: int) -> float:
    """Migrations out of a GPU at this boundary."""
    return float(budget[B_OUT + gpu])


@inner
def moves_in(budget: RealArray, gpu: int) -> float:
    """Migrations into a GPU at this boundary."""
    return float(budget[(len(budget) + B_OUT) // 2 + gpu])


@inner
def charge(budget: RealArray, source: int, target: int, gib: float) -> None:
    """Count a migration."""
    budget[B_MOVES] += 1
    budget[B_GIB] += gib
    budget[B_OUT + source] += 1
    budget[(len(budget) + B_OUT) // 2 + target] += 1


@inner
def may_charge(limits: Limits, budget: RealArray, source: int, target: int, gib: float) -> bool:
    """Whether the budget allows one more migration."""
    return bool(
        budget[B_MOVES] + 1 <= limits.moves
        and budget[B_GIB] + gib <= limits.gib + 1e-9
        and moves_out(budget, source) + 1 <= limits.out_per_gpu
        and moves_in(budget, target) + 1 <= limits.in_per_gpu
    )


@inner
def migrate_away(
    state: State,
    work: Work,
    tables: Tables,
    fleet: Fleet,
    limits: Limits,
    weights: RealArray,
    budget: RealArray,
    trail: Trail,
    gpu: int,
    slot: int,
    epoch: int,
) -> bool:
    """Move one member to the best GPU that stays on, at the epoch boundary that is now; False if there is none."""
    boundary_us = epoch * limits.epoch_us
    period = state.member[gpu, slot]
    k = work.class_index[period]
    best = FAR
    chosen = -1
    for position in range(state.cursor[I_ON]):
        other = state.on_list[position]
        if other == gpu or not fleet.planned[other, epoch] or state.ready_us[other] > boundary_us:
            continue
        before = state.content[other]
        after = tables.add[before, k]
        if after < 0 or tables.late[after] > tables.late[before]:
            continue
        if not may_charge(limits, budget, gpu, other, tables.state_gib[k]):
            continue
        if not has_memory(state.boundary_gib[other] + tables.state_gib[k], fleet.memory_gib[other]):
            continue
        score = packing(weights, tables.waste[after] - tables.waste[before], tables.room[after])
        if state.off_us[other] < work.end_us[period]:
            score += weights[W_MISFIT]
        if score < best:
            best = score
            chosen = other
    if chosen < 0:
        return False
    migrate(state, work, tables, budget, trail, gpu, slot, chosen, boundary_us)
    return True


@inner
def migrate(
    state: State,
    work: Work,
    tables: Tables,
    budget: RealArray,
    trail: Trail,
    gpu: int,
    slot: int,
    target: int,
    boundary_us: int,
) -> None:
    """Move the member in a slot to `target` at the boundary that is now."""
    period = state.member[gpu, slot]
    gib = tables.state_gib[work.class_index[period]]
    charge(budget, gpu, target, gib)
    state.boundary_gib[target] += gib
    emit(state, trail, period, gpu, state.since_us[gpu, slot], boundary_us)
    note_blocked(state, tables, gpu, boundary_us)
    take(state, work, tables, gpu, slot)
    note_blocked(state, tables, target, boundary_us)
    put(state, work, tables, target, period, boundary_us, True)


@inner
def improve(
    state: State,
    work: Work,
    tables: Tables,
    fleet: Fleet,
    limits: Limits,
    weights: RealArray,
    budget: RealArray,
    trail: Trail,
    boundary_us: int,
) -> None:
    """Move the session whose move lowers total waste most, again and again, while it gains at least W_IMPROVE."""
    for _ in range(4 * state.content.shape[0]):
        best = -weights[W_IMPROVE]
        source = -1
        source_slot = -1
        target = -1
        for k in range(tables.add.shape[1]):
            place, rise_there, second_place, second_rise = _two_best(
                state, tables, fleet, limits, budget, k, boundary_us
            )
            if place < 0:
                continue
            for position in range(state.cursor[I_ON]):
                gpu = state.on_list[position]
                content = state.content[gpu]
                if tables.remove[content, k] < 0:
                    continue
                rise = rise_there if gpu != place else second_rise
                goal = place if gpu != place else second_place
                if goal < 0:
                    continue
                gain = rise + tables.waste[tables.remove[content, k]] - tables.waste[content]
                if gain >= best or not may_charge(limits, budget, gpu, goal, tables.state_gib[k]):
                    continue
                slot = _longest(state, work, gpu, k, boundary_us)
                if slot >= 0:
                    best = gain
                    source = gpu
                    source_slot = slot
                    target = goal
        if source < 0:
            return
        migrate(state, work, tables, budget, trail, source, source_slot, target, boundary_us)


@inner
def _two_best(
    state: State, tables: Tables, fleet: Fleet, limits: Limits, budget: RealArray, k: int, boundary_us: int
) -> tuple[int, float, int, float]:
    """The two GPUs whose waste one more of the class raises least, -1 for none, each with its rise."""
    place = -1
    cheapest = FAR
    second_place = -1
    second = FAR
    for position in range(state.cursor[I_ON]):
        gpu = state.on_list[position]
        after = tables.add[state.content[gpu], k]
        if after < 0 or tables.late[after] > 0 or moves_in(budget, gpu) + 1 > limits.in_per_gpu:
            continue
        if state.ready_us[gpu] > boundary_us or not has_memory(
            state.boundary_gib[gpu] + tables.state_gib[k], fleet.memory_gib[gpu]
        ):
            continue
        rise = tables.waste[after] - tables.waste[state.content[gpu]]
        if rise < cheapest:
            second = cheapest
            second_place = place
            cheapest = rise
            place = gpu
        elif rise < second:
            second = rise
            second_place = gpu
    return place, cheapest, second_place, second


@inner
def _longest(state: State, work: Work, gpu: int, k: int, boundary_us: int) -> int:
    """The slot of the class's member that goes on longest after the boundary and was there before it, or -1."""
    longest = -1
    for slot in range(state.members[gpu]):
        member = state.member[gpu, slot]
        if work.class_index[member] != k or state.since_us[gpu, slot] >= boundary_us:
            continue
        if longest < 0 or work.end_us[member] > work.end_us[state.member[gpu, longest]]:
            longest = slot
    if longest >= 0 and work.end_us[state.member[gpu, longest]] <= boundary_us:
        return -1
    return longest
