"""The same placement problem with some sessions held where they are.

Decides how "these do not leave" is said to solvers that know no such rule; must never know why somebody asks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from solvers.placement.problem import NEVER_US, IntArray, Problem, RoundTables


def pinned(problem: Problem, gpu: int, k: int, count: int) -> Problem:
    """`count` of the sessions of class `k` on `gpu` stay; every value stays comparable with one of `problem`.

    They become a class of their own, the last one, and the GPU a type of its own, the last one, on which alone that
    class can run. What the others of class k cost there is what they add to those that stay, so latencies are exact.
    """
    assert 0 < count <= problem.running[gpu, k], "only who is there can stay"
    running = np.pad(problem.running, ((0, 0), (0, 1)))
    running[gpu, k] -= count
    running[gpu, -1] = count
    gpu_type = problem.gpu_type.copy()
    gpu_type[gpu] = problem.tables.types
    return replace(
        problem,
        tables=_with_own_type(problem.tables, int(problem.gpu_type[gpu]), k, count),
        gpu_type=gpu_type,
        running=running,
        waiting=np.append(problem.waiting, 0),
        state_mib=_repeated(problem.state_mib, k),
        target_us=_repeated(problem.target_us, k),
        transfer_us=_repeated(problem.transfer_us, k),
        lateness_weight=_repeated(problem.lateness_weight, k),
        priority_rank=np.append(problem.priority_rank, problem.priority_rank[k]).astype(np.int32),
    )


def _repeated(values: IntArray, k: int) -> IntArray:
    return np.append(values, values[k])


def _with_own_type(tables: RoundTables, gpu_type: int, k: int, count: int) -> RoundTables:
    """One type and one class more; the new class runs on the new type only."""
    columns = max(2, tables.alone_us.shape[2])
    alone = _extended(tables.alone_us, columns)
    here = alone[gpu_type].copy()
    staying = here[k].copy()
    shifted = here[k, np.minimum(np.arange(columns) + count, columns - 1)]
    held_us = here[k, min(count, columns - 1)]
    here[k] = np.where(shifted < NEVER_US, shifted - held_us, NEVER_US)
    here[k, 0] = 0
    alone = np.concatenate([alone, here[None]])
    base = np.concatenate([tables.base_us, tables.base_us[gpu_type][None]])
    own_alone: IntArray = np.zeros((tables.types + 1, 1, columns), np.int64)
    own_base: IntArray = np.zeros((tables.types + 1, 1), np.int64)
    if tables.batching == "turboserve":
        own_base[:-1] = NEVER_US
    else:
        own_alone[:-1, 0, 1:] = NEVER_US
    own_alone[-1, 0] = staying
    own_base[-1, 0] = tables.base_us[gpu_type, k]
    return RoundTables(
        batching=tables.batching,
        alone_us=np.concatenate([alone, own_alone], axis=1),
        base_us=np.concatenate([base, own_base], axis=1),
        common_us=np.concatenate([tables.common_us, tables.common_us[gpu_type][None]]),
    )


def _extended(alone: IntArray, columns: int) -> IntArray:
    """A count beyond the last column is the last column, so repeating it changes nothing."""
    more = columns - alone.shape[2]
    return np.concatenate([alone, np.repeat(alone[:, :, -1:], more, axis=2)], axis=2)
