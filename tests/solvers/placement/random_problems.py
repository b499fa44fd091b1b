"""Random placement problems: tiny ones that can be searched exhaustively, and fleets after some hours of drift."""

from __future__ import annotations

from itertools import product

import numpy as np

from solvers.placement.check import evaluate, violations
from solvers.placement.problem import NEVER_US, NO_TARGET_US, UNLIMITED, Batching, Problem, RoundTables, Tiers
from solvers.placement.solution import Placement

_LARGEST_BATCH = 7


def tiny_problem(seed: int, *, classes: int, batching: Batching = "turboserve") -> Problem:
    """Two to four GPUs of up to three types; now and then broken, late, leaving or short of memory."""
    rng = np.random.default_rng(seed)
    gpus, types = int(rng.integers(2, 5 if classes == 1 else 4)), int(rng.integers(1, 4))
    base_us = np.zeros((types, classes), dtype=np.int64)
    alone_us = np.zeros((types, classes, _LARGEST_BATCH + 2), dtype=np.int64)
    common_us = np.zeros((types, _LARGEST_BATCH + 2), dtype=np.int64)
    if batching == "turboserve":
        base_us = rng.integers(1, 8, (types, classes)) * 300
        common_us[:, 1:] = np.cumsum(rng.integers(0, 6, (types, _LARGEST_BATCH + 1)) * 60, axis=1)
        base_us[rng.random(base_us.shape) < 0.05] = NEVER_US
    else:
        alone_us[:, :, 1:] = np.cumsum(rng.integers(1, 8, (types, classes, _LARGEST_BATCH + 1)) * 150, axis=2)
    common_us[:, int(rng.integers(3, _LARGEST_BATCH + 2)) :] = NEVER_US
    state_mib = rng.integers(1, 5, classes) * 100
    running = rng.integers(0, 6 - classes, (gpus, classes))
    leaving = rng.random(gpus) < 0.15
    spare_mib = rng.integers(-1 if rng.random() < 0.15 else 0, 8, gpus) * 100
    has_target = rng.random() < 0.6
    return Problem(
        tables=RoundTables(batching=batching, alone_us=alone_us, base_us=base_us, common_us=common_us),
        gpu_type=rng.integers(0, types, gpus).astype(np.int32),
        running=running,
        waiting=rng.integers(0, 4 if classes == 1 else 2, classes),
        receives=~leaving & (rng.random(gpus) < 0.9),
        leaving=leaving,
        memory_mib=np.maximum(running @ state_mib + spare_mib, 0),
        state_mib=state_mib,
        target_us=rng.integers(3, 60, classes) * 300 if has_target else np.full(classes, NO_TARGET_US),
        transfer_us=rng.integers(0, 5, classes) * 100,
        lateness_weight=rng.integers(1, 3, classes),
        priority_rank=np.zeros(classes, dtype=np.int32),
        moves_max=int(rng.integers(0, 6)),
        moved_mib_max=int(rng.integers(0, 8) * 200) if rng.random() < 0.3 else UNLIMITED,
        out_max=rng.integers(0, 3, gpus),
        in_max=rng.integers(0, 3, gpus),
        tiers=Tiers(meet=bool(rng.random() < 0.6), leave=bool(rng.random() < 0.8), balance_tolerance=0.0),
    )


def best_without_moves(problem: Problem) -> Placement | None:
    """The best way to place everybody who waits with nobody moved, by trying all; None if there is none."""
    waiting = [k for k in range(problem.classes) for _ in range(int(problem.waiting[k]))]
    nobody = np.zeros_like(problem.running)
    allowed = []
    for gpus in product(range(problem.gpus), repeat=len(waiting)):
        placed = nobody.copy()
        for gpu, k in zip(gpus, waiting, strict=True):
            placed[gpu, k] += 1
        placement = Placement(out=nobody, arrived=nobody, placed=placed)
        if not violations(problem, placement):
            value = evaluate(problem, placement)
            allowed.append(((value.repair, value.meet, value.leave, value.balance), placement))
    return min(allowed, key=lambda pair: pair[0])[1] if allowed else None


def drifted_fleet(seed: int, *, gpus: int, classes: int, types: int = 1) -> Problem:
    """About eight sessions per GPU, placed at random, with a budget of 5 % of them and a few waiting."""
    rng = np.random.default_rng([seed, gpus, classes, types])
    speed = np.array([1.0, 0.8, 1.3])[:types]
    weights = np.sort(rng.uniform(1.0, 2.6, classes))
    sizes = np.arange(65)
    common_us = np.rint(speed[:, None] * (55_000 * np.maximum(sizes - 1, 0) + 280 * sizes**2)).astype(np.int64)
    common_us[:, 0], common_us[:, -1] = 0, NEVER_US
    running = rng.multinomial(1, np.full(classes, 1 / classes), (gpus, 8)).sum(axis=1)
    running = running - rng.binomial(running, 0.3) + rng.binomial(1, 0.2, running.shape)
    waiting = rng.multinomial(max(2, gpus // 4), np.full(classes, 1 / classes))
    state_mib = rng.integers(400, 2500, classes)
    average_mib = int(state_mib @ (running.sum(axis=0) + waiting) / gpus)
    return Problem(
        tables=RoundTables(
            batching="turboserve",
            alone_us=np.zeros((types, classes, len(sizes)), dtype=np.int64),
            base_us=np.rint(180_000 * weights * speed[:, None]).astype(np.int64),
            common_us=common_us,
        ),
        gpu_type=rng.integers(0, types, gpus).astype(np.int32),
        running=running,
        waiting=waiting,
        receives=np.ones(gpus, dtype=np.bool_),
        leaving=np.zeros(gpus, dtype=np.bool_),
        memory_mib=np.maximum(running @ state_mib, 2 * average_mib),
        state_mib=state_mib,
        target_us=np.full(classes, NO_TARGET_US),
        transfer_us=np.zeros(classes, dtype=np.int64),
        lateness_weight=np.ones(classes, dtype=np.int64),
        priority_rank=np.zeros(classes, dtype=np.int32),
        moves_max=int(0.05 * (running.sum() + waiting.sum())),
        moved_mib_max=UNLIMITED,
        out_max=np.full(gpus, 2),
        in_max=np.full(gpus, 2),
    )


def first_fit(problem: Problem) -> Placement:
    """Everybody who waits on the GPU that is fastest with them, nobody moved."""
    after, placed = problem.running.copy(), np.zeros_like(problem.running)
    for k in np.argsort(-problem.tables.base_us[0]):
        for _ in range(int(problem.waiting[k])):
            tried = after.copy()
            tried[:, k] += 1
            fits = problem.receives & (tried @ problem.state_mib <= problem.memory_mib)
            gpu = int(np.where(fits, problem.latency_us(tried), NEVER_US + 1).argmin())
            after[gpu, k] += 1
            placed[gpu, k] += 1
    nobody = np.zeros_like(placed)
    return Placement(out=nobody, arrived=nobody, placed=placed)
