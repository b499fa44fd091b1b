"""What GPUs cost at least, against figures worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from runtime.controller.process.least_cost import LeastCost
from tests.builders import a_fleet

H100 = 3.6  # dollars per hour; it holds two sessions of profile a
SMALL = {"memory_gib": 20.0, "weights_gib": 4.0, "startup_s": 0.0}
TWO_POOLS = [
    {"gpu_type": "h100", "nodes": 2, "gpus_per_node": 1},
    {"gpu_type": "small", "nodes": 9, "gpus_per_node": 1},
]


def with_small(price_per_hour: float, **changes: Any) -> Mapping[str, Any]:
    """Another type, which holds one session of profile a on time."""
    return {
        "gpu_types.small": SMALL | {"price_per_hour": price_per_hour},
        "pools": TWO_POOLS,
        "profiles.a.latency_ms.small": [200.0],
    } | changes


@pytest.mark.parametrize(
    ("changes", "active", "least"),
    [
        ({}, {}, 0.0),
        ({}, {"a": 1}, H100),
        ({}, {"a": 4}, 2 * H100),
        ({}, {"a": 5}, 3 * H100),
        ({}, {"a": 9}, 5 * H100),  # of which the fleet has four: nobody could have held them all
        ({"pools.0.gpus_min": 2}, {"a": 1}, 2 * H100),
        ({"pools.0.gpus_min": 2}, {}, 2 * H100),
        (with_small(1.0), {"a": 3}, 3 * 1.0),
        (with_small(1.9), {"a": 4}, 2 * H100),
        (
            {"profiles.huge": {"chunk_s": 1.0, "state_gib": 99.0, "latency_ms": {"h100": [1.0]}}},
            {"a": 1, "huge": 7},
            H100,
        ),
        ({}, {"a": 2, "of another fleet": 7}, H100),
    ],
)
def test_whole_gpus_that_hold_everybody_on_time(
    changes: Mapping[str, Any], active: Mapping[str, int], least: float
) -> None:
    least_cost = LeastCost(a_fleet(changes))
    assert least_cost.per_hour(active) == pytest.approx(least)
    assert least_cost.per_hour(active) == pytest.approx(least), "what was found is kept"


def test_a_type_at_a_better_rate_is_never_undercut() -> None:
    """Three sessions take two large GPUs, or a large and a small one: the bound is not above the cheaper of them."""
    least = LeastCost(a_fleet(with_small(2.0))).per_hour({"a": 3})
    assert least is not None
    assert 1.5 * H100 <= least + 1e-9 <= H100 + 2.0 + 1e-6


def test_of_too_many_mixes_nothing_is_said() -> None:
    profiles = {
        f"p{index}": {"chunk_s": 1.0, "state_gib": 0.01 + index / 1000, "latency_ms": {"h100": [1.0 + index] * 40}}
        for index in range(12)
    }
    fleet = a_fleet({"profiles": profiles, "target": {"chunk_latency_ms": 60.0, "first_chunk_ms": 3000.0}})
    assert LeastCost(fleet).per_hour(dict.fromkeys(profiles, 3)) is None
