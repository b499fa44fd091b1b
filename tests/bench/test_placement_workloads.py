"""Placement workloads are equal at every call, valid, and churn as they say."""

from __future__ import annotations

import numpy as np
import pytest

from bench.placement_workloads import (
    DRIFTS,
    MOVES_PER_GPU,
    MOVES_SHARE,
    SESSIONS_MAX,
    Drift,
    PlacementWorkload,
    arrivals_mean,
    churn,
)
from scheduler.policies.turboserve_placement import place_like_turboserve
from solvers.placement.check import evaluate, violations
from solvers.placement.problem import NEVER_US, Batching, Problem
from solvers.placement.solution import Placement

BATCHINGS: tuple[Batching, ...] = ("grouped", "packed", "turboserve")


def parts(problem: Problem) -> list[bytes]:
    tables = problem.tables
    arrays = (tables.alone_us, tables.base_us, tables.common_us, problem.gpu_type, problem.running, problem.waiting)
    return [array.tobytes() for array in (*arrays, problem.memory_mib, problem.state_mib)]


@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.parametrize("batching", BATCHINGS)
def test_a_workload_is_the_same_problem_at_every_call_and_another_with_another_seed(
    batching: Batching, drift: Drift
) -> None:
    first, second = (PlacementWorkload(gpus=16, classes=4, batching=batching, drift=drift).problem() for _ in range(2))
    other = PlacementWorkload(gpus=16, classes=4, batching=batching, drift=drift, seed=1).problem()
    assert parts(first) == parts(second)
    assert parts(first) != parts(other)


@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize(("classes", "types"), [(1, 1), (4, 3), (12, 1)])
def test_nothing_is_broken_before_planning(batching: Batching, drift: Drift, classes: int, types: int) -> None:
    for seed in range(4):
        workload = PlacementWorkload(gpus=64, classes=classes, batching=batching, types=types, drift=drift, seed=seed)
        problem = workload.problem()
        nobody = Placement.unchanged(problem)
        assert violations(problem, nobody) == []
        assert evaluate(problem, nobody).repair == 0
        sessions = int(problem.running.sum() + problem.waiting.sum())
        assert 4.5 <= sessions / 64 <= 10.5
        assert problem.waiting.sum() > 0
        assert problem.moves_max == max(2, int(MOVES_SHARE * sessions))
        assert (problem.out_max == MOVES_PER_GPU).all()
        assert (problem.in_max == MOVES_PER_GPU).all()


@pytest.mark.parametrize("batching", BATCHINGS)
def test_latencies_never_fall_with_more_sessions_and_end_at_the_largest_batch(batching: Batching) -> None:
    tables = PlacementWorkload(gpus=4, classes=4, batching=batching, types=3).problem().tables
    counts = np.arange(SESSIONS_MAX + 2)
    for k in range(4):
        only = np.zeros((len(counts), 4), dtype=np.int64)
        only[:, k] = counts
        for gpu_type in range(3):
            latency_us = tables.latency_us(np.full(len(counts), gpu_type), only)
            assert latency_us[0] == 0
            assert (np.diff(latency_us) > 0).all()
            assert latency_us[SESSIONS_MAX] < NEVER_US
            assert latency_us[SESSIONS_MAX + 1] == NEVER_US


def test_churn_takes_and_brings_three_percent_and_places_nobody() -> None:
    problem = PlacementWorkload(gpus=256, classes=4, batching="turboserve", drift="steady").problem()
    arrivals = arrivals_mean(problem)
    placement = place_like_turboserve(problem)
    after = placement.after(problem)
    following = churn(problem, placement, np.random.default_rng(0), arrivals=arrivals)
    assert (following.running <= after).all()
    left = int((after - following.running).sum())
    assert 0.5 < left / (0.03 * after.sum()) < 1.5
    assert 0.5 < following.waiting.sum() / arrivals.sum() < 1.5


def test_two_policies_that_serve_everybody_meet_equal_crowds() -> None:
    problem = PlacementWorkload(gpus=16, classes=4, batching="grouped", drift="burst").problem()
    arrivals = arrivals_mean(problem)
    loops = [problem, problem]
    for epoch in range(5):
        placements = [place_like_turboserve(loops[0]), place_like_turboserve(loops[1], load="sessions", steps_max=9)]
        assert all(not any(evaluate(p, x).serve) for p, x in zip(loops, placements, strict=True))
        loops = [
            churn(p, x, np.random.default_rng([7, epoch]), arrivals=arrivals)
            for p, x in zip(loops, placements, strict=True)
        ]
        assert (loops[0].waiting == loops[1].waiting).all()
        assert (loops[0].running.sum(axis=0) == loops[1].running.sum(axis=0)).all()
    assert (loops[0].running != loops[1].running).any()


def test_who_was_not_placed_waits_on() -> None:
    problem = PlacementWorkload(gpus=4, classes=4, batching="packed").problem()
    following = churn(
        problem, Placement.unchanged(problem), np.random.default_rng(0), arrivals=np.zeros(4, dtype=np.float64)
    )
    assert (following.waiting == problem.waiting).all()
