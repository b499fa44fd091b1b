"""What the tables say about the largest batches: how many sessions may run, and what the worst of them takes.

Decides these limits only; must never know which formulation needs them.
"""

from __future__ import annotations

import numpy as np

from solvers.placement.problem import NEVER_US, IntArray, Problem, RoundTables

ANY_NUMBER = 1 << 20  # sessions


def finite(table: IntArray) -> IntArray:
    """Counts that may not run cost what the largest count before them costs; the rules keep batches away from them."""
    return np.asarray(np.maximum.accumulate(np.where(table >= NEVER_US, 0, table), axis=-1), dtype=np.int64)


def finite_base(tables: RoundTables) -> IntArray:
    """The same for `base_us`: 0 where a class cannot run."""
    return np.where(tables.base_us >= NEVER_US, 0, tables.base_us)


def able(problem: Problem) -> tuple[IntArray, IntArray]:
    """The most sessions of each class, and in all, that may run: [gpus, classes], [gpus]."""
    tables, kind = problem.tables, problem.gpu_type
    alone = _most(tables.alone_us)
    return np.where(tables.base_us >= NEVER_US, 0, alone)[kind], _most(tables.common_us)[kind]


def worst_us(problem: Problem, most: IntArray) -> int:
    """No batch that runs takes longer on any GPU, with at most `most` [gpus, classes] of each class."""
    tables, kind = problem.tables, problem.gpu_type
    columns = np.minimum(most, tables.alone_us.shape[2] - 1)
    alone = finite(tables.alone_us)[kind[:, None], np.arange(tables.classes)[None, :], columns].sum(axis=1)
    shared = finite(tables.common_us).max(axis=1) + finite_base(tables).max(axis=1, initial=0)
    return int((alone + shared[kind]).max(initial=0))


def runnable_us(problem: Problem, counts: IntArray) -> IntArray:
    """f of every GPU as if the tables were `finite`."""
    tables = problem.tables
    mended = RoundTables(
        batching=tables.batching,
        alone_us=finite(tables.alone_us),
        base_us=finite_base(tables),
        common_us=finite(tables.common_us),
    )
    return mended.latency_us(problem.gpu_type, counts)


def _most(tables_us: IntArray) -> IntArray:
    """The largest count that may run; the last column goes on for ever."""
    running = (tables_us[..., 1:] < NEVER_US).sum(axis=-1)
    return np.where(tables_us[..., -1] < NEVER_US, ANY_NUMBER, running)
