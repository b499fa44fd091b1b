"""When GPUs start, drain and stop.

Decides the rules that hold whatever is forecast; must never know how counts are found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from scheduler.cluster import Gpu, GpuId, Session, SessionId, Snapshot
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from scheduler.gpu_decision import GpuDecision
from scheduler.plan import GpuAim
from scheduler.planner import Planner
from scheduler.planner_settings import ScalingSettings
from scheduler.scaling import ScaleByForecast, decide_gpus
from tests.builders import a_fleet
from tests.scheduler.clusters import WORK, a_cluster, gpu, two_profiles

EPOCH_S = 10.0
SEATS = 2  # sessions that a GPU of `a_fleet` holds on time


def with_past(snapshot: Snapshot, since_s: Mapping[str, float] | None = None, **active_max: Sequence[int]) -> Snapshot:
    past = {profile: tuple(counts) for profile, counts in active_max.items()}
    history = replace(snapshot.history, active_max=past, scale_in_wanted_since_s=since_s or {})
    return replace(snapshot, history=history)


def steady(count: int) -> list[int]:
    return [count] * 700  # so long that nothing else is expected


LONG_AGO = {"h100": -1000.0}


@dataclass
class Live:
    """A fleet that does what it is told: GPUs start in time, sessions move within an epoch, sessions are spread."""

    fleet: Fleet
    settings: ScalingSettings
    snapshot: Snapshot
    past: list[int] = field(default_factory=list)
    now_s: float = 0.0
    on: list[int] = field(default_factory=list)  # by epoch: GPUs that are ready
    waited: list[int] = field(default_factory=list)  # by epoch: sessions without a seat on time
    decisions: list[GpuDecision] = field(default_factory=list)

    def epoch(self, active: int) -> None:
        gpus = {
            name: replace(g, status="ready", ready_s=None)
            if g.status == "starting" and g.ready_s is not None and g.ready_s <= self.now_s
            else g
            for name, g in self.snapshot.gpus.items()
        }
        ready = [name for name, g in gpus.items() if g.status == "ready"]
        seated = {SessionId(f"a{i}"): ready[i // SEATS] for i in range(min(active, SEATS * len(ready)))}
        self.snapshot = replace(
            with_past(self.snapshot, self.snapshot.history.scale_in_wanted_since_s, a=self.past),
            gpus=gpus,
            sessions={SessionId(f"a{i}"): a_session(f"a{i}", seated.get(SessionId(f"a{i}"))) for i in range(active)},
        )
        self.on.append(len(ready))
        self.waited.append(active - len(seated))
        decision = ScaleByForecast(self.fleet, self.settings).decide(self.snapshot, self.now_s)
        self.decisions.append(decision)
        self._carry_out(decision)
        self.past.append(active)
        self.now_s += EPOCH_S

    def _carry_out(self, decision: GpuDecision) -> None:
        changed: dict[GpuId, Gpu] = {}
        for name, g in self.snapshot.gpus.items():
            match decision.aims[name]:
                case "start":
                    startup_s = self.fleet.gpu_types[g.gpu_type].startup_s
                    changed[name] = replace(g, status="starting", ready_s=self.now_s + startup_s)
                case "keep" if g.status == "draining":
                    changed[name] = replace(g, status="ready")
                case "drain":
                    changed[name] = replace(g, status="draining")
                case "stop":
                    changed[name] = replace(g, status="off")
                case _:
                    changed[name] = g
        since = dict(self.snapshot.history.scale_in_wanted_since_s)
        for gpu_type, wanted in decision.scale_in_wanted.items():
            if wanted:
                since.setdefault(gpu_type, self.now_s)
            else:
                since.pop(gpu_type, None)
        history = replace(self.snapshot.history, scale_in_wanted_since_s=since)
        self.snapshot = replace(self.snapshot, gpus=changed, history=history)


def a_session(name: str, on: GpuId | None) -> Session:
    status: Any = "waiting" if on is None else "active"
    return Session(session_id=SessionId(name), profile="a", status=status, since_s=0.0, gpu=on)


def live(**settings: Any) -> Live:
    fleet = a_fleet({"pools": [{"gpu_type": "h100", "nodes": 4, "gpus_per_node": 4}]})
    return Live(fleet=fleet, settings=ScalingSettings(**settings), snapshot=all_off(fleet))


def aims_of(decision: GpuDecision, aim: GpuAim) -> list[GpuId]:
    return [gpu_id for gpu_id, value in decision.aims.items() if value == aim]


def test_constant_demand_settles_and_nothing_flaps() -> None:
    case = live()
    for _ in range(300):
        case.epoch(9)
    assert set(case.on[-60:]) == {5}
    assert not any(case.waited[3:])
    for decision in case.decisions[-60:]:
        assert set(decision.aims.values()) <= {"keep", "off"}


def test_noisy_demand_is_served_at_the_service_level_without_a_blanket_headroom() -> None:
    case = live()
    demand = np.random.default_rng(3).poisson(10, 260).clip(0, 24).tolist()
    for count in demand:
        case.epoch(count)
    late = np.mean([waited > 0 for waited in case.waited[60:]])
    assert late <= 0.10
    assert np.mean(case.on[60:]) <= 10  # the whole distribution fits into 10 GPUs; the fleet has 16


@pytest.mark.parametrize(("spare_share", "gpus"), [(0.0, 5), (0.5, 7), (1.0, 9)])
def test_a_share_of_demand_is_held_beyond_it(spare_share: float, gpus: int) -> None:
    case = live(spare_share=spare_share)
    for _ in range(300):
        case.epoch(9)
    assert set(case.on[-60:]) == {gpus}


@pytest.mark.parametrize(("peak_hold_s", "aims"), [(0.0, ["keep", "drain", "drain"]), (110.0, ["keep"] * 3)])
def test_the_peak_of_the_recent_past_is_held(peak_hold_s: float, aims: list[GpuAim]) -> None:
    fleet = a_fleet()
    past = [*steady(1), 6, *[1] * 10]
    settings = ScalingSettings(peak_hold_s=peak_hold_s)
    decision = decide_gpus(with_past(a_cluster(fleet, "a1@0", on=3), LONG_AGO, a=past), 0.0, fleet, settings)
    assert [decision.aims[gpu(i)] for i in range(3)] == aims


def test_a_peak_is_forgotten_after_the_hold() -> None:
    fleet = a_fleet()
    past = [*steady(1), 6, *[1] * 11]
    settings = ScalingSettings(peak_hold_s=110.0)
    decision = decide_gpus(with_past(a_cluster(fleet, "a1@0", on=3), LONG_AGO, a=past), 0.0, fleet, settings)
    assert sorted(aims_of(decision, "drain")) == [gpu(1), gpu(2)]


def test_peaks_of_profiles_that_did_not_come_together_are_not_added_up() -> None:
    fleet = two_profiles()
    settings = ScalingSettings(peak_hold_s=60.0)
    apart = {"a": [*steady(0), 4, 0, 0], "b": [*steady(0), 0, 2, 0]}
    together = {"a": [*steady(0), 4, 0, 0], "b": [*steady(0), 2, 0, 0]}
    started = [
        len(aims_of(decide_gpus(with_past(a_cluster(fleet, on=2), LONG_AGO, **past), 0.0, fleet, settings), "start"))
        for past in (apart, together)
    ]
    assert started == [0, 1]


def test_gpus_are_ready_when_a_foreseen_rise_comes() -> None:
    season = 30
    case = live(season_s=season * EPOCH_S, scale_in_hold_s=20.0)
    for epoch in range(season * 6):
        case.epoch(12 if epoch % season >= 20 else 2)
    rises = [epoch for epoch in range(season * 4, season * 6) if epoch % season == 20]
    assert rises
    for epoch in rises:
        assert case.on[epoch] >= 6
        assert case.waited[epoch] == 0
    assert min(case.on[season * 4 :]) < 6


def test_the_fleet_scales_to_zero_and_back() -> None:
    case = live(scale_in_hold_s=30.0)
    for count in [3] * 30 + [0] * 400:
        case.epoch(count)
    assert case.on[-1] == 0
    assert all(g.status == "off" for g in case.snapshot.gpus.values())
    for _ in range(4):
        case.epoch(3)
    assert case.on[-1] >= 2
    assert case.waited[-1] == 0


def test_one_gpu_stays_where_the_fleet_may_not_scale_to_zero() -> None:
    case = live(scale_in_hold_s=30.0, scale_to_zero=False)
    for count in [3] * 30 + [0] * 400:
        case.epoch(count)
    assert case.on[-1] == 1


def test_gpus_that_are_always_on_stay() -> None:
    fleet = a_fleet({"pools.0.gpus_min": 1})
    snapshot = with_past(a_cluster(fleet, on=2), LONG_AGO, a=steady(0))
    decision = decide_gpus(snapshot, 0.0, fleet)
    assert sorted(decision.aims.values()) == ["drain", "keep", "off", "off"]


@pytest.mark.parametrize(("waited_s", "aim"), [(30.0, "keep"), (119.0, "keep"), (120.0, "drain")])
def test_a_type_shrinks_only_after_the_hold(waited_s: float, aim: GpuAim) -> None:
    fleet = a_fleet()
    snapshot = with_past(a_cluster(fleet, "a1@0", on=2), {"h100": 500.0 - waited_s}, a=steady(1))
    decision = decide_gpus(snapshot, 500.0, fleet, ScalingSettings(scale_in_hold_s=120.0))
    assert decision.aims[gpu(1)] == aim
    assert decision.aims[gpu(0)] == "keep"
    assert decision.scale_in_wanted == {"h100": True}


def test_the_hold_begins_when_fewer_would_do_and_ends_with_it() -> None:
    fleet = a_fleet()
    few = with_past(a_cluster(fleet, "a1@0", on=2), {}, a=steady(1))
    decision = decide_gpus(few, 500.0, fleet)
    assert decision.scale_in_wanted == {"h100": True}
    assert not aims_of(decision, "drain")
    busy = with_past(a_cluster(fleet, "a1@0 a2@0 a3@1 a4@1", on=2), LONG_AGO, a=steady(4))
    assert decide_gpus(busy, 500.0, fleet).scale_in_wanted == {"h100": False}


def test_the_gpu_with_least_to_move_is_drained() -> None:
    fleet = a_fleet()
    snapshot = with_past(a_cluster(fleet, "a1@0 a2@0 a3@1 a4@2 a5@2~", on=3), LONG_AGO, a=steady(4))
    assert aims_of(decide_gpus(snapshot, 0.0, fleet), "drain") == [gpu(1)]
    assert sum(s.gpu == gpu(1) for s in snapshot.sessions.values()) == 1


@pytest.mark.parametrize(
    ("sessions", "moves", "aim"),
    [
        ("a1@0 a2@0", {}, "stop"),
        ("a1@0 a2@1", {}, "drain"),
        ("a1@0 a2@1~", {}, "drain"),
        ("a1@0 a2", {"a2": ("place", None, 1)}, "drain"),
    ],
)
def test_a_gpu_stops_only_once_it_is_empty(sessions: str, moves: Any, aim: GpuAim) -> None:
    fleet = a_fleet()
    snapshot = with_past(a_cluster(fleet, sessions, status={1: "draining"}, moves=moves), LONG_AGO, a=steady(2))
    assert decide_gpus(snapshot, 0.0, fleet).aims[gpu(1)] == aim


def test_draining_gpus_come_back_before_others_start() -> None:
    fleet = a_fleet()
    snapshot = with_past(a_cluster(fleet, "a1@0 a2@0 a3@1 a4", status={1: "draining"}), a=steady(4))
    decision = decide_gpus(snapshot, 0.0, fleet)
    assert decision.aims[gpu(1)] == "keep"
    assert not aims_of(decision, "start")


def test_lost_gpus_are_neither_counted_nor_started() -> None:
    fleet = a_fleet()
    snapshot = with_past(a_cluster(fleet, "a1@0 a2@0 a3 a4", status={1: "lost", 2: "lost"}, on=1), a=steady(4))
    decision = decide_gpus(snapshot, 0.0, fleet)
    assert aims_of(decision, "start") == [gpu(3)]
    assert decision.aims[gpu(1)] == decision.aims[gpu(2)] == "off"


def test_gpus_that_start_already_are_not_started_again() -> None:
    fleet = a_fleet()
    snapshot = with_past(a_cluster(fleet, "a1@0 a2@0 a3 a4", status={1: "starting"}, on=1), a=steady(4))
    decision = decide_gpus(snapshot, 0.0, fleet)
    assert not aims_of(decision, "start")
    assert decision.aims[gpu(1)] == "keep"


def test_nodes_that_are_on_already_are_filled_first() -> None:
    fleet = a_fleet()
    snapshot = with_past(a_cluster(fleet, "a1@2 a2@2 a3", status={2: "ready"}, on=0), a=steady(3))
    assert aims_of(decide_gpus(snapshot, 0.0, fleet), "start") == [gpu(3)]


def test_demand_beyond_the_pools_is_told() -> None:
    fleet = a_fleet()
    waiting = " ".join(f"a{i}" for i in range(20))
    decision = decide_gpus(with_past(a_cluster(fleet, waiting, on=1), a=steady(20)), 0.0, fleet)
    assert len(aims_of(decision, "start")) == 3
    assert "GPUs more than can be usable" in decision.warnings[0]


def test_the_price_is_proven_and_in_dollars() -> None:
    fleet = a_fleet()
    decision = decide_gpus(with_past(a_cluster(fleet, "a1@0 a2@0", on=1), a=steady(2)), 0.0, fleet)
    pay = decision.pay
    assert pay is not None
    assert pay.proven
    assert pay.value == pay.bound == pay.before == pytest.approx(10 * 10.0 * 0.001)


def test_several_profiles_share_gpus() -> None:
    fleet = two_profiles()
    snapshot = with_past(a_cluster(fleet, "a1@0 b1@0 a2@1 b2@1", on=2), LONG_AGO, a=steady(2), b=steady(2))
    decision = decide_gpus(snapshot, 0.0, fleet)
    assert [decision.aims[gpu(i)] for i in range(4)] == ["keep", "keep", "off", "off"]


def test_the_planner_carries_out_what_is_decided_here() -> None:
    fleet = a_fleet()
    snapshot = with_past(a_cluster(fleet, "a1@0 a2@0 a3 a4", on=1), a=steady(4))
    decision = Planner(fleet, count_gpus=ScaleByForecast(fleet)).step(snapshot, 0.0, WORK)
    assert decision.plan.gpus[gpu(1)] == "start"
    assert [tier.tier for tier in decision.report.tiers].count("pay") == 1
    assert decision.scale_in_wanted == {"h100": False}
