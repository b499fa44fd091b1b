"""Sessions that are held where they are: the problem says exactly that, for every batching model."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from solvers.placement.check import evaluate, violations
from solvers.placement.meter import Meter
from solvers.placement.pinned import pinned
from solvers.placement.portfolio import solve
from solvers.placement.problem import NEVER_US, IntArray, Problem, RoundTables
from solvers.placement.solution import Placement
from tests.solvers.placement.brute_force import every, in_order, optimum
from tests.solvers.placement.builders import a_placement_problem, grouped, packed, turboserve
from tests.solvers.placement.strategies import placement_problems

TABLES = {
    "grouped": grouped([[100, 150, 310, 400], [120, 250]], [[80, 170, 200], [90, 200, 320]]),
    "packed": packed((50, [20, 30], 4), (40, [25, 20], 4)),
    "turboserve": turboserve(([100, 130], [5, 12, 30, 60]), ([90, 140], [4, 10, 35, 70])),
}


def a_pair(tables: RoundTables) -> Problem:
    return a_placement_problem("AAAB | B", tables=tables, gpu_type=[0, 1])


@pytest.mark.parametrize("batching", TABLES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_latencies_are_those_of_the_whole_batch(batching: str, count: int) -> None:
    problem = a_pair(TABLES[batching])
    held = pinned(problem, 0, 0, count)
    for free, other in product(range(5), range(3)):
        whole: IntArray = np.array([[free + count, other], [free, other]])
        split: IntArray = np.array([[free, other, count], [free, other, 0]])
        assert (held.latency_us(split) == problem.latency_us(whole)).all()


@pytest.mark.parametrize("batching", TABLES)
def test_the_held_can_run_nowhere_else(batching: str) -> None:
    held = pinned(a_pair(TABLES[batching]), 0, 0, 1)
    counts: IntArray = np.array([[0, 0, 0], [0, 0, 1]])
    assert held.latency_us(counts)[1] >= NEVER_US
    out, arrived = np.zeros_like(held.running), np.zeros_like(held.running)
    out[0, 2], arrived[1, 2] = 1, 1
    assert violations(held, Placement(out=out, arrived=arrived, placed=np.zeros_like(out)))


@pytest.mark.parametrize("batching", TABLES)
def test_a_placement_is_worth_the_same_with_and_without_the_name_of_who_stays(batching: str) -> None:
    problem = a_pair(TABLES[batching])
    held = pinned(problem, 0, 0, 2)
    out, arrived = np.zeros_like(problem.running), np.zeros_like(problem.running)
    out[0, 0], arrived[1, 0] = 1, 1
    placement = Placement(out=out, arrived=arrived, placed=np.zeros_like(out))
    wider = Placement(
        out=np.pad(out, ((0, 0), (0, 1))),
        arrived=np.pad(arrived, ((0, 0), (0, 1))),
        placed=np.zeros_like(held.running),
    )
    assert not violations(problem, placement)
    assert not violations(held, wider)
    assert evaluate(problem, placement) == evaluate(held, wider)


@pytest.mark.parametrize("batching", TABLES)
def test_the_cascade_leaves_the_held_where_they_are(batching: str) -> None:
    """On both GPUs they may run; all three held, only the class beside them can go."""
    problem = a_pair(TABLES[batching])
    answer = solve(pinned(problem, 0, 0, 3), Meter(work=200))
    assert answer.placement.out[0, [0, 2]].tolist() == [0, 0]
    assert answer.placement.arrived[:, 2].tolist() == [0, 0]


@given(placement_problems(gpus_max=3), st.data())
@settings(max_examples=60)
def test_the_best_placement_is_that_of_the_problem_among_those_in_which_they_stay(
    problem: Problem, data: st.DataObject
) -> None:
    present = np.argwhere(problem.running > 0)
    assume(len(present))
    gpu, k = data.draw(st.sampled_from([tuple(map(int, place)) for place in present]))
    count = data.draw(st.integers(1, int(problem.running[gpu, k])))
    allowed = [
        in_order(problem, value)
        for placement, value in every(problem)
        if placement.out[gpu, k] <= problem.running[gpu, k] - count
    ]
    held = pinned(problem, gpu, k, count)
    assert in_order(held, optimum(held)[1]) == min(allowed)
