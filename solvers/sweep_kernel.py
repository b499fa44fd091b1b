"""Placing active periods on GPUs in one sweep over time, with hindsight: the compiled inner loop.

Decides on which GPU each period runs, given which GPUs are meant to be on; must never know prices, bounds or names. A
period goes where it wastes least; where none fits, sessions that could as well have been elsewhere since they started
make room; then a GPU is opened for the rest of the epoch; then it is served late, or waits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solvers.numba_kernel import inner, kernel

IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
RealArray = npt.NDArray[np.float64]

FAR = 1e300
EJECTED_MAX = 5  # sessions that may make room for one


class Work(NamedTuple):
    """What is to be placed; sorted by start."""

    start_us: LongArray
    end_us: LongArray
    class_index: IntArray
    priority: IntArray
    home: IntArray
    by_end: IntArray  # periods in the order of their ends


class Tables(NamedTuple):
    """Contents of all GPU types, one after another, and what they are worth."""

    add: IntArray  # [contents, classes]
    remove: IntArray  # [contents, classes]
    late: IntArray  # [contents]
    memory_gib: RealArray  # [contents]
    waste: RealArray  # [contents]: value that no completion of this content can use any more (or session latency)
    room: RealArray  # [contents]: share of the GPU that is free, by value
    class_value: RealArray  # [classes]
    to_eject: IntArray  # [contents, classes]: fewest lighter sessions to remove so that one more fits on time
    state_gib: RealArray  # [classes]


class Fleet(NamedTuple):
    """GPUs and when they are meant to be on."""

    planned: npt.NDArray[np.bool_]  # [gpus, epochs]
    empty: IntArray  # [gpus]: content of the empty GPU
    usable_us: LongArray  # [gpus]: never usable before
    offset_us: LongArray  # [gpus]: into an epoch, when a GPU switched on at an epoch boundary becomes usable
    memory_gib: RealArray  # [gpus]
    open_cost: RealArray  # [gpus]: of opening it for one epoch
    lead: IntArray  # [gpus]: epochs of start-up that an opening pays for
    roomy: npt.NDArray[np.bool_]  # [gpus]: memory holds any content twice, so migrations never exceed it


class Limits(NamedTuple):
    """Migration budget of one epoch boundary, and the epoch."""

    epoch_us: int
    moves: int
    out_per_gpu: int
    in_per_gpu: int
    gib: float


class State(NamedTuple):
    """Where everything stands at the start of an epoch; changed in place."""

    cursor: LongArray  # [5]
    content: IntArray  # [gpus]
    member: IntArray  # [gpus, slots]: periods
    since_us: LongArray  # [gpus, slots]: start of the member's piece
    moved: npt.NDArray[np.bool_]  # [gpus, slots]: the piece began with a migration
    members: IntArray  # [gpus]: how many
    off_us: LongArray  # [gpus]: when the GPU is meant to go off
    active: npt.NDArray[np.bool_]  # [gpus]
    ready_us: LongArray  # [gpus]: takes sessions from then on
    last_end_us: LongArray  # [gpus]: end of its longest member
    blocked_us: LongArray  # [gpus, classes]: until then the GPU could not have taken one more
    gpu_of: IntArray  # [periods], -1: nowhere
    waiting: IntArray  # [periods]: the first cursor[I_WAITING] wait for a GPU
    last_gpu: IntArray  # [periods]: where an interrupted period was served last, -1: nowhere
    boundary_gib: RealArray  # [gpus]: memory held at the last epoch boundary, both sides of migrations counted
    on_list: IntArray  # [gpus]: the first cursor[I_ON] are active


class Trail(NamedTuple):
    """What the sweep leaves behind."""

    opened: npt.NDArray[np.bool_]  # [gpus, epochs]: on although not planned
    counts: LongArray  # [epochs, 6]
    period: IntArray  # rows: pieces in the order of their ends
    gpu: IntArray
    start_us: LongArray
    end_us: LongArray


@inner
def _emit(state: State, trail: Trail, period: int, gpu: int, start_us: int, end_us: int) -> None:
    if end_us > start_us:
        row = state.cursor[2]
        trail.period[row] = period
        trail.gpu[row] = gpu
        trail.start_us[row] = start_us
        trail.end_us[row] = end_us
        state.cursor[2] = row + 1


@inner
def _note_blocked(state: State, tables: Tables, gpu: int, at_us: int) -> None:
    """Remember which classes the GPU could not have taken up to now; called before its content changes."""
    content = state.content[gpu]
    for k in range(tables.add.shape[1]):
        if tables.add[content, k] < 0:
            state.blocked_us[gpu, k] = at_us


@inner
def _put(state: State, work: Work, tables: Tables, gpu: int, period: int, since_us: int, moved: bool) -> None:
    slot = state.members[gpu]
    state.member[gpu, slot] = period
    state.since_us[gpu, slot] = since_us
    state.moved[gpu, slot] = moved
    state.members[gpu] = slot + 1
    state.content[gpu] = tables.add[state.content[gpu], work.class_index[period]]
    state.gpu_of[period] = gpu
    if slot == 0 or work.end_us[period] > state.last_end_us[gpu]:
        state.last_end_us[gpu] = work.end_us[period]


@inner
def _take(state: State, work: Work, tables: Tables, gpu: int, slot: int) -> None:
    period = state.member[gpu, slot]
    last = state.members[gpu] - 1
    state.member[gpu, slot] = state.member[gpu, last]
    state.since_us[gpu, slot] = state.since_us[gpu, last]
    state.moved[gpu, slot] = state.moved[gpu, last]
    state.members[gpu] = last
    state.content[gpu] = tables.remove[state.content[gpu], work.class_index[period]]
    state.gpu_of[period] = -1
    if work.end_us[period] >= state.last_end_us[gpu]:
        longest = 0
        for s in range(last):
            longest = max(longest, work.end_us[state.member[gpu, s]])
        state.last_end_us[gpu] = longest


@inner
def _slot_of(state: State, gpu: int, period: int) -> int:
    for slot in range(state.members[gpu]):
        if state.member[gpu, slot] == period:
            return slot
    return -1


@inner
def _switch(state: State, tables: Tables, gpu: int, on: bool, at_us: int) -> None:
    """Make a GPU take sessions, or stop doing so."""
    state.active[gpu] = on
    n = state.cursor[4]
    if on:
        state.on_list[n] = gpu
        state.cursor[4] = n + 1
        for k in range(tables.add.shape[1]):
            state.blocked_us[gpu, k] = at_us
        state.boundary_gib[gpu] = 0.0
        return
    for position in range(n):
        if state.on_list[position] == gpu:
            for later in range(position, n - 1):
                state.on_list[later] = state.on_list[later + 1]
            break
    state.cursor[4] = n - 1


@inner
def _best_gpu(state: State, work: Work, tables: Tables, weights: RealArray, period: int, at_us: int, late: bool) -> int:
    """The GPU on which the period does least harm, or -1; on time unless `late` is allowed."""
    k = work.class_index[period]
    end_us = work.end_us[period]
    best = FAR
    chosen = -1
    for position in range(state.cursor[4]):
        gpu = state.on_list[position]
        before = state.content[gpu]
        after = tables.add[before, k]
        if after < 0 or state.ready_us[gpu] > at_us:
            continue
        score = weights[0] * (tables.waste[after] - tables.waste[before]) + weights[3] * tables.room[after]
        if tables.late[after] > 0:
            if not late:
                continue
            score += 1e6 * (tables.late[after] - tables.late[before])
        spare_us = state.off_us[gpu] - end_us
        if spare_us < 0:
            score += weights[1] + weights[4] * min(1.0, -spare_us / 600e6)
        else:
            score += weights[2] * min(1.0, spare_us / 3600e6)
        if state.members[gpu] > 0:
            score += weights[5] * min(1.0, abs(state.last_end_us[gpu] - end_us) / 300e6)
        if score < best:
            best = score
            chosen = gpu
    return chosen


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
        and weights[6] < FAR
        and budget[0] + moves_more + 1 <= limits.moves
        and budget[1] + tables.state_gib[k] * (moves_more + 1) <= limits.gib
        and state_out(budget, gpu) + moves_more + 1 <= limits.out_per_gpu
    )
    may_shift = not state.moved[gpu, slot] and (not at_boundary or fleet.roomy[gpu])
    best = FAR
    chosen = -1
    migrates = False
    if not may_move and not may_shift:
        return chosen, migrates, best
    gpus = state.content.shape[0]
    for position in range(state.cursor[4]):
        other = state.on_list[position]
        if other == gpu:
            continue
        before = state.content[other]
        after = tables.add[before, k]
        if after < 0 or tables.late[after] > 0:
            continue
        if at_boundary and state.boundary_gib[other] + tables.state_gib[k] > fleet.memory_gib[other] + 1e-9:
            continue
        blocked_us = max(state.blocked_us[other, k], state.ready_us[other])
        score = 0.0
        move = False
        if not (may_shift and blocked_us <= since_us):
            if not (may_move and blocked_us <= boundary_us and budget[2 + gpus + other] + 1 <= limits.in_per_gpu):
                continue
            score = weights[6]
            move = True
        used = False
        for z in range(taken_count):
            used = used or taken[z] == other
        if used:
            continue
        if state.off_us[other] < end_us:
            score += weights[1]
        score += weights[0] * (tables.waste[after] - tables.waste[before]) + weights[3] * tables.room[after]
        if score < best:
            best = score
            chosen = other
            migrates = move
    return chosen, migrates, best


@inner
def state_out(budget: RealArray, gpu: int) -> float:
    """Migrations out of a GPU at this boundary; `budget` is [moves, gib, out per gpu..., in per gpu...]."""
    return float(budget[2 + gpu])


@inner
def _make_room(
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
    """Free a GPU for the period by putting lighter members where they could have been all along; -1 if none can be."""
    k = work.class_index[period]
    best = FAR
    chosen = -1
    ejected = np.zeros(EJECTED_MAX, np.int32)
    targets = np.zeros(EJECTED_MAX, np.int32)
    migrates = np.zeros(EJECTED_MAX, np.bool_)
    best_ejected = np.zeros(EJECTED_MAX, np.int32)
    best_targets = np.zeros(EJECTED_MAX, np.int32)
    best_migrates = np.zeros(EJECTED_MAX, np.bool_)
    best_n = 0
    rounds = EJECTED_MAX * state.cursor[4]
    for step in range(rounds):
        gpu = state.on_list[step % state.cursor[4]]
        fewest = 1 + step // state.cursor[4]
        if chosen >= 0 and step % state.cursor[4] == 0:
            break
        if tables.to_eject[state.content[gpu], k] != fewest or state.ready_us[gpu] > at_us:
            continue
        content = state.content[gpu]
        cost = weights[1] if state.off_us[gpu] < work.end_us[period] else 0.0
        n = 0
        moves_more = 0
        fits = False
        while n < EJECTED_MAX and cost < best and not fits:
            pick = -1
            pick_target = -1
            pick_migrates = False
            pick_score = FAR
            pick_cost = 0.0
            for slot in range(state.members[gpu]):
                member = state.member[gpu, slot]
                member_class = work.class_index[member]
                if tables.class_value[member_class] >= tables.class_value[k]:
                    continue
                known = False
                for z in range(n):
                    known = known or ejected[z] == member
                if known:
                    continue
                other, move, extra = _other_place(
                    state, work, tables, fleet, limits, weights, budget, gpu, slot, boundary_us, targets, n, moves_more
                )
                if other >= 0 and extra - 0.5 * tables.class_value[member_class] < pick_score:
                    pick_score = extra - 0.5 * tables.class_value[member_class]
                    pick_cost = extra
                    pick = member
                    pick_target = other
                    pick_migrates = move
            if pick < 0:
                break
            ejected[n] = pick
            targets[n] = pick_target
            migrates[n] = pick_migrates
            n += 1
            moves_more += 1 if pick_migrates else 0
            cost += pick_cost + 0.01
            content = tables.remove[content, work.class_index[pick]]
            after = tables.add[content, k]
            fits = after >= 0 and tables.late[after] == 0
        if not fits:
            continue
        after = tables.add[content, k]
        cost += weights[0] * (tables.waste[after] - tables.waste[content]) + weights[3] * tables.room[after]
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
    slot = _slot_of(state, gpu, period)
    since_us = state.since_us[gpu, slot]
    k = work.class_index[period]
    _note_blocked(state, tables, gpu, at_us)
    _take(state, work, tables, gpu, slot)
    if since_us < boundary_us:
        state.boundary_gib[other] += tables.state_gib[k]
    if migrates:
        _emit(state, trail, period, gpu, since_us, boundary_us)
        _charge(budget, state.content.shape[0], gpu, other, tables.state_gib[k])
        since_us = boundary_us
    _put(state, work, tables, other, period, since_us, migrates)
    for c in range(tables.add.shape[1]):
        state.blocked_us[other, c] = at_us


@inner
def _charge(budget: RealArray, gpus: int, source: int, target: int, gib: float) -> None:
    budget[0] += 1
    budget[1] += gib
    budget[2 + source] += 1
    budget[2 + gpus + target] += 1


@inner
def _may_charge(limits: Limits, budget: RealArray, gpus: int, source: int, target: int, gib: float) -> bool:
    return bool(
        budget[0] + 1 <= limits.moves
        and budget[1] + gib <= limits.gib + 1e-9
        and budget[2 + source] + 1 <= limits.out_per_gpu
        and budget[2 + gpus + target] + 1 <= limits.in_per_gpu
    )


@inner
def _migrate_away(
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
    gpus = state.content.shape[0]
    best = FAR
    chosen = -1
    for position in range(state.cursor[4]):
        other = state.on_list[position]
        if other == gpu or not fleet.planned[other, epoch] or state.ready_us[other] > boundary_us:
            continue
        before = state.content[other]
        after = tables.add[before, k]
        if after < 0 or tables.late[after] > tables.late[before]:
            continue
        if not _may_charge(limits, budget, gpus, gpu, other, tables.state_gib[k]):
            continue
        if state.boundary_gib[other] + tables.state_gib[k] > fleet.memory_gib[other] + 1e-9:
            continue
        score = weights[0] * (tables.waste[after] - tables.waste[before]) + weights[3] * tables.room[after]
        if state.off_us[other] < work.end_us[period]:
            score += weights[1]
        if score < best:
            best = score
            chosen = other
    if chosen < 0:
        return False
    _migrate(state, work, tables, budget, trail, gpu, slot, chosen, boundary_us)
    return True


@inner
def _migrate(
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
    period = state.member[gpu, slot]
    gib = tables.state_gib[work.class_index[period]]
    _charge(budget, state.content.shape[0], gpu, target, gib)
    state.boundary_gib[target] += gib
    _emit(state, trail, period, gpu, state.since_us[gpu, slot], boundary_us)
    _note_blocked(state, tables, gpu, boundary_us)
    _take(state, work, tables, gpu, slot)
    _note_blocked(state, tables, target, boundary_us)
    _put(state, work, tables, target, period, boundary_us, True)


@inner
def _end_until(state: State, work: Work, tables: Tables, trail: Trail, until_us: int) -> None:
    """Close every period that ends up to now; who waits may take the freed place."""
    periods = work.start_us.shape[0]
    while state.cursor[1] < periods and work.end_us[work.by_end[state.cursor[1]]] <= until_us:
        period = work.by_end[state.cursor[1]]
        state.cursor[1] += 1
        gpu = state.gpu_of[period]
        if gpu < 0:
            continue
        slot = _slot_of(state, gpu, period)
        end_us = work.end_us[period]
        _emit(state, trail, period, gpu, state.since_us[gpu, slot], end_us)
        _note_blocked(state, tables, gpu, end_us)
        _take(state, work, tables, gpu, slot)
        if state.cursor[3] > 0:
            _admit(state, work, tables, gpu, end_us)


@inner
def _admit(state: State, work: Work, tables: Tables, gpu: int, at_us: int) -> None:
    """Serve those who wait on this GPU while it can take them: highest priority first, then longest waiting."""
    while state.active[gpu] and state.ready_us[gpu] <= at_us:
        best = -1
        kept = 0
        for position in range(state.cursor[3]):
            period = state.waiting[position]
            if work.end_us[period] <= at_us:
                continue
            state.waiting[kept] = period
            kept += 1
        state.cursor[3] = kept
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
        state.cursor[3] = kept - 1
        _note_blocked(state, tables, gpu, at_us)
        _put(state, work, tables, gpu, period, at_us, True)


@inner
def _interrupt_for(state: State, work: Work, tables: Tables, trail: Trail, period: int, at_us: int) -> int:
    """Interrupt the least important session whose place the period can take; -1 if none is less important."""
    k = work.class_index[period]
    chosen = -1
    chosen_slot = -1
    lowest = work.priority[period]
    for position in range(state.cursor[4]):
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
        _emit(state, trail, member, chosen, state.since_us[chosen, chosen_slot], at_us)
        _note_blocked(state, tables, chosen, at_us)
        _take(state, work, tables, chosen, chosen_slot)
        state.last_gpu[member] = chosen
        state.waiting[state.cursor[3]] = member
        state.cursor[3] += 1
    return chosen


@inner
def _open_gpu(
    state: State, tables: Tables, fleet: Fleet, trail: Trail, limits: Limits, epoch: int, k: int, at_us: int
) -> int:
    """Make the cheapest further GPU usable from the start of this epoch on; -1 if all are.

    A GPU that becomes usable later in this epoch anyway is switched on an epoch earlier.
    """
    best = FAR
    chosen = -1
    epochs = fleet.planned.shape[1]
    boundary_us = epoch * limits.epoch_us
    for gpu in range(fleet.planned.shape[0]):
        if fleet.usable_us[gpu] > at_us or (state.active[gpu] and state.ready_us[gpu] <= at_us):
            continue
        after = tables.add[fleet.empty[gpu], k]
        if after < 0 or tables.late[after] > 0:
            continue
        lead = fleet.lead[gpu]
        if state.active[gpu] or (epoch > 0 and (fleet.planned[gpu, epoch - 1] or trail.opened[gpu, epoch - 1])):
            lead = 0
        if epoch + 1 < epochs and fleet.planned[gpu, epoch + 1]:
            lead = 0
        cost = fleet.open_cost[gpu] * (1 + lead)
        if cost < best - 1e-12:
            best = cost
            chosen = gpu
    if chosen >= 0:
        trail.counts[epoch, 1] += 1
        if not state.active[chosen]:
            _switch(state, tables, chosen, True, boundary_us)
            state.off_us[chosen] = boundary_us + limits.epoch_us
            trail.opened[chosen, epoch] = True
        state.ready_us[chosen] = max(boundary_us, fleet.usable_us[chosen])
    return chosen


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
        gpu = _best_gpu(state, work, tables, weights, period, at_us, False)
        if gpu < 0:
            gpu = _make_room(state, work, tables, fleet, limits, weights, budget, trail, period, at_us, boundary_us)
        if gpu < 0:
            gpu = _open_gpu(state, tables, fleet, trail, limits, epoch, k, at_us)
        if gpu < 0:
            gpu = _best_gpu(state, work, tables, weights, period, at_us, True)
            if gpu >= 0:
                trail.counts[epoch, 5] += 1
        if gpu < 0:
            gpu = _interrupt_for(state, work, tables, trail, period, at_us)
            if gpu >= 0:
                trail.counts[epoch, 4] += 1
    if gpu < 0:
        state.waiting[state.cursor[3]] = period
        state.cursor[3] += 1
        trail.counts[epoch, 4] += 1
        return
    _note_blocked(state, tables, gpu, at_us)
    _put(state, work, tables, gpu, period, at_us, False)


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
    gpus, epochs = fleet.planned.shape
    budget[:] = 0.0
    for position in range(state.cursor[4]):
        gpu = state.on_list[position]
        held = tables.memory_gib[state.content[gpu]]
        state.boundary_gib[gpu] = held
    for gpu in range(gpus):
        if not fleet.planned[gpu, epoch]:
            continue
        if not state.active[gpu]:
            _switch(state, tables, gpu, True, boundary_us)
            state.off_us[gpu] = boundary_us
            state.ready_us[gpu] = max(fleet.usable_us[gpu], boundary_us + fleet.offset_us[gpu])
        if state.off_us[gpu] <= boundary_us:
            last = epoch
            while last < epochs and fleet.planned[gpu, last]:
                last += 1
            state.off_us[gpu] = last * limits.epoch_us if last < epochs else 2**62
    for gpu in range(gpus - 1, -1, -1):
        if not state.active[gpu] or fleet.planned[gpu, epoch]:
            continue
        slot = 0
        while slot < state.members[gpu]:
            if not _migrate_away(state, work, tables, fleet, limits, weights, budget, trail, gpu, slot, epoch):
                slot += 1
        if state.members[gpu] == 0:
            _switch(state, tables, gpu, False, boundary_us)
        else:
            trail.opened[gpu, epoch] = True
            trail.counts[epoch, 2] += 1
            state.off_us[gpu] = boundary_us + limits.epoch_us
    if state.cursor[3] > 0:
        _serve_waiting(state, work, tables, fleet, limits, budget, boundary_us)
    if weights[7] > 0:
        _improve(state, work, tables, fleet, limits, weights, budget, trail, epoch)


@inner
def _serve_waiting(
    state: State, work: Work, tables: Tables, fleet: Fleet, limits: Limits, budget: RealArray, boundary_us: int
) -> None:
    """At a boundary an interrupted session may go on anywhere, as a migration."""
    gpus = state.content.shape[0]
    for position in range(state.cursor[3]):
        period = state.waiting[position]
        source = state.last_gpu[period]
        if source < 0 or work.end_us[period] <= boundary_us:
            continue
        k = work.class_index[period]
        for other_position in range(state.cursor[4]):
            target = state.on_list[other_position]
            if target == source or tables.add[state.content[target], k] < 0 or state.ready_us[target] > boundary_us:
                continue
            if state.boundary_gib[target] + tables.state_gib[k] > fleet.memory_gib[target] + 1e-9:
                continue
            if _may_charge(limits, budget, gpus, source, target, tables.state_gib[k]):
                _charge(budget, gpus, source, target, tables.state_gib[k])
                state.boundary_gib[target] += tables.state_gib[k]
                _note_blocked(state, tables, target, boundary_us)
                _put(state, work, tables, target, period, boundary_us, True)
                state.last_gpu[period] = -2
                break
    kept = 0
    for position in range(state.cursor[3]):
        period = state.waiting[position]
        if state.last_gpu[period] == -2:
            state.last_gpu[period] = -1
        else:
            state.waiting[kept] = period
            kept += 1
    state.cursor[3] = kept
    for position in range(state.cursor[4]):
        if state.cursor[3] > 0:
            _admit(state, work, tables, state.on_list[position], boundary_us)


@inner
def _improve(
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
    """Move the session whose move lowers total waste most, again and again, while it gains at least `IMPROVE`."""
    boundary_us = epoch * limits.epoch_us
    gpus = state.content.shape[0]
    classes = tables.add.shape[1]
    for _ in range(4 * gpus):
        best = -weights[7]
        source = -1
        source_slot = -1
        target = -1
        for k in range(classes):
            cheapest = FAR
            place = -1
            second = FAR
            second_place = -1
            for position in range(state.cursor[4]):
                gpu = state.on_list[position]
                after = tables.add[state.content[gpu], k]
                if after < 0 or tables.late[after] > 0 or budget[2 + gpus + gpu] + 1 > limits.in_per_gpu:
                    continue
                if state.ready_us[gpu] > boundary_us:
                    continue
                if state.boundary_gib[gpu] + tables.state_gib[k] > fleet.memory_gib[gpu] + 1e-9:
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
            if place < 0:
                continue
            for position in range(state.cursor[4]):
                gpu = state.on_list[position]
                content = state.content[gpu]
                if tables.remove[content, k] < 0:
                    continue
                rise = cheapest if gpu != place else second
                goal = place if gpu != place else second_place
                if goal < 0:
                    continue
                gain = rise + tables.waste[tables.remove[content, k]] - tables.waste[content]
                if gain >= best or not _may_charge(limits, budget, gpus, gpu, goal, tables.state_gib[k]):
                    continue
                longest = -1
                for slot in range(state.members[gpu]):
                    member = state.member[gpu, slot]
                    if work.class_index[member] != k or state.since_us[gpu, slot] >= boundary_us:
                        continue
                    if longest < 0 or work.end_us[member] > work.end_us[state.member[gpu, longest]]:
                        longest = slot
                if longest >= 0 and work.end_us[state.member[gpu, longest]] > boundary_us:
                    best = gain
                    source = gpu
                    source_slot = longest
                    target = goal
        if source < 0:
            return
        _migrate(state, work, tables, budget, trail, source, source_slot, target, boundary_us)


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
    gpus = state.content.shape[0]
    periods = work.start_us.shape[0]
    budget = np.zeros(2 + 2 * gpus)
    for epoch in range(first, last):
        boundary_us = epoch * limits.epoch_us
        trail.counts[epoch, :] = 0
        trail.opened[:, epoch] = False
        _end_until(state, work, tables, trail, boundary_us)
        _boundary(state, work, tables, fleet, limits, weights, budget, trail, epoch)
        while state.cursor[0] < periods and work.start_us[state.cursor[0]] < boundary_us + limits.epoch_us:
            period = state.cursor[0]
            state.cursor[0] += 1
            _end_until(state, work, tables, trail, work.start_us[period])
            _arrive(state, work, tables, fleet, limits, weights, budget, trail, period, epoch)
        trail.counts[epoch, 3] = int(budget[0])
    if last == fleet.planned.shape[1]:
        _end_until(state, work, tables, trail, 2**62)
