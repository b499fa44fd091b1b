"""Synthetic placement problems, equal at every call, and what happens to a fleet between two epochs.

Decides which fleets, classes and drifts the placement benchmarks speak of; must never know a solver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from solvers.placement.problem import (
    NEVER_US,
    NO_TARGET_US,
    UNLIMITED,
    Batching,
    IntArray,
    Problem,
    RoundTables,
    Tiers,
)
from solvers.placement.solution import Placement

Drift = Literal["heavy", "burst", "steady"]
Floats = npt.NDArray[np.float64]

DRIFTS: tuple[Drift, ...] = ("heavy", "burst", "steady")
SESSIONS_MAX = 32  # that a batch may hold: what was measured
CHURN = 0.03  # of the sessions leave in an epoch, and as many arrive
MOVES_SHARE = 0.05  # of the sessions may migrate in an epoch
MOVES_PER_GPU = 2  # out of each GPU, and into each
_SPEED = (1.0, 0.8, 1.3)  # time of a round relative to the first GPU type
_CAPACITY = (8, 10, 6)  # sessions, as the reference's latency model counts them
_BATCHINGS: tuple[Batching, ...] = ("grouped", "packed", "turboserve")
_MEMORY = 2.2  # of what states take on average


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementWorkload:
    """A fleet at one instant: 6 to 10 sessions per GPU, and how it got into its state.

    heavy: 40 % have left, most of them replaced by a router that looks at two GPUs. burst: a quarter has left, the new
    ones sit anywhere, and 8 % wait. steady: everybody sits where the round was shortest, and one epoch has passed.
    """

    gpus: int
    classes: int
    batching: Batching
    types: int = 1
    drift: Drift = "heavy"
    seed: int = 0

    def problem(self) -> Problem:
        """Equal workloads give equal problems."""
        numbers = (self.seed, self.gpus, self.classes, _BATCHINGS.index(self.batching), self.types)
        rng = np.random.default_rng([*numbers, DRIFTS.index(self.drift)])
        tables, state_mib = _tables(self, rng)
        gpu_type = rng.integers(0, self.types, self.gpus).astype(np.int32)
        shares = rng.dirichlet(np.full(self.classes, 3.0))
        sessions = round(self.gpus * rng.uniform(6, 10))
        if self.drift == "steady":
            running, waiting = _steady(tables, gpu_type, shares, sessions, rng)
        else:
            running, waiting = _drifted(self.drift, gpu_type, shares, sessions, rng)
        total = running.sum(axis=0) + waiting
        memory_mib = max(int(_MEMORY * (total @ state_mib) / self.gpus), int((running @ state_mib).max()))
        return Problem(
            tables=tables,
            gpu_type=gpu_type,
            running=running,
            waiting=waiting,
            receives=np.ones(self.gpus, dtype=np.bool_),
            leaving=np.zeros(self.gpus, dtype=np.bool_),
            memory_mib=np.full(self.gpus, memory_mib, dtype=np.int64),
            state_mib=state_mib,
            target_us=np.full(self.classes, NO_TARGET_US, dtype=np.int64),
            transfer_us=np.zeros(self.classes, dtype=np.int64),
            lateness_weight=np.ones(self.classes, dtype=np.int64),
            priority_rank=np.zeros(self.classes, dtype=np.int32),
            moves_max=_moves_max(int(total.sum())),
            moved_mib_max=UNLIMITED,
            out_max=np.full(self.gpus, MOVES_PER_GPU, dtype=np.int64),
            in_max=np.full(self.gpus, MOVES_PER_GPU, dtype=np.int64),
            tiers=Tiers(meet=False, balance_gain_min=0.0),
        )


def arrivals_mean(problem: Problem) -> Floats:
    """[classes]: arrivals per epoch that keep the numbers of sessions where they are."""
    return np.asarray(CHURN * (problem.running.sum(axis=0) + problem.waiting), dtype=np.float64)


def churn(problem: Problem, placement: Placement, rng: np.random.Generator, *, arrivals: Floats) -> Problem:
    """The next epoch: the placement is carried out, sessions leave and new ones wait.

    How many leave and arrive per class does not depend on where sessions are: two policies that serve everybody meet
    equal crowds if they are given equal generators.
    """
    after = placement.after(problem)
    leave = rng.binomial(after.sum(axis=0), CHURN)
    arrive = rng.poisson(arrivals)
    left = np.stack(
        [rng.multivariate_hypergeometric(after[:, k], leave[k], method="marginals") for k in range(problem.classes)],
        axis=1,
    )
    running = after - left
    waiting = problem.waiting - placement.placed.sum(axis=0) + arrive
    return replace(problem, running=running, waiting=waiting, moves_max=_moves_max(int(running.sum() + waiting.sum())))


def _moves_max(sessions: int) -> int:
    return max(2, int(MOVES_SHARE * sessions))


def _tables(workload: PlacementWorkload, rng: np.random.Generator) -> tuple[RoundTables, IntArray]:
    """Latencies of the kind that the reference's model gives, and states of 0.4 to 2.5 GiB."""
    classes, types = workload.classes, workload.types
    units = np.sort(np.linspace(1.0, 2.6, classes) * rng.uniform(0.97, 1.03, classes)) if classes > 1 else np.ones(1)
    state_mib = rng.integers(400, 2500, classes) if classes > 1 else np.array([900])
    speed, capacity = np.array(_SPEED[:types]), np.array(_CAPACITY[:types])
    n = np.arange(SESSIONS_MAX + 2)
    alone_ms = np.zeros((types, classes, len(n)))
    base_ms = np.zeros((types, classes))
    common_ms = np.zeros((types, len(n)))
    match workload.batching:
        case "grouped":
            alone_ms = speed[:, None, None] * (120 * units**0.5)[None, :, None] * (n > 0)
            alone_ms = alone_ms + speed[:, None, None] * (60 * units)[None, :, None] * n
        case "packed":
            alone_ms = speed[:, None, None] * (60 * units)[None, :, None] * n
            common_ms = speed[:, None] * 120.0 * (n > 0)
        case "turboserve":
            base_ms = 180.0 * speed[:, None] * units
            common_ms = speed[:, None] * (55.0 * np.maximum(n - 1, 0) + 18.0 * (n / capacity[:, None]) ** 2)
    alone_us, base_us, common_us = (np.rint(1000 * part).astype(np.int64) for part in (alone_ms, base_ms, common_ms))
    (alone_us if workload.batching == "grouped" else common_us)[..., -1] = NEVER_US
    tables = RoundTables(batching=workload.batching, alone_us=alone_us, base_us=base_us, common_us=common_us)
    return tables, state_mib.astype(np.int64)


def _drifted(
    drift: Drift, gpu_type: npt.NDArray[np.int32], shares: Floats, sessions: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """An even fill, then departures that a router has made good without looking much."""
    gpus, classes = len(gpu_type), len(shares)
    speed = np.array(_SPEED)[gpu_type]
    fill = np.floor(sessions / speed / (1 / speed).sum()).astype(np.int64)
    fill[rng.choice(gpus, sessions - fill.sum(), replace=False)] += 1
    running = rng.multinomial(fill, shares)
    running = running - rng.binomial(running, 0.4 if drift == "heavy" else 0.25)
    total = running.sum(axis=1)
    for k in rng.choice(classes, int(0.85 * (sessions - total.sum())), p=shares):
        first, second = rng.integers(0, gpus, 2)
        better = drift == "burst" or total[first] * speed[first] <= total[second] * speed[second]
        gpu = first if better else second
        if total[gpu] < SESSIONS_MAX:
            running[gpu, k] += 1
            total[gpu] += 1
    waiting = rng.multinomial(max(1, round((CHURN if drift == "heavy" else 0.08) * sessions)), shares)
    return running, waiting


def _steady(
    tables: RoundTables, gpu_type: npt.NDArray[np.int32], shares: Floats, sessions: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Sessions one by one to the GPU whose round is shortest with them, then one epoch of churn."""
    gpus, classes = len(gpu_type), len(shares)
    running = np.zeros((gpus, classes), dtype=np.int64)
    one_more = np.eye(classes, dtype=np.int64)
    entered_us = np.stack([tables.latency_us(gpu_type, running + one_more[k]) for k in range(classes)])
    for k in rng.choice(classes, sessions, p=shares):
        gpu = int(entered_us[k].argmin())
        running[gpu, k] += 1
        entered_us[:, gpu] = tables.latency_us(np.full(classes, gpu_type[gpu]), running[gpu] + one_more)
    running = running - rng.binomial(running, CHURN)
    return running, rng.multinomial(max(1, round(CHURN * sessions)), shares)
