"""Random placement problems, small enough to try every placement.

Decides what the generated problems look like; must never know what is claimed about them.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from solvers.placement.problem import NEVER_US, NO_TARGET_US, UNLIMITED, Batching, IntArray, Problem, RoundTables, Tiers

MS = 1000
BATCHING: tuple[Batching, ...] = ("grouped", "packed", "turboserve")
SESSIONS_MAX = 7  # running and waiting together
RUNNING_MAX = 5


@st.composite
def round_tables(draw: st.DrawFn, types: int, classes: int) -> RoundTables:
    """Any of the three batching models; convex or not; batches that may not run are common."""
    batching = draw(st.sampled_from(BATCHING))
    last = SESSIONS_MAX + 1
    alone = np.zeros((types, classes, last + 1), dtype=np.int64)
    base = np.zeros((types, classes), dtype=np.int64)
    common = np.zeros((types, last + 1), dtype=np.int64)
    for t in range(types):
        if batching == "packed":
            common[t] = _cut(np.array([0, *[draw(st.integers(0, 5))] * last]) * MS, draw(st.integers(2, last)))
        if batching == "turboserve":
            common[t] = draw(_rising(last))
        for k in range(classes):
            if batching == "grouped":
                alone[t, k] = draw(_rising(last))
            elif batching == "packed":
                alone[t, k] = np.arange(last + 1) * draw(st.integers(1, 5)) * MS
            else:
                base[t, k] = draw(st.sampled_from([2 * MS, 5 * MS, 5 * MS, 9 * MS, 1 * MS, 3 * MS, 7 * MS, NEVER_US]))
    return RoundTables(batching=batching, alone_us=alone, base_us=base, common_us=common)


@st.composite
def _rising(draw: st.DrawFn, last: int) -> IntArray:
    """0, then a cost that never falls; at most the first few counts may run."""
    steps = draw(st.lists(st.integers(0, 5), min_size=last, max_size=last))
    if draw(st.booleans()):
        steps.sort()  # convex
    table = np.array([0, *(np.cumsum(steps) + draw(st.integers(1, 8)))], dtype=np.int64) * MS
    table[1:] += draw(st.sampled_from([0, 0, 7]))
    return _cut(table, draw(st.sampled_from([last, last, last, last, 4, 3, 2, 1])))


def _cut(table: IntArray, most: int) -> IntArray:
    """More than `most` sessions may not run."""
    return np.where(np.arange(len(table)) > most, NEVER_US, table).astype(np.int64)


@st.composite
def placement_problems(draw: st.DrawFn, gpus_max: int = 4) -> Problem:
    """Two to four GPUs, up to three classes, a few sessions; now and then broken, tight, budgeted or late."""
    gpus = draw(st.sampled_from([gpus_max, *range(2, gpus_max)]))
    classes = draw(st.sampled_from([2, 1, 3, 2]))
    types = draw(st.sampled_from([1, 1, 2]))
    running = np.zeros((gpus, classes), dtype=np.int64)
    seats = st.tuples(st.sampled_from([0, 0, *range(gpus)]), st.integers(0, classes - 1))
    for seat in draw(st.lists(seats, min_size=2, max_size=RUNNING_MAX)):
        running[seat] += 1
    waiting = np.zeros(classes, dtype=np.int64)
    np.add.at(waiting, draw(st.lists(st.integers(0, classes - 1), max_size=SESSIONS_MAX - RUNNING_MAX)), 1)
    state_mib = np.array([draw(st.sampled_from([1, 2, 3])) for _ in range(classes)], dtype=np.int64)
    role = [draw(st.sampled_from(["open"] * 6 + ["shut", "leaving"])) for _ in range(gpus)]
    tight = draw(st.booleans())
    few = [2, 1, 0] if tight else [UNLIMITED if gpus < 4 else 3]
    per_gpu = [2, 1, 2, 0] if tight else [4]
    return Problem(
        tables=draw(round_tables(types, classes)),
        gpu_type=np.array([draw(st.integers(0, types - 1)) for _ in range(gpus)], dtype=np.int32),
        running=running,
        waiting=waiting,
        receives=np.array([name == "open" for name in role]),
        leaving=np.array([name == "leaving" for name in role]),
        memory_mib=draw(_memory_mib(running @ state_mib)),
        state_mib=state_mib,
        target_us=_array(draw, classes, [NO_TARGET_US, NO_TARGET_US, 20 * MS, 10 * MS, 6 * MS]),
        transfer_us=_array(draw, classes, [0, 1 * MS, 3 * MS]),
        lateness_weight=_array(draw, classes, [1, 1, 2]),
        priority_rank=_ranks(_array(draw, classes, [0, 0, 1])),
        moves_max=draw(st.sampled_from(few)),
        moved_mib_max=draw(st.sampled_from([UNLIMITED, 5, 2, 0] if tight else [UNLIMITED])),
        out_max=_array(draw, gpus, per_gpu),
        in_max=_array(draw, gpus, per_gpu),
        tiers=draw(tiers()),
    )


def tiers() -> st.SearchStrategy[Tiers]:
    """Mostly everything, now and then tiers that do not count."""
    mostly = st.sampled_from([True, True, True, False])
    some = st.builds(Tiers, meet=mostly, leave=mostly, balance=mostly, move=mostly, smooth=mostly)
    return st.one_of(st.just(Tiers()), some)


@st.composite
def _memory_mib(draw: st.DrawFn, held_mib: IntArray) -> IntArray:
    """Plenty, just enough, a little more than that, or too little already."""
    if draw(st.booleans()):
        return np.full(len(held_mib), 1000, dtype=np.int64)
    spare = [draw(st.sampled_from([2, 1, 3, 5, 0, 1000, -1])) for _ in held_mib]
    return np.maximum(held_mib + np.array(spare, dtype=np.int64), 0)


def _array(draw: st.DrawFn, length: int, choices: list[int]) -> IntArray:
    return np.array([draw(st.sampled_from(choices)) for _ in range(length)], dtype=np.int64)


def _ranks(rank: IntArray) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Without holes."""
    return np.unique(rank, return_inverse=True)[1].reshape(-1).astype(np.int32)
