"""The workloads are what they are said to be, and equal at every call."""

from __future__ import annotations

from functools import cache

import polars as pl
import pytest

from bench.demand import Demand, describe_demand, gpus_needed_alone
from bench.offline_cases import CASES
from bench.result import Size
from bench.workloads import WORKLOADS, Workload, without_budget, workload
from scheduler.fleet import Fleet
from traces.assemble import trace_from_periods

FOUR = [name for name, wanted in WORKLOADS["standard"].items() if len(wanted.profiles) == 4]
TWO_TYPES = [name for name in WORKLOADS["standard"] if name.startswith("two-types")]


@cache
def asked_for(name: str, size: Size = "standard") -> tuple[Demand, Fleet]:
    trace, fleet = workload(name, size)
    return describe_demand(trace, fleet), fleet


def pool_gpus(fleet: Fleet, gpu_type: str) -> int:
    return sum(pool.nodes * pool.gpus_per_node for pool in fleet.pools if pool.gpu_type == gpu_type)


@pytest.mark.parametrize("name", ["four-kv", "four-synthetic"])
def test_a_workload_is_the_same_trace_at_every_call(name: str) -> None:
    first, second = (workload(name, "small")[0] for _ in range(2))
    assert first.sha256 == second.sha256
    assert first.sessions.equals(second.sessions)
    assert first.periods.equals(second.periods)


@pytest.mark.parametrize("family", ["kv", "synthetic"])
def test_another_seed_gives_another_trace(family: str) -> None:
    made = [
        Workload(family=family, hours=0.5, active_mean=10, fleet="one-type.yaml", seed=seed).trace("t")  # type: ignore[arg-type]
        for seed in (1, 2)
    ]
    assert made[0].sha256 != made[1].sha256


@pytest.mark.parametrize("name", ["one-kv", "one-synthetic"])
def test_the_one_profile_day_has_two_million_periods_and_fits_its_pool(name: str) -> None:
    demand, fleet = asked_for(name)
    assert demand.periods >= 2_000_000
    assert demand.horizon_s == pytest.approx(86_400, abs=1)
    assert fleet.epoch_s == 10
    assert demand.active_max <= 3 * pool_gpus(fleet, "h100")


@pytest.mark.parametrize("name", FOUR)
def test_no_profile_is_below_a_tenth_of_the_demand(name: str) -> None:
    demand, _ = asked_for(name)
    assert len(demand.shares) == 4
    assert min(demand.shares.values()) >= 0.1


@pytest.mark.parametrize("name", ["four-kv", "four-synthetic", *TWO_TYPES])
def test_the_large_days_have_800_active_on_average(name: str) -> None:
    demand, fleet = asked_for(name)
    assert demand.active_mean >= 800
    assert demand.horizon_s == pytest.approx(86_400, abs=1)
    assert fleet.epoch_s == 60


@pytest.mark.parametrize("name", ["four-kv-100", "four-synthetic-100"])
def test_the_smaller_days_have_about_100_active(name: str) -> None:
    assert asked_for(name)[0].active_mean == pytest.approx(100, abs=0.5)


@pytest.mark.parametrize("size", ["small", "standard"])
@pytest.mark.parametrize("name", TWO_TYPES)
def test_neither_gpu_type_alone_holds_the_peak(name: str, size: Size) -> None:
    demand, fleet = asked_for(name, size)
    for gpu_type in ("h100", "b200"):
        needed = gpus_needed_alone(demand.at_peak, fleet, gpu_type)
        assert needed is None or needed > pool_gpus(fleet, gpu_type)  # None: cannot run every profile


def test_gpus_needed_alone_counts_sessions_that_are_on_time() -> None:
    fleet = WORKLOADS["small"]["two-types-kv"].gpus()
    assert gpus_needed_alone({"wan-1.3b-480p": 7}, fleet, "h100") == pytest.approx(7 / 3)
    assert gpus_needed_alone({"wan-1.3b-480p": 7, "wan-14b-480p": 1}, fleet, "h100") is None
    assert gpus_needed_alone({"wan-1.3b-480p": 16, "wan-14b-480p": 2}, fleet, "b200") == pytest.approx(4)


def test_demand_counts_a_session_out_before_the_next_comes_in() -> None:
    fleet = WORKLOADS["small"]["four-kv"].gpus()
    periods = pl.DataFrame(
        {
            "session_id": ["a", "b", "c"],
            "profile": ["wan-1.3b-480p", "wan-1.3b-480p", "wan-14b-480p"],
            "start_s": [0.0, 2.0, 3.0],
            "end_s": [2.0, 4.0, 4.0],
        }
    )
    demand = describe_demand(trace_from_periods(periods), fleet)
    assert demand.active_max == 2
    assert demand.active_mean == pytest.approx(5 / 4)
    assert demand.shares["wan-14b-480p"] == pytest.approx(1 / 5)
    assert {name: count for name, count in demand.at_peak.items() if count} == {"wan-1.3b-480p": 1, "wan-14b-480p": 1}


def test_without_a_budget_every_move_is_allowed_and_nothing_else_changes() -> None:
    fleet = WORKLOADS["small"]["one-kv"].gpus()
    free = without_budget(fleet)
    assert "budget" in fleet.effective()
    assert not free.effective().get("budget")
    assert {**free.effective(), "budget": None} == {**fleet.effective(), "budget": None}


@pytest.mark.parametrize("size", ["small", "standard"])
def test_every_case_leaves_time_to_read_check_and_write(size: Size) -> None:
    for case in CASES[size].values():
        assert case.workload in WORKLOADS[size]
        if case.seconds_max is not None:
            assert case.options().deadline_s < case.seconds_max
