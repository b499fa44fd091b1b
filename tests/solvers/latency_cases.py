"""Small problems on fixed fleets, random and by hand, and what is best at one instant by trying everything.

Decides which cases the latency tests share; must never know how the solvers under test reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from solvers.contents import ContentTable, RoundCosts, TypeLimits, enumerate_contents
from solvers.offline_problem import NEVER_ON, MoveBudget, OfflineProblem

Periods = Sequence[tuple[int, int, int]]  # start, end, class


def grouped(tables_ms: Sequence[Sequence[float]], *, memory_gib: float = 100.0, state_gib: float = 1.0) -> TypeLimits:
    costs = RoundCosts(batching="grouped", tables_ms=tuple(tuple(table) for table in tables_ms))
    return TypeLimits(costs=costs, memory_gib=memory_gib, state_gib=(state_gib,) * len(tables_ms))


def a_problem(
    types: Sequence[TypeLimits],
    gpus: Sequence[int],
    periods: Periods,
    *,
    epoch_us: int = 10,
    budget: MoveBudget | None = None,
    priority: Sequence[int] | None = None,
) -> OfflineProblem:
    """GPUs of each type, on throughout; `periods` need not be sorted."""
    order = sorted(range(len(periods)), key=lambda i: periods[i][0])
    rows = np.array([periods[i] for i in order], dtype=np.int64).reshape(-1, 3)
    count, classes = sum(gpus), len(types[0].state_gib)
    return OfflineProblem(
        start_us=rows[:, 0],
        end_us=rows[:, 1],
        class_index=rows[:, 2].astype(np.int32),
        priority=np.array([priority[i] if priority else 0 for i in order], dtype=np.int32),
        home=np.full(len(rows), -1, dtype=np.int32),
        epoch_us=epoch_us,
        epochs=int(-(-rows[:, 1].max(initial=1) // epoch_us)),
        types=tuple(types),
        target_ms=(1e9,) * classes,
        state_gib=types[0].state_gib,
        price_per_hour=(1.0,) * len(types),
        startup_us=(0,) * len(types),
        gpu_type=np.repeat(np.arange(len(types)), gpus).astype(np.int32),
        gpu_node=np.zeros(count, dtype=np.int32),
        gpu_always_on=np.ones(count, dtype=np.bool_),
        gpu_on_us=np.full(count, NEVER_ON, dtype=np.int64),
        earliest_on_us=0,
        transfer_same_s=(0.0,) * classes,
        transfer_cross_s=(0.0,) * classes,
        budget=budget or MoveBudget(),
    )


def contents_of(problem: OfflineProblem) -> list[ContentTable]:
    return [enumerate_contents(limits, problem.target_ms, allow_late=True) for limits in problem.types]


def random_tables(rng: np.random.Generator, classes: int) -> list[list[float]]:
    return [np.cumsum(rng.integers(50, 200, rng.integers(2, 5))).astype(float).tolist() for _ in range(classes)]


def a_random_problem(seed: int, *, periods: int = 60, memory_gib: float = 100.0) -> OfflineProblem:
    """Two classes, one or two GPU types, a few migrations per boundary; roughly half full."""
    rng = np.random.default_rng(seed)
    types = [grouped(random_tables(rng, 2), memory_gib=memory_gib) for _ in range(int(rng.integers(1, 3)))]
    start = rng.integers(0, 200, periods)
    rows = np.stack([start, start + rng.integers(1, 40, periods), rng.integers(0, 2, periods)], axis=1)
    budget = MoveBudget(moves=int(rng.integers(0, 4)), out_per_gpu=1, in_per_gpu=1, gib=float(rng.integers(1, 4)))
    return a_problem(types, [4] * len(types), [tuple(row) for row in rows.tolist()], budget=budget)


def best_at_one_instant(problem: OfflineProblem) -> tuple[float, float] | None:
    """(worst, sum of n f) over all ways to place every period at once, worst first; None if there is none."""
    best: tuple[float, float] | None = None
    for places in itertools.product(range(problem.gpus), repeat=problem.periods):
        counts = np.zeros((problem.gpus, problem.classes), dtype=np.int32)
        np.add.at(counts, (np.array(places), problem.class_index), 1)
        latency = np.array(
            [problem.types[t].costs.latency_ms(counts[g : g + 1])[0] for g, t in enumerate(problem.gpu_type)]
        )
        if np.isfinite(latency).all():
            value = (float(latency.max()), float(counts.sum(axis=1) @ latency))
            best = value if best is None else min(best, value)
    return best
