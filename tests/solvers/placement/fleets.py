"""Random fleets that are too large to try everything.

Decides what a mid-sized problem looks like; must never know what is claimed about it.
"""

from __future__ import annotations

import numpy as np

from solvers.placement.problem import NEVER_US, UNLIMITED, Batching, Problem, RoundTables
from solvers.placement.solution import Placement

SESSIONS_MAX = 24  # of a batch


def a_fleet(gpus: int, classes: int, batching: Batching, *, types: int = 1, seed: int = 0) -> Problem:
    """6 to 10 sessions per GPU, one waiting for every 16 GPUs, 5 % may migrate; targets are far away."""
    rng = np.random.default_rng(seed)
    running = np.zeros((gpus, classes), dtype=np.int64)
    for gpu in range(gpus):
        np.add.at(running[gpu], rng.integers(0, classes, rng.integers(6, 11)), 1)
    waiting = np.zeros(classes, dtype=np.int64)
    np.add.at(waiting, rng.integers(0, classes, gpus // 16), 1)
    return Problem(
        tables=_tables(rng, types, classes, batching),
        gpu_type=rng.integers(0, types, gpus).astype(np.int32),
        running=running,
        waiting=waiting,
        receives=np.ones(gpus, dtype=np.bool_),
        leaving=np.zeros(gpus, dtype=np.bool_),
        memory_mib=np.full(gpus, 48_000, dtype=np.int64),
        state_mib=rng.integers(1500, 3500, classes),
        target_us=np.full(classes, 2_000_000, dtype=np.int64),
        transfer_us=np.full(classes, 50_000, dtype=np.int64),
        lateness_weight=np.ones(classes, dtype=np.int64),
        priority_rank=np.zeros(classes, dtype=np.int32),
        moves_max=max(2, gpus // 20),
        moved_mib_max=UNLIMITED,
        out_max=np.full(gpus, 2, dtype=np.int64),
        in_max=np.full(gpus, 2, dtype=np.int64),
    )


def placed_one_by_one(problem: Problem) -> Placement:
    """Whoever waits goes where the latency is least then; nobody migrates."""
    placement = Placement.unchanged(problem)
    after = problem.running.copy()
    for k in np.repeat(np.arange(problem.classes), problem.waiting):
        tried = after.copy()
        tried[:, k] += 1
        fits = (tried @ problem.state_mib <= problem.memory_mib) & problem.receives
        gpu = int(np.where(fits, problem.latency_us(tried), NEVER_US).argmin())
        after[gpu, k] += 1
        placement.placed[gpu, k] += 1
    return placement


def _tables(rng: np.random.Generator, types: int, classes: int, batching: Batching) -> RoundTables:
    n = np.arange(SESSIONS_MAX + 2)
    slower = np.round(1 + 0.4 * np.arange(types), 1)
    alone = np.zeros((types, classes, len(n)), dtype=np.int64)
    base = np.zeros((types, classes), dtype=np.int64)
    common = np.zeros((types, len(n)), dtype=np.int64)
    if batching == "grouped":
        fixed, own = rng.integers(20_000, 60_000, classes), rng.integers(15_000, 50_000, classes)
        alone[:] = slower[:, None, None] * (fixed[:, None] + own[:, None] * n + 200 * n * n)
    elif batching == "packed":
        alone[:] = slower[:, None, None] * rng.integers(15_000, 60_000, classes)[:, None] * n
        common[:] = slower[:, None] * 50_000
    else:
        base[:] = slower[:, None] * rng.integers(60_000, 300_000, classes)
        common[:] = slower[:, None] * (12_000 * n + 900 * n * n)
    alone[:, :, 0], common[:, 0] = 0, 0
    (alone if batching == "grouped" else common)[..., -1] = NEVER_US
    return RoundTables(batching=batching, alone_us=alone, base_us=base, common_us=common)
