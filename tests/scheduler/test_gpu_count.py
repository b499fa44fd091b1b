"""What holds for the GPU count whatever was asked before, however little time there is, and however many mixes fit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scheduler.cluster import Session, SessionId, Snapshot
from scheduler.cluster_state import ClusterState, all_off
from scheduler.fleet import Fleet
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings, ScalingSettings
from scheduler.policy import Budget
from scheduler.scaling import ScaleByForecast
from solvers.coarse_capacity import CoarseCapacity
from tests.builders import a_fleet
from tests.scheduler.clusters import WORK, a_cluster, gpu, two_profiles

NO_TIME = Budget(work=1)


def several_types() -> Fleet:
    """Three types of sixteen GPUs; three profiles whose rounds take longer on cheaper ones."""
    slower = {"h100": 1.0, "a100": 1.6, "l40": 2.3}
    profiles: dict[str, Any] = {}
    for k, name in enumerate("abc"):
        table = {t: [(40.0 + 20 * k + (25 + 12 * k) * n) * by for n in range(1, 9)] for t, by in slower.items()}
        profiles[name] = {"chunk_s": 1.0, "state_gib": 1.5 + 0.5 * k, "latency_ms": table}
    own = {"memory_gib": 20.0, "weights_gib": 4.0, "startup_s": 20.0}
    return a_fleet(
        {
            "gpu_types": {t: {**own, "price_per_hour": p} for t, p in zip(slower, (3.6, 2.0, 1.3), strict=True)},
            "pools": [{"gpu_type": t, "nodes": 2, "gpus_per_node": 8} for t in slower],
            "profiles": profiles,
            "target.chunk_latency_ms": 400.0,
        }
    )


def waiting(snapshot: Snapshot, counts: dict[str, int], past: dict[str, tuple[int, ...]] | None = None) -> Snapshot:
    sessions = {
        SessionId(f"{p}{i}"): Session(session_id=SessionId(f"{p}{i}"), profile=p, status="waiting", since_s=0.0)
        for p, count in counts.items()
        for i in range(count)
    }
    return replace(snapshot, sessions=sessions, history=replace(snapshot.history, active_max=past or {}))


def test_a_decision_does_not_depend_on_those_before_it() -> None:
    fleet, rng = several_types(), np.random.default_rng(5)
    cases = [
        waiting(
            all_off(fleet),
            {p: int(rng.integers(0, 30)) for p in "abc"},
            {p: tuple(rng.poisson(15, 60).tolist()) for p in "abc"},
        )
        for _ in range(4)
    ]
    used = ScaleByForecast(fleet)
    first = [used.decide(case, 0.0) for case in cases]
    again = [used.decide(case, 0.0) for case in reversed(cases)][::-1]
    fresh = [ScaleByForecast(fleet).decide(case, 0.0) for case in cases]
    assert first == again == fresh
    assert len({tuple(decision.aims.values()) for decision in first}) > 1


def test_steps_on_one_snapshot_are_equal_and_tell_pay_and_forecast() -> None:
    fleet = several_types()
    planner = Planner(fleet)
    snapshot = waiting(all_off(fleet), {"a": 6, "b": 3}, {"a": (5, 6) * 60, "b": (3,) * 120})
    first = planner.step(snapshot, 0.0, WORK)
    planner.step(waiting(all_off(fleet), {"c": 9}), 0.0, WORK)
    second = planner.step(snapshot, 0.0, WORK)
    assert (first.plan, first.report.tiers, first.report.forecast) == (
        second.plan,
        second.report.tiers,
        second.report.forecast,
    )
    pay = next(tier for tier in first.report.tiers if tier.tier == "pay")
    assert 0 < pay.bound <= pay.value
    assert pay.gap == pytest.approx((pay.value - pay.bound) / pay.value)
    assert pay.proof
    told = first.report.forecast
    assert told is not None
    assert [profile.profile for profile in told.profiles] == ["a", "b"]
    assert all(p.coverage is not None and 0.9 <= p.coverage <= 1.0 for p in told.profiles)
    assert all(p.pinball is not None and p.pinball >= 0 for p in told.profiles)


def test_a_fleet_at_zero_comes_back_for_who_waits() -> None:
    """Sixty epochs of nothing say that nothing is to come; whoever waits counts all the same."""
    fleet = a_fleet()
    decision = Planner(fleet).step(waiting(all_off(fleet), {"a": 3}, {"a": (1,) + (0,) * 500}), 0.0, WORK)
    assert list(decision.plan.gpus.values()).count("start") == 2


def test_pay_switched_off_leaves_gpus_alone() -> None:
    fleet = a_fleet()
    planner = Planner(fleet, PlannerSettings(pay=False))
    decision = planner.step(waiting(all_off(fleet), {"a": 3}), 0.0, WORK)
    assert set(decision.plan.gpus.values()) == {"off"}
    assert "pay" not in {tier.tier for tier in decision.report.tiers}


def test_the_hold_begins_with_the_events_of_a_decision() -> None:
    fleet = a_fleet()
    state = ClusterState(a_cluster(fleet, "a1@0", on=2))
    planner = Planner(fleet, PlannerSettings(scaling=ScalingSettings(scale_in_hold_s=30.0)))
    aims = []
    for now_s in (0.0, 10.0, 20.0, 30.0):
        snapshot = state.snapshot()
        past = replace(snapshot.history, active_max={"a": (1,) * 400})
        decision = planner.step(replace(snapshot, history=past), now_s, WORK)
        aims.append(decision.plan.gpus[gpu(1)])
        for event in decision.events:
            state.apply(event, now_s)
    assert state.snapshot().history.scale_in_wanted_since_s == {"h100": 0.0}
    assert aims[:3] == ["keep"] * 3
    assert aims[3] in ("drain", "stop")


def test_without_time_nothing_shrinks_and_who_waits_gets_gpus() -> None:
    fleet = a_fleet()
    idle = replace(a_cluster(fleet, "a1@0", on=3), history=replace(all_off(fleet).history, active_max={"a": (1,) * 99}))
    long_ago = replace(idle, history=replace(idle.history, scale_in_wanted_since_s={"h100": -1e6}))
    assert "drain" in ScaleByForecast(fleet).decide(long_ago, 0.0).aims.values()
    decision = Planner(fleet).step(long_ago, 0.0, NO_TIME)
    assert list(decision.plan.gpus.values()) == ["keep", "keep", "keep", "off"]
    assert "no time to look ahead: GPUs that are on stay on" in decision.report.warnings
    crowded = a_cluster(fleet, "a1@0 a2@0 a3@1 a4 a5", on=2, status={1: "draining"})
    assert list(Planner(fleet).step(crowded, 0.0, NO_TIME).plan.gpus.values()) == ["keep", "keep", "start", "off"]


def test_many_mixes_are_counted_as_if_profiles_had_gpus_of_their_own() -> None:
    names = [f"p{k}" for k in range(14)]
    profile = {"chunk_s": 1.0, "state_gib": 1.0, "latency_ms": {"h100": [10.0 * n for n in range(1, 13)]}}
    fleet = a_fleet(
        {"profiles": dict.fromkeys(names, profile), "pools": [{"gpu_type": "h100", "nodes": 4, "gpus_per_node": 8}]}
    )
    counts = {name: 12 if k < 6 else 1 for k, name in enumerate(names)}
    snapshot = waiting(all_off(fleet), counts, {name: (count,) * 400 for name, count in counts.items()})
    decision = ScaleByForecast(fleet).decide(snapshot, 0.0)
    assert any("as if every profile had its own" in warning for warning in decision.warnings)
    assert Counter(decision.aims.values())["start"] == 14


def test_a_profile_that_runs_nowhere_starts_nothing() -> None:
    fleet = two_profiles({"profiles.b.latency_ms": {}})
    decision = ScaleByForecast(fleet).decide(waiting(all_off(fleet), {"b": 3}), 0.0)
    assert set(decision.aims.values()) == {"off"}


@pytest.mark.parametrize("seed", range(40))
def test_the_coarse_rule_leaves_room_for_a_pool_per_class(seed: int) -> None:
    """Where no rule is broken, whole GPUs of one type can be shared out so that every class fits."""
    rng = np.random.default_rng(seed)
    caps = rng.integers(1, 7, (1, int(rng.integers(1, 5))))
    demand = np.array(rng.integers(0, 20, caps.shape[1]), np.float64)
    need = int(np.ceil(demand / caps[0]).sum())
    capacity = CoarseCapacity(caps)
    assert capacity.violated(demand, np.array([float(need)])) is None
    assert need == 0 or capacity.violated(demand, np.array([need - 1.0])) is not None


def test_the_coarse_rule_sees_who_runs_on_one_type_only() -> None:
    capacity = CoarseCapacity(np.array([[4, 0], [8, 2]]))
    demand = np.array([4.0, 4.0])
    assert capacity.violated(demand, np.array([9.0, 1.0])) is not None, "class 1 needs two GPUs of type 1"
    assert capacity.violated(demand, np.array([1.0, 2.0])) is None


def test_late_sessions_of_a_higher_priority_weigh_more_where_it_is_set() -> None:
    fleet = two_profiles()
    snapshot = a_cluster(fleet, "a1@0 a2@0 a3@0 a4@0 b1@1 b2@1")

    def late_ms(settings: PlannerSettings, priority: int) -> float:
        sessions = {name: replace(session, priority=priority) for name, session in snapshot.sessions.items()}
        report = Planner(fleet, settings).step(replace(snapshot, sessions=sessions), 0.0, WORK).report
        return next(tier.before for tier in report.tiers if tier.tier == "meet")

    weighing = PlannerSettings(lateness_weights={2: 5})
    plain = late_ms(PlannerSettings(), 2)
    assert plain > 0
    assert late_ms(weighing, 2) == 5 * plain
    assert late_ms(weighing, 0) == plain
