"""Fewest GPUs for a demand against trying everything.

Decides whether closed forms, bounds and packings are right; must never know how they are found.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest

from solvers.capacity import Capacity, nested_caps, nested_need
from solvers.contents import ContentTable, RoundCosts, TypeLimits, enumerate_contents

Batching = str


def a_table(batching: str, rng: np.random.Generator, classes: int) -> ContentTable:
    """On-time contents of a small GPU."""
    if batching == "grouped":
        tables = tuple(tuple(np.cumsum(rng.integers(1, 4, 4)).astype(float).tolist()) for _ in range(classes))
        costs = RoundCosts(batching="grouped", tables_ms=tables)
    elif batching == "packed":
        costs = RoundCosts(
            batching="packed",
            fixed_ms=1.0,
            per_session_ms=tuple(rng.integers(1, 5, classes).astype(float).tolist()),
            sessions_max=5,
        )
    else:
        costs = RoundCosts(
            batching="turboserve",
            base_ms=tuple(rng.integers(1, 7, classes).astype(float).tolist()),
            crowding_ms=tuple(np.cumsum(rng.integers(0, 3, 5)).astype(float).tolist()),
            sessions_max=5,
        )
    limits = TypeLimits(costs=costs, memory_gib=9.0, state_gib=(1.0,) * classes)
    return enumerate_contents(limits, (8.0,) * classes, allow_late=False)


def least_price(tables: list[ContentTable], prices: list[int], demand: tuple[int, ...]) -> int:
    """Every way to cover the demand, GPU by GPU."""
    contents = [
        (tuple(row), prices[t]) for t, table in enumerate(tables) for row in table.counts[table.maximal()].tolist()
    ]

    @cache
    def cover(left: tuple[int, ...]) -> int:
        if not any(left):
            return 0
        k = next(i for i, count in enumerate(left) if count)
        return min(
            price + cover(tuple(max(0, a - b) for a, b in zip(left, content, strict=True)))
            for content, price in contents
            if content[k]
        )

    return cover(demand)


CASES = [
    (batching, types, seed)
    for batching, types, seed in itertools.product(("grouped", "packed", "turboserve"), (1, 2), range(8))
]


@pytest.mark.parametrize(("batching", "types", "seed"), CASES)
def test_the_cheapest_gpus_are_found_and_the_bound_is_never_above_them(batching: str, types: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 4))
    tables = [a_table(batching, rng, classes) for _ in range(types)]
    prices = rng.integers(100, 400, types).tolist()
    capacity = Capacity(tables, prices)
    for _ in range(4):
        demand = np.where(capacity.runs, rng.integers(0, 7, classes), 0)
        found = capacity.fewest(demand)
        truth = least_price(tables, prices, tuple(demand.tolist()))
        assert found.bound <= truth <= found.price
        assert found.price == int(found.gpus @ np.array(prices))
        assert found.proven, "tiny instances end within the node limit"


@pytest.mark.parametrize("seed", range(12))
def test_nested_caps_are_recognised_and_exact(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    classes = int(rng.integers(1, 4))
    table = a_table("turboserve", rng, classes)
    caps = nested_caps(table)
    assert caps is not None
    demand = np.where(caps > 0, rng.integers(0, 9, classes), 0)
    assert nested_need(caps, demand) == least_price([table], [1], tuple(demand.tolist()))


def test_contents_that_only_count_sessions_of_each_class_are_not_nested() -> None:
    costs = RoundCosts(batching="grouped", tables_ms=((3.0, 6.0), (6.0, 8.0)))
    limits = TypeLimits(costs=costs, memory_gib=9.0, state_gib=(1.0, 1.0))
    assert nested_caps(enumerate_contents(limits, (8.0, 8.0), allow_late=False)) is None


def test_a_class_that_no_gpu_runs_on_time_is_told_apart() -> None:
    costs = RoundCosts(batching="grouped", tables_ms=((3.0, 6.0), (9.0,)))
    limits = TypeLimits(costs=costs, memory_gib=9.0, state_gib=(1.0, 1.0))
    capacity = Capacity([enumerate_contents(limits, (8.0, 8.0), allow_late=False)], [100])
    assert capacity.runs.tolist() == [True, False]
    assert capacity.fewest(np.array([5, 0])).gpus.tolist() == [3]
    with pytest.raises(AssertionError, match="on time"):
        capacity.fewest(np.array([0, 1]))


@pytest.mark.parametrize("seed", range(10))
def test_inequalities_hold_for_whatever_gpus_suffice_and_are_violated_by_none(seed: int) -> None:
    rng = np.random.default_rng(200 + seed)
    tables = [a_table("grouped", rng, 2) for _ in range(2)]
    capacity = Capacity(tables, [100, 150])
    demand = np.where(capacity.runs, rng.integers(1, 9, 2), 0)
    found = capacity.fewest(demand)
    row = capacity.strongest(demand.astype(np.float64))
    assert row is not None
    assert np.dot(row.limit, found.gpus) >= np.dot(row.weights, demand) - 1e-6
    assert capacity.violated(demand.astype(np.float64), found.gpus.astype(np.float64)) is None
    assert capacity.violated(demand.astype(np.float64), np.zeros(2)) is not None


def test_no_demand_needs_no_gpu() -> None:
    table = a_table("grouped", np.random.default_rng(1), 2)
    assert Capacity([table], [100]).fewest(np.zeros(2, dtype=np.int64)).gpus.tolist() == [0]
