"""Placement problems in one line, for tests.

Decides how a test writes a problem down; must never know what is claimed about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from solvers.placement.problem import NEVER_US, NO_TARGET_US, UNLIMITED, IntArray, Problem, RoundTables, Tiers
from solvers.placement.solution import Placement

MS = 1000  # microseconds

Costs = Sequence[Sequence[Sequence[int]]]  # [types][classes][n - 1]: milliseconds of a batch of n


def grouped(*types: Sequence[Sequence[int]]) -> RoundTables:
    """One argument per GPU type: per class, the milliseconds of 1, 2, ... sessions; more than listed may not run."""
    last = max(len(table) for costs in types for table in costs) + 1
    alone = np.full((len(types), len(types[0]), last + 1), NEVER_US, dtype=np.int64)
    for t, costs in enumerate(types):
        for k, table in enumerate(costs):
            alone[t, k, : len(table) + 1] = [0, *(ms * MS for ms in table)]
    return RoundTables(
        batching="grouped",
        alone_us=alone,
        base_us=np.zeros(alone.shape[:2], dtype=np.int64),
        common_us=np.zeros((len(types), 1), dtype=np.int64),
    )


def packed(*types: tuple[int, Sequence[int], int]) -> RoundTables:
    """One argument per GPU type: fixed milliseconds, milliseconds per session of each class, the most sessions."""
    last = max(most for _, _, most in types) + 1
    classes = len(types[0][1])
    alone = np.zeros((len(types), classes, last + 1), dtype=np.int64)
    common = np.full((len(types), last + 1), NEVER_US, dtype=np.int64)
    for t, (fixed_ms, own_ms, most) in enumerate(types):
        alone[t] = np.array(own_ms, dtype=np.int64)[:, None] * MS * np.arange(last + 1)
        common[t, : most + 1] = [0, *[fixed_ms * MS] * most]
    return RoundTables(
        batching="packed", alone_us=alone, base_us=np.zeros((len(types), classes), dtype=np.int64), common_us=common
    )


def turboserve(*types: tuple[Sequence[int], Sequence[int]]) -> RoundTables:
    """One argument per GPU type: W per class and H of 1, 2, ... sessions, in milliseconds; more may not run."""
    last = max(len(crowding) for _, crowding in types) + 1
    base = np.array([own for own, _ in types], dtype=np.int64) * MS
    common = np.full((len(types), last + 1), NEVER_US, dtype=np.int64)
    for t, (_, crowding) in enumerate(types):
        common[t, : len(crowding) + 1] = [0, *(ms * MS for ms in crowding)]
    return RoundTables(
        batching="turboserve",
        alone_us=np.zeros((*base.shape, 1), dtype=np.int64),
        base_us=base,
        common_us=common,
    )


def counts(text: str, classes: int) -> IntArray:
    """Sessions per GPU and class: "AAB | | B" is three GPUs, the second one empty."""
    rows = [[gpu.count(chr(ord("A") + k)) for k in range(classes)] for gpu in text.split("|")]
    return np.array(rows, dtype=np.int64)


def a_placement_problem(
    running: str,
    *,
    waiting: str = "",
    tables: RoundTables | None = None,
    gpu_type: Sequence[int] | None = None,
    shut: Iterable[int] = (),
    leaving: Iterable[int] = (),
    memory_mib: int | Sequence[int] = 1000,
    state_mib: int | Sequence[int] = 1,
    target_ms: Sequence[int] | None = None,
    transfer_ms: int | Sequence[int] = 0,
    lateness_weight: int | Sequence[int] = 1,
    priority_rank: int | Sequence[int] = 0,
    moves_max: int = UNLIMITED,
    moved_mib_max: int = UNLIMITED,
    out_max: int | Sequence[int] = 100,
    in_max: int | Sequence[int] = 100,
    tiers: Tiers | None = None,
) -> Problem:
    """Two classes that cost 10 and 20 ms a session (up to nine of each) unless `tables` says otherwise.

    `running` as in `counts`; `shut` and `leaving` list GPUs that receive nobody; nothing is scarce unless given.
    """
    tables = tables or grouped([[10 * n for n in range(1, 10)], [20 * n for n in range(1, 10)]])
    before = counts(running, tables.classes)
    gpus = before.shape[0]
    closed, emptied = np.zeros(gpus, dtype=np.bool_), np.zeros(gpus, dtype=np.bool_)
    closed[list(shut)], emptied[list(leaving)] = True, True
    target_us = [ms * MS for ms in target_ms] if target_ms is not None else NO_TARGET_US
    return Problem(
        tables=tables,
        gpu_type=np.array([0] * gpus if gpu_type is None else gpu_type, dtype=np.int32),
        running=before,
        waiting=counts(waiting, tables.classes)[0],
        receives=~(closed | emptied),
        leaving=emptied,
        memory_mib=_each(memory_mib, gpus),
        state_mib=_each(state_mib, tables.classes),
        target_us=_each(target_us, tables.classes),
        transfer_us=_each(transfer_ms, tables.classes) * MS,
        lateness_weight=_each(lateness_weight, tables.classes),
        priority_rank=_each(priority_rank, tables.classes).astype(np.int32),
        moves_max=moves_max,
        moved_mib_max=moved_mib_max,
        out_max=_each(out_max, gpus),
        in_max=_each(in_max, gpus),
        tiers=tiers or Tiers(),
    )


def a_placement(problem: Problem, *, out: str = "", arrived: str = "", placed: str = "") -> Placement:
    """Written as in `counts`; an empty text is nobody anywhere."""
    nobody = np.zeros_like(problem.running)
    return Placement(
        out=counts(out, problem.classes) if out else nobody,
        arrived=counts(arrived, problem.classes) if arrived else nobody,
        placed=counts(placed, problem.classes) if placed else nobody,
    )


def _each(value: int | Sequence[int], length: int) -> IntArray:
    return np.broadcast_to(np.array(value, dtype=np.int64), (length,)).copy()
