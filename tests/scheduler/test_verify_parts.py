"""Closed forms and enumerations behind the check, against brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from scheduler.fleet import Fleet
from scheduler.verify import content_rules
from scheduler.verify.content_rules import ContentRules
from scheduler.verify.covering import covering_epochs
from scheduler.verify.sweep import last_at_or_before, most_at_once
from solvers.needed_cost import least_cost
from tests.builders import a_fleet


def brute_cover(need: list[int], start: int) -> int:
    """Dynamic programming over the number of GPUs on."""
    top = max(need, default=0)
    best = {0: 0}
    for wanted in need:
        best = {
            on: min(cost + on + start * max(0, on - before) for before, cost in best.items())
            for on in range(wanted, top + 1)
        }
    return min(best.values())


def ints(values: list[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize("seed", range(30))
def test_covering_cost_is_the_least(seed: int) -> None:
    rng = np.random.default_rng(seed)
    need = [int(n) for n in rng.integers(0, 5, size=12)]
    start = int(rng.integers(0, 4))
    assert covering_epochs(ints(need), start) == brute_cover(need, start)


def test_covering_nothing_costs_nothing() -> None:
    assert covering_epochs(ints([0, 0]), 3) == 0


@pytest.mark.parametrize("seed", range(6))
def test_program_agrees_with_the_closed_form_for_one_type(seed: int) -> None:
    rng = np.random.default_rng(seed)
    need = ints([int(n) for n in rng.integers(0, 6, size=10)])
    cost = least_cost(
        epochs=10,
        epoch_cost=np.array([2.0]),
        start_cost=np.array([6.0]),
        low=np.array([0.0]),
        high=np.array([10.0]),
        row_epoch=np.arange(10),
        row_weights=np.ones((10, 1)),
        row_side=need.astype(np.float64),
        whole=False,
        before=np.zeros(1),
    )[0]
    assert cost == pytest.approx(2 * covering_epochs(need, 3))


def test_whole_gpus_cost_more_than_fractions() -> None:
    """3 units of weight from GPUs of weight 2 (at $1) and 5 (at $4): 1.5 of the first, or two whole ones."""
    both = [
        least_cost(
            epochs=1,
            epoch_cost=np.array([1.0, 4.0]),
            start_cost=np.zeros(2),
            low=np.zeros(2),
            high=np.full(2, 9.0),
            row_epoch=np.zeros(1, dtype=np.int64),
            row_weights=np.array([[2.0, 5.0]]),
            row_side=np.array([3.0]),
            whole=whole,
            before=np.zeros(2),
        )[0]
        for whole in (False, True)
    ]
    assert both == [pytest.approx(1.5), pytest.approx(2.0)]


def test_needs_beyond_the_pools_prove_infinity() -> None:
    cost = least_cost(
        epochs=1,
        epoch_cost=np.ones(1),
        start_cost=np.zeros(1),
        low=np.zeros(1),
        high=np.ones(1),
        row_epoch=np.zeros(1, dtype=np.int64),
        row_weights=np.ones((1, 1)),
        row_side=np.array([2.0]),
        whole=False,
        before=np.zeros(1),
    )[0]
    assert cost == float("inf")


def a_mixed_fleet(batching: str) -> Fleet:
    profiles: dict[str, Any] = {
        "a": {
            "latency_ms": {"h100": [100.0, 200.0, 300.0]},
            "per_session_ms": {"h100": 60.0},
            "base_ms": {"h100": 90.0},
        },
        "b": {"latency_ms": {"h100": [120.0, 150.0]}, "per_session_ms": {"h100": 80.0}, "base_ms": {"h100": 150.0}},
        "c": {"latency_ms": {}, "per_session_ms": {}, "base_ms": {}},
    }
    for name, (state_gib, target_ms) in {"a": (4.0, 320.0), "b": (5.0, 250.0), "c": (1.0, 250.0)}.items():
        profiles[name] |= {"chunk_s": 1.0, "state_gib": state_gib, "target_ms": target_ms}
    return a_fleet(
        {
            "batching": batching,
            "profiles": profiles,
            "packed": {"h100": {"fixed_ms": 20.0, "sessions_max": 4}},
            "crowding_ms": {"h100": [1.0, 50.0, 120.0]},
        }
    )


def expected_latency(batching: str, a: int, b: int) -> float:
    tables = {"a": [0, 100, 200, 300], "b": [0, 120, 150]}
    if a + b == 0:
        return 0.0
    if batching == "grouped":
        return tables["a"][a] + tables["b"][b]
    if batching == "packed":
        return 20 + 60 * a + 80 * b
    return max(90 * (a > 0), 150 * (b > 0)) + [1, 50, 120][a + b - 1]


def is_allowed(batching: str, a: int, b: int) -> bool:
    if batching == "grouped":
        return a <= 3 and b <= 2
    return a + b <= (4 if batching == "packed" else 3)


@pytest.mark.parametrize("batching", ["grouped", "packed", "turboserve"])
def test_latency_and_feasible_contents_follow_the_batching(batching: str) -> None:
    rules = ContentRules(a_mixed_fleet(batching))
    feasible = set()
    for a, b, c in itertools.product(range(6), range(6), range(2)):
        content = ints([a, b, c])[None, :]
        latency_ms, allowed = rules.latency_ms(0, content)
        assert bool(allowed[0]) == (is_allowed(batching, a, b) and c == 0)
        if not allowed[0]:
            continue
        value = expected_latency(batching, a, b)
        assert latency_ms[0] == pytest.approx(value)
        on_time = value <= min([320] * (a > 0) + [250] * (b > 0), default=1e9)
        assert bool(rules.feasible(0, content)[0]) == (on_time and 4 * a + 5 * b <= 16)
        if rules.feasible(0, content)[0]:
            feasible.add((a, b, c))
    top = rules.maximal(0, ints([0, 1, 2]))
    assert top is not None
    dominated = {
        x for x in feasible if any(y != x and all(p <= q for p, q in zip(x, y, strict=True)) for y in feasible)
    }
    assert {tuple(x) for x in top.tolist()} == feasible - dominated


def test_weight_limit_is_never_below_the_heaviest_content(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ContentRules(a_mixed_fleet("grouped"))
    weights = np.array([1.0, 1.5, 0.0])
    top = rules.maximal(0, ints([0, 1, 2]))
    assert top is not None
    assert rules.weight_limit(0, weights) >= (top @ weights).max()
    monkeypatch.setattr(content_rules, "CONTENTS_MAX", 2)
    assert rules.maximal(0, ints([0, 1, 2])) is None


def test_last_entry_at_or_before_is_of_the_same_group() -> None:
    found = last_at_or_before(ints([1, 0, 1]), ints([5, 7, 9]), ints([1, 1, 0, 0, 2]), ints([8, 4, 7, 6, 9]))
    assert found.tolist() == [0, -1, 1, -1, -1]


def test_huge_times_are_ranked_instead_of_shifted() -> None:
    far = 2**61
    found = last_at_or_before(ints([0, 3]), ints([-far, far]), ints([3, 3]), ints([far, 0]))
    assert found.tolist() == [1, -1]


def test_intervals_that_touch_do_not_meet() -> None:
    most, when = most_at_once(ints([0, 0, 2]), ints([0, 5, 1]), ints([5, 9, 2]))
    assert most.tolist() == [1, 0, 1]
    assert when.tolist() == [0, 0, 1]
