"""The reference's heuristic does what its description says, in both writings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.placement_workloads import DRIFTS, PlacementWorkload
from bench.turboserve_plain import place_plainly
from scheduler.policies.turboserve_placement import Load, migration_price_us, place_like_turboserve
from solvers.placement.check import violations
from solvers.placement.problem import NEVER_US, NO_TARGET_US, UNLIMITED, Problem, RoundTables
from solvers.placement.solution import Placement


def a_problem(running: list[list[int]], waiting: list[int], *, ms: int = 100, **changes: Any) -> Problem:
    """A round takes `ms` per session; 12 at most; states of 1000 MiB, room for ten."""
    counts = np.array(running, dtype=np.int64)
    gpus, classes = counts.shape
    alone_us = np.zeros((1, classes, 14), dtype=np.int64)
    alone_us[0] = 1000 * ms * np.arange(14)
    alone_us[..., -1] = NEVER_US
    tables = RoundTables(
        batching="grouped",
        alone_us=alone_us,
        base_us=np.zeros((1, classes), dtype=np.int64),
        common_us=np.zeros((1, 14), dtype=np.int64),
    )
    problem = Problem(
        tables=tables,
        gpu_type=np.zeros(gpus, dtype=np.int32),
        running=counts,
        waiting=np.array(waiting, dtype=np.int64),
        receives=np.ones(gpus, dtype=np.bool_),
        leaving=np.zeros(gpus, dtype=np.bool_),
        memory_mib=np.full(gpus, 10_000, dtype=np.int64),
        state_mib=np.full(classes, 1000, dtype=np.int64),
        target_us=np.full(classes, NO_TARGET_US, dtype=np.int64),
        transfer_us=np.zeros(classes, dtype=np.int64),
        lateness_weight=np.ones(classes, dtype=np.int64),
        priority_rank=np.zeros(classes, dtype=np.int32),
        moves_max=100,
        moved_mib_max=UNLIMITED,
        out_max=np.full(gpus, 100, dtype=np.int64),
        in_max=np.full(gpus, 100, dtype=np.int64),
    )
    return replace(problem, **changes)


def after(problem: Problem, **options: Any) -> list[list[int]]:
    """Where everybody is; both writings have to agree, and the rules to hold."""
    placement, plainly = place_like_turboserve(problem, **options), place_plainly(problem, **options)
    assert_equal(placement, plainly)
    assert violations(problem, placement) == []
    result: list[list[int]] = placement.after(problem).tolist()
    return result


def assert_equal(first: Placement, second: Placement) -> None:
    for name in ("out", "arrived", "placed"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)


def test_waiting_sessions_go_to_the_least_loaded_gpu_one_by_one() -> None:
    assert after(a_problem([[3], [1], [2]], [3])) == [[3], [3], [3]]


def test_the_load_is_the_latency_or_the_number_of_sessions() -> None:
    alone_us = a_problem([[0, 0]], [0, 0]).tables.alone_us.copy()
    alone_us[0, 1, :-1] *= 5
    problem = a_problem([[0, 1], [2, 0]], [1, 0])
    problem = replace(problem, tables=replace(problem.tables, alone_us=alone_us))
    assert after(problem, steps_max=0) == [[0, 1], [3, 0]]
    assert after(problem, steps_max=0, load="sessions") == [[1, 1], [2, 0]]


def test_there_are_three_steps_and_no_more_unless_asked_for() -> None:
    problem = a_problem([[10], [0]], [0])
    assert after(problem) == [[7], [3]]
    assert after(problem, steps_max=9) == [[5], [5]]


def test_a_step_takes_from_the_worst_gpu() -> None:
    assert after(a_problem([[5], [9], [3]], [0]), steps_max=1) == [[5], [8], [4]]


@pytest.mark.parametrize(("ms", "moved"), [(40, 0), (41, 1)])
def test_a_gain_has_to_exceed_forty_milliseconds_after_the_price(ms: int, moved: int) -> None:
    # One session less on the worst GPU gains `ms`; 1000 MiB cost 0.01 * (8 + 1048.576 / 32) = 0.408 ms.
    assert after(a_problem([[4], [2]], [0], ms=ms)) == [[4 - moved], [2 + moved]]


def test_the_price_of_a_migration_is_a_hundredth_of_its_time() -> None:
    assert migration_price_us(a_problem([[0]], [0])) == [pytest.approx(0.01 * (8000 + 1000 * 1048.576 / 32))]


def test_two_worst_gpus_end_the_rebalancing() -> None:
    assert after(a_problem([[9], [9], [0]], [0])) == [[9], [9], [0]]


def test_a_gpu_that_is_emptied_loses_its_sessions_to_the_least_loaded() -> None:
    leaving = np.array([True, False, False])
    problem = a_problem([[3], [1], [2]], [0], leaving=leaving, receives=~leaving)
    assert after(problem) == [[0], [3], [3]]


def test_budgets_and_memory_hold_it_back() -> None:
    assert after(a_problem([[10], [0]], [0], moves_max=1)) == [[9], [1]]
    assert after(a_problem([[10], [0]], [0], moved_mib_max=2000)) == [[8], [2]]
    assert after(a_problem([[10], [0]], [0], out_max=np.array([1, 1]))) == [[9], [1]]
    assert after(a_problem([[10], [0], [1]], [0], in_max=np.array([1, 1, 1]))) == [[8], [1], [2]]
    assert after(a_problem([[9], [0]], [0], memory_mib=np.array([10_000, 1000]))) == [[8], [1]]


def test_who_fits_nowhere_waits() -> None:
    assert after(a_problem([[10], [9]], [3])) == [[10], [10]]
    assert after(a_problem([[12]], [1], memory_mib=np.array([20_000]))) == [[12]]


def test_a_session_that_was_only_placed_moves_without_a_migration() -> None:
    # The waiting one goes by sessions to the slower GPU, and the first step takes it to the other one.
    alone_us = np.stack([a_problem([[0]], [0]).tables.alone_us[0]] * 2)
    alone_us[0, :, :-1] *= 5
    problem = a_problem([[1], [2]], [1], gpu_type=np.array([0, 1], dtype=np.int32), moves_max=0)
    problem = replace(problem, tables=replace(problem.tables, alone_us=alone_us, **two_types()))
    placement = place_like_turboserve(problem, load="sessions")
    assert placement.placed.tolist() == [[0], [1]]
    assert placement.moves == 0
    assert after(problem, load="sessions") == [[1], [3]]


def two_types() -> dict[str, Any]:
    return {"base_us": np.zeros((2, 1), dtype=np.int64), "common_us": np.zeros((2, 14), dtype=np.int64)}


@pytest.mark.parametrize("load", ["latency", "sessions"])
@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.parametrize("steps_max", [3, 40])
def test_both_writings_agree_on_workloads(load: Load, drift: str, steps_max: int) -> None:
    for batching in ("grouped", "packed", "turboserve"):
        workload = PlacementWorkload(gpus=16, classes=4, batching=batching, types=3, drift=drift)  # type: ignore[arg-type]
        after(workload.problem(), steps_max=steps_max, load=load)


@st.composite
def hard_problems(draw: st.DrawFn) -> Problem:
    """Little room, small budgets, GPUs that are emptied or take nobody, batches and states that are too large."""
    gpus, classes = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    alone_us = np.sort(rng.integers(0, 400_000, (2, classes, 8)), axis=2)
    alone_us[..., 0] = 0
    alone_us[..., -1] = NEVER_US
    tables = RoundTables(
        batching="grouped",
        alone_us=alone_us,
        base_us=rng.integers(0, 200_000, (2, classes)),
        common_us=np.sort(rng.integers(0, 200_000, (2, 12)), axis=1),
    )
    leaving = rng.random(gpus) < 0.2
    return Problem(
        tables=tables,
        gpu_type=rng.integers(0, 2, gpus).astype(np.int32),
        running=rng.integers(0, 5, (gpus, classes)),
        waiting=rng.integers(0, 5, classes),
        receives=~leaving & (rng.random(gpus) < 0.9),
        leaving=leaving,
        memory_mib=rng.integers(1000, 12_000, gpus),
        state_mib=rng.integers(200, 2000, classes),
        target_us=np.full(classes, NO_TARGET_US, dtype=np.int64),
        transfer_us=np.zeros(classes, dtype=np.int64),
        lateness_weight=np.ones(classes, dtype=np.int64),
        priority_rank=np.arange(classes, dtype=np.int32) // 2,
        moves_max=int(rng.integers(0, 8)),
        moved_mib_max=int(rng.integers(500, 10_000)),
        out_max=rng.integers(0, 4, gpus),
        in_max=rng.integers(0, 4, gpus),
    )


@given(problem=hard_problems(), steps_max=st.integers(0, 8), load=st.sampled_from(["latency", "sessions"]))
@settings(deadline=None, max_examples=300)
def test_both_writings_agree_and_keep_the_rules_where_little_is_possible(
    problem: Problem, steps_max: int, load: Load
) -> None:
    after(problem, steps_max=steps_max, load=load)
