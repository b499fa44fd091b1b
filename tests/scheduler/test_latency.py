"""The vectorised chunk latency against the formulas, written out one content at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.fleet import Fleet
from scheduler.latency import chunk_latency_ms, chunk_latency_ms_mixed, seats

FLEET: dict[str, Any] = {
    "format": "epochal.fleet/1",
    "epoch_s": 5.0,
    "batching": "grouped",
    "gpu_types": {
        "h100": {"memory_gib": 80.0, "price_per_hour": 2.5, "startup_s": 60.0},
        "l40": {"memory_gib": 20.0, "weights_gib": 8.0, "price_per_hour": 0.8, "startup_s": 60.0},
    },
    "pools": [{"gpu_type": "h100", "nodes": 1, "gpus_per_node": 8}],
    "links": {"device_host_gb_s": 50.0, "device_device_gb_s": 300.0, "node_node_gb_s": 35.0, "latency_ms": 8.0},
    "profiles": {
        "small": {
            "chunk_s": 0.75,
            "state_gib": 3.0,
            "latency_ms": {"h100": [215.0, 400.0, 590.0, 780.0], "l40": [500.0, 700.0, 740.0, 745.0, 750.0]},
            "per_session_ms": {"h100": 180.0, "l40": 300.0},
            "base_ms": {"h100": 200.0, "l40": 420.0},
        },
        "large": {
            "chunk_s": 1.0,
            "state_gib": 15.0,
            "target_ms": 1000.0,
            "latency_ms": {"h100": [500.0, 990.0]},
            "per_session_ms": {"h100": 450.0},
            "base_ms": {"h100": 480.0},
        },
    },
    "packed": {"h100": {"fixed_ms": 30.0, "sessions_max": 5}, "l40": {"fixed_ms": 40.0, "sessions_max": 2}},
    "crowding_ms": {"h100": [10.0, 25.0, 60.0, 130.0], "l40": [30.0, 80.0]},
    "target": {"chunk_latency_ms": 750.0, "first_chunk_ms": 3000.0},
}


def _fleet(batching: str) -> Fleet:
    return Fleet.model_validate({**FLEET, "batching": batching})


def _naive_ms(fleet: Fleet, gpu_type: str, content: tuple[int, ...]) -> float:
    present = [(p, n) for p, n in zip(fleet.profiles.values(), content, strict=True) if n > 0]
    if not present:
        return 0.0
    everybody = sum(n for _, n in present)
    if fleet.batching == "grouped":
        total = 0.0
        for profile, n in present:
            assert profile.latency_ms is not None
            table = profile.latency_ms.get(gpu_type, [])
            total += table[n - 1] if n <= len(table) else float("inf")
        return total
    if fleet.batching == "packed":
        assert fleet.packed is not None
        cost = fleet.packed[gpu_type]
        if everybody > cost.sessions_max or any(gpu_type not in (p.per_session_ms or {}) for p, _ in present):
            return float("inf")
        return cost.fixed_ms + sum((p.per_session_ms or {})[gpu_type] * n for p, n in present)
    assert fleet.crowding_ms is not None
    table = fleet.crowding_ms[gpu_type]
    if everybody > len(table) or any(gpu_type not in (p.base_ms or {}) for p, _ in present):
        return float("inf")
    return max((p.base_ms or {})[gpu_type] for p, _ in present) + table[everybody - 1]


@pytest.mark.parametrize("batching", ["grouped", "packed", "turboserve"])
@given(contents=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=20))
def test_latency_is_that_of_the_formula_for_each_content(batching: str, contents: list[tuple[int, int]]) -> None:
    fleet = _fleet(batching)
    for gpu_type in fleet.gpu_types:
        expected = [_naive_ms(fleet, gpu_type, content) for content in contents]
        assert chunk_latency_ms(fleet, gpu_type, np.array(contents)) == pytest.approx(expected)


def test_rows_on_different_types_get_the_figures_of_their_own_type() -> None:
    fleet = _fleet("grouped")
    counts = np.array([[1, 0], [1, 0], [0, 1]])
    assert chunk_latency_ms_mixed(fleet, np.array([0, 1, 0]), counts).tolist() == [215.0, 500.0, 500.0]


def test_no_rows_give_no_latencies() -> None:
    assert chunk_latency_ms(_fleet("packed"), "h100", np.zeros((0, 2), np.int64)).shape == (0,)


@pytest.mark.parametrize(
    ("batching", "gpu_type", "expected"),
    [
        ("grouped", "h100", [3, 2]),  # 590 ms is within 750, 780 is not; 990 is within the profile's own 1000
        ("grouped", "l40", [4, 0]),  # memory holds (20 - 8) / 3 = 4, although a batch of 5 is on time
        ("packed", "h100", [4, 2]),
        ("turboserve", "h100", [4, 4]),
        ("turboserve", "l40", [2, 0]),
    ],
)
def test_seats_respect_target_and_memory(batching: str, gpu_type: str, expected: list[int]) -> None:
    assert seats(_fleet(batching), gpu_type).tolist() == expected


def test_unknown_gpu_type_is_refused() -> None:
    with pytest.raises(KeyError):
        chunk_latency_ms(_fleet("grouped"), "b200", np.zeros((1, 2), np.int64))
