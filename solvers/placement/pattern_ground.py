"""What patterns are made from, and what is the same at every limit.

Decides how a problem is read, truly or more strictly than it is; must never know limits, patterns or rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from solvers.placement.problem import NEVER_US, NO_TARGET_US, BoolArray, IntArray, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is the same at every limit."""

    gpu_type: IntArray  # [gpus], 0 .. types in use - 1
    base_us: IntArray  # [types in use, classes]
    common_us: IntArray  # [types in use, sessions + 1]
    running: IntArray
    waiting: IntArray
    state_mib: IntArray
    entering_mib: IntArray  # [classes]: states, when room for them is counted
    present: BoolArray  # [classes]: somebody runs or waits
    free_mib: IntArray  # [gpus]; 0 where nobody may enter
    arrive_most: IntArray
    give_most: IntArray
    leaving: BoolArray
    leave_least: int  # sessions that have to leave GPUs that are to be emptied
    moves_max: int
    moved_mib_max: int
    late_us: IntArray  # [classes]: nobody may be slower; NO_TARGET_US: no limit

    def limits_us(self) -> IntArray:
        """Every latency that a GPU with somebody on it can have, ascending."""
        base = self.base_us[:, self.present]
        every = np.unique(base[:, :, None] + self.common_us[:, None, 1:])
        return every[every < NEVER_US]


def ground(problem: Problem, *, on_time: bool, leave_least: int) -> Ground:
    """`on_time`: nobody may be late; `leave_least`: sessions that leave the GPUs to be emptied."""
    types, gpu_type = np.unique(problem.gpu_type, return_inverse=True)
    present = (problem.running.sum(axis=0) + problem.waiting) > 0
    free_mib = np.maximum(problem.memory_mib - problem.running @ problem.state_mib, 0)
    return Ground(
        gpu_type=gpu_type.astype(np.int64),
        base_us=problem.tables.base_us[types],
        common_us=problem.tables.common_us[types],
        running=problem.running,
        waiting=problem.waiting,
        state_mib=problem.state_mib,
        entering_mib=problem.state_mib,
        present=present,
        free_mib=np.where(problem.receives, free_mib, 0),
        arrive_most=problem.in_max,
        give_most=np.minimum(problem.out_max, problem.running.sum(axis=1)),
        leaving=problem.leaving,
        leave_least=leave_least,
        moves_max=problem.moves_max,
        moved_mib_max=problem.moved_mib_max,
        late_us=problem.target_us if on_time else np.full(problem.classes, NO_TARGET_US),
    )


def careful(given: Ground, state_mib: int) -> Ground:
    """As if all states had this size: from the largest on, patterns surely fit memory; but they prove nothing."""
    return replace(given, entering_mib=np.full_like(given.state_mib, state_mib))


def in_time_for_transfers(problem: Problem, given: Ground) -> Ground:
    """As if everybody had just been transferred: then whoever has is in time, too."""
    late_us = np.where(problem.target_us < NO_TARGET_US, problem.target_us - problem.transfer_us, NO_TARGET_US)
    return replace(given, late_us=late_us)
