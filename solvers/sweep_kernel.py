"""Placing active periods on GPUs in one sweep over time, with hindsight: the compiled loop over epochs.

Decides what is tried in which order, given which GPUs are meant to be on; must never know prices, bounds or names. A
period goes where it wastes least; where none fits, sessions that could as well have been elsewhere since they started
make room; then a GPU is opened for the rest of the epoch; then it is served late, or waits.
"""

from __future__ import annotations

from solvers.numba_kernel import inner, kernel
from solvers.sweep_choice import best_gpu, open_gpu
from solvers.sweep_moves import B_MOVES, improve, migrate_away, new_budget
from solvers.sweep_room import make_room
from solvers.sweep_state import (
    I_ARRIVAL,
    I_END,
    I_ON,
    I_WAITING,
    N_KEPT_ON,
    N_LATE,
    N_MOVES,
    N_UNSERVED,
    W_IMPROVE,
    Fleet,
    Limits,
    RealArray,
    State,
    Tables,
    Trail,
    Work,
    emit,
    note_blocked,
    put,
    slot_of,
    switch,
    take,
)
from solvers.sweep_waiting import admit, interrupt_for, serve_waiting


@kernel
def run_epochs(
    state: State,
    work: Work,
    tables: Tables,
    fleet: Fleet,
    limits: Limits,
    weights: RealArray,
    trail: Trail,
    first: int,
    last: int,
) -> None:
    """Sweep epochs [first, last); `state` and `trail` are changed in place."""
    periods = work.start_us.shape[0]
    budget = new_budget(state.content.shape[0])
    for epoch in range(first, last):
        boundary_us = epoch * limits.epoch_us
        trail.counts[epoch, :] = 0
        trail.opened[:, epoch] = False
        _end_until(state, work, tables, trail, boundary_us)
        _boundary(state, work, tables, fleet, limits, weights, budget, trail, epoch)
        while (
            state.cursor[I_ARRIVAL] < periods and work.start_us[state.cursor[I_ARRIVAL]] < boundary_us + limits.epoch_us
        ):
            period = state.cursor[I_ARRIVAL]
            state.cursor[I_ARRIVAL] += 1
            _end_until(state, work, tables, trail, work.start_us[period])
            _arrive(state, work, tables, fleet, limits, weights, budget, trail, period, epoch)
        trail.counts[epoch, N_MOVES] = int(budget[B_MOVES])
    if last == fleet.planned.shape[1]:
        _end_until(state, work, tables, trail, 2**62)


@inner
def _boundary(
    state: State,
    work: Work,
    tables: Tables,
    fleet: Fleet,
    limits: Limits,
    weights: RealArray,
    budget: RealArray,
    trail: Trail,
    epoch: int,
) -> None:
    """Switch GPUs on, empty those that are meant to go off, serve who waits, improve what can be."""
    boundary_us = epoch * limits.epoch_us
    budget[:] = 0.0
    for position in range(state.cursor[I_ON]):
        gpu = state.on_list[position]
        state.boundary_gib[gpu] = tables.memory_gib[state.content[gpu]]
    _switch_on(state, tables, fleet, limits, epoch)
    _switch_off(state, work, tables, fleet, limits, weights, budget, trail, epoch)
    if state.cursor[I_WAITING] > 0:
        serve_waiting(state, work, tables, fleet, limits, budget, boundary_us)
    if weights[W_IMPROVE] > 0:
        improve(state, work, tables, fleet, limits, weights, budget, trail, boundary_us)


@inner
def _switch_on(state: State, tables: Tables, fleet: Fleet, limits: Limits, epoch: int) -> None:
    """GPUs that are meant to be on in this epoch, and until when they are."""
    boundary_us = epoch * limits.epoch_us
    gpus, epochs = fleet.planned.shape
    for gpu in range(gpus):
        if not fleet.planned[gpu, epoch]:
            continue
        if not state.active[gpu]:
            switch(state, tables, gpu, True, boundary_us)
            state.off_us[gpu] = boundary_us
            state.ready_us[gpu] = max(fleet.usable_us[gpu], boundary_us + fleet.offset_us[gpu])
        if state.off_us[gpu] <= boundary_us:
            last = epoch
            while last < epochs and fleet.planned[gpu, last]:
                last += 1
            state.off_us[gpu] = last * limits.epoch_us if last < epochs else 2**62


@inner
def _switch_off(
    state: State,
    work: Work,
    tables: Tables,
    fleet: Fleet,
    limits: Limits,
    weights: RealArray,
    budget: RealArray,
    trail: Trail,
    epoch: int,
) -> None:
    """Empty GPUs that are not meant to be on in this epoch; one that cannot be emptied stays on."""
    boundary_us = epoch * limits.epoch_us
    for gpu in range(fleet.planned.shape[0] - 1, -1, -1):
        if not state.active[gpu] or fleet.planned[gpu, epoch]:
            continue
        slot = 0
        while slot < state.members[gpu]:
            if not migrate_away(state, work, tables, fleet, limits, weights, budget, trail, gpu, slot, epoch):
                slot += 1
        if state.members[gpu] == 0:
            switch(state, tables, gpu, False, boundary_us)
        else:
            trail.opened[gpu, epoch] = True
            trail.counts[epoch, N_KEPT_ON] += 1
            state.off_us[gpu] = boundary_us + limits.epoch_us


@inner
def _end_until(state: State, work: Work, tables: Tables, trail: Trail, until_us: int) -> None:
    """Close every period that ends up to now; who waits may take the freed place."""
    periods = work.start_us.shape[0]
    while state.cursor[I_END] < periods and work.end_us[work.by_end[state.cursor[I_END]]] <= until_us:
        period = work.by_end[state.cursor[I_END]]
        state.cursor[I_END] += 1
        gpu = state.gpu_of[period]
        if gpu < 0:
            continue
        slot = slot_of(state, gpu, period)
        end_us = work.end_us[period]
        emit(state, trail, period, gpu, state.since_us[gpu, slot], end_us)
        note_blocked(state, tables, gpu, end_us)
        take(state, work, tables, gpu, slot)
        if state.cursor[I_WAITING] > 0:
            admit(state, work, tables, gpu, end_us)


@inner
def _arrive(
    state: State,
    work: Work,
    tables: Tables,
    fleet: Fleet,
    limits: Limits,
    weights: RealArray,
    budget: RealArray,
    trail: Trail,
    period: int,
    epoch: int,
) -> None:
    """Put a period that begins now; what is tried comes in the order of what it costs."""
    at_us = work.start_us[period]
    boundary_us = epoch * limits.epoch_us
    k = work.class_index[period]
    gpu = -1
    if work.home[period] >= 0:
        home = work.home[period]
        if state.active[home] and tables.add[state.content[home], k] >= 0:
            gpu = home
        else:
            state.last_gpu[period] = home
    else:
        gpu = best_gpu(state, work, tables, weights, period, at_us, False)
        if gpu < 0:
            gpu = make_room(state, work, tables, fleet, limits, weights, budget, trail, period, at_us, boundary_us)
        if gpu < 0:
            gpu = open_gpu(state, tables, fleet, trail, limits, epoch, k, at_us)
        if gpu < 0:
            gpu = best_gpu(state, work, tables, weights, period, at_us, True)
            if gpu >= 0:
                trail.counts[epoch, N_LATE] += 1
        if gpu < 0:
            gpu = interrupt_for(state, work, tables, trail, period, at_us)
            if gpu >= 0:
                trail.counts[epoch, N_UNSERVED] += 1
    if gpu < 0:
        state.waiting[state.cursor[I_WAITING]] = period
        state.cursor[I_WAITING] += 1
        trail.counts[epoch, N_UNSERVED] += 1
        return
    note_blocked(state, tables, gpu, at_us)
    put(state, work, tables, gpu, period, at_us, False)
