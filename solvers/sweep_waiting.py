"""Sessions without a GPU: who is interrupted, who waits, and who is served first again.

Decides the order in which those who wait go on; must never know whether a GPU could have been opened for them.
"""

from __future__ import annotations

from solvers.numba_kernel import inner
from solvers.sweep_moves import charge, may_charge
from solvers.sweep_state import (
    I_ON,
    I_WAITING,
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

CONTINUED = -2  # in State.last_gpu for a moment: the period goes on and leaves those who wait


@inner
def admit(state: State, work: Work, tables: Tables, gpu: int, at_us: int) -> None:
    """Serve those who wait on this GPU while it can take them: highest priority first, then longest waiting."""
    while state.active[gpu] and state.ready_us[gpu] <= at_us:
        best = -1
        kept = 0
        for position in range(state.cursor[I_WAITING]):
            period = state.waiting[position]
            if work.end_us[period] <= at_us:
                continue
            state.waiting[kept] = period
            kept += 1
        state.cursor[I_WAITING] = kept
        for position in range(kept):
            period = state.waiting[position]
            if tables.add[state.content[gpu], work.class_index[period]] < 0:
                continue
            if state.last_gpu[period] >= 0 and state.last_gpu[period] != gpu:
                continue
            if best < 0 or work.priority[period] > work.priority[state.waiting[best]]:
                best = position
        if best < 0:
            return
        period = state.waiting[best]
        for position in range(best, kept - 1):
            state.waiting[position] = state.waiting[position + 1]
        state.cursor[I_WAITING] = kept - 1
        note_blocked(state, tables, gpu, at_us)
        put(state, work, tables, gpu, period, at_us, True)


@inner
def interrupt_for(state: State, work: Work, tables: Tables, trail: Trail, period: int, at_us: int) -> int:
    """Interrupt the least important session whose place the period can take; -1 if none is less important."""
    k = work.class_index[period]
    chosen = -1
    chosen_slot = -1
    lowest = work.priority[period]
    for position in range(state.cursor[I_ON]):
        gpu = state.on_list[position]
        if state.ready_us[gpu] > at_us:
            continue
        for slot in range(state.members[gpu]):
            member = state.member[gpu, slot]
            if work.priority[member] >= lowest:
                continue
            if tables.add[tables.remove[state.content[gpu], work.class_index[member]], k] >= 0:
                lowest = work.priority[member]
                chosen = gpu
                chosen_slot = slot
    if chosen >= 0:
        member = state.member[chosen, chosen_slot]
        emit(state, trail, member, chosen, state.since_us[chosen, chosen_slot], at_us)
        note_blocked(state, tables, chosen, at_us)
        take(state, work, tables, chosen, chosen_slot)
        state.last_gpu[member] = chosen
        state.waiting[state.cursor[I_WAITING]] = member
        state.cursor[I_WAITING] += 1
    return chosen


@inner
def serve_waiting(
    state: State, work: Work, tables: Tables, fleet: Fleet, limits: Limits, budget: RealArray, boundary_us: int
) -> None:
    """At a boundary an interrupted session may go on anywhere, as a migration."""
    for position in range(state.cursor[I_WAITING]):
        period = state.waiting[position]
        source = state.last_gpu[period]
        if source < 0 or work.end_us[period] <= boundary_us:
            continue
        k = work.class_index[period]
        for other_position in range(state.cursor[I_ON]):
            target = state.on_list[other_position]
            if target == source or tables.add[state.content[target], k] < 0 or state.ready_us[target] > boundary_us:
                continue
            if not has_memory(state.boundary_gib[target] + tables.state_gib[k], fleet.memory_gib[target]):
                continue
            if may_charge(limits, budget, source, target, tables.state_gib[k]):
                charge(budget, source, target, tables.state_gib[k])
                state.boundary_gib[target] += tables.state_gib[k]
                note_blocked(state, tables, target, boundary_us)
                put(state, work, tables, target, period, boundary_us, True)
                state.last_gpu[period] = CONTINUED
                break
    kept = 0
    for position in range(state.cursor[I_WAITING]):
        period = state.waiting[position]
        if state.last_gpu[period] == CONTINUED:
            state.last_gpu[period] = -1
        else:
            state.waiting[kept] = period
            kept += 1
    state.cursor[I_WAITING] = kept
    for position in range(state.cursor[I_ON]):
        if state.cursor[I_WAITING] > 0:
            admit(state, work, tables, state.on_list[position], boundary_us)
