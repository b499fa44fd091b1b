"""What the compiled sweep works on, and the smallest steps that change it.

Decides how a GPU's members, contents and pieces are kept consistent; must never know why a session is put anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solvers.numba_kernel import inner

IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
RealArray = npt.NDArray[np.float64]

FAR = 1e300  # of scores: nothing was found; of a weight: never

# State.cursor
I_ARRIVAL = 0  # the next period to begin
I_END = 1  # the next position of Work.by_end to end
I_ROW = 2  # pieces in the trail
I_WAITING = 3  # periods that wait
I_ON = 4  # active GPUs
I_COUNT = 5

# Columns of Trail.counts, per epoch
N_OPENED = 0  # GPUs opened, or made usable earlier, within the epoch
N_KEPT_ON = 1  # GPUs kept on because they could not be emptied
N_MOVES = 2  # migrations
N_UNSERVED = 3  # periods that had to wait or were interrupted
N_LATE = 4  # periods that were put where sessions are late
N_COLUMNS = 5

# Weights of a variant
W_WASTE = 0  # value that can no longer be used
W_MISFIT = 1  # the GPU is to go off before the session ends
W_SLACK = 2  # the GPU stays on after the session's end
W_ROOM = 3  # share of the GPU that stays free
W_MISFIT_LENGTH = 4  # how long before the session's end the GPU is to go off
W_ALIGN = 5  # distance between the session's end and that of the GPU's longest member
W_MOVE = 6  # a migration
W_IMPROVE = 7  # least waste that a migration for its own sake must save; 0: there are none


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

    cursor: LongArray  # [I_COUNT]
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
    counts: LongArray  # [epochs, N_COLUMNS]
    period: IntArray  # rows: pieces in the order of their ends
    gpu: IntArray
    start_us: LongArray
    end_us: LongArray


@inner
def emit(state: State, trail: Trail, period: int, gpu: int, start_us: int, end_us: int) -> None:
    """Leave a piece behind, unless it is empty."""
    if end_us > start_us:
        row = state.cursor[I_ROW]
        trail.period[row] = period
        trail.gpu[row] = gpu
        trail.start_us[row] = start_us
        trail.end_us[row] = end_us
        state.cursor[I_ROW] = row + 1


@inner
def note_blocked(state: State, tables: Tables, gpu: int, at_us: int) -> None:
    """Remember which classes the GPU could not have taken up to now; called before its content changes."""
    content = state.content[gpu]
    for k in range(tables.add.shape[1]):
        if tables.add[content, k] < 0:
            state.blocked_us[gpu, k] = at_us


@inner
def put(state: State, work: Work, tables: Tables, gpu: int, period: int, since_us: int, moved: bool) -> None:
    """Make the period the last member of the GPU."""
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
def take(state: State, work: Work, tables: Tables, gpu: int, slot: int) -> None:
    """Remove the member in a slot; the last member gets the slot."""
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
def slot_of(state: State, gpu: int, period: int) -> int:
    """The slot of a member, or -1."""
    for slot in range(state.members[gpu]):
        if state.member[gpu, slot] == period:
            return slot
    return -1


@inner
def switch(state: State, tables: Tables, gpu: int, on: bool, at_us: int) -> None:
    """Make a GPU take sessions, or stop doing so."""
    state.active[gpu] = on
    n = state.cursor[I_ON]
    if on:
        state.on_list[n] = gpu
        state.cursor[I_ON] = n + 1
        for k in range(tables.add.shape[1]):
            state.blocked_us[gpu, k] = at_us
        state.boundary_gib[gpu] = 0.0
        return
    for position in range(n):
        if state.on_list[position] == gpu:
            for later in range(position, n - 1):
                state.on_list[later] = state.on_list[later + 1]
            break
    state.cursor[I_ON] = n - 1


@inner
def has_memory(gib: float, memory_gib: float) -> bool:
    """Whether a GPU can hold so much at an epoch boundary, both sides of migrations counted."""
    return bool(gib <= memory_gib + 1e-9)
