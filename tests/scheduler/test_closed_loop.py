"""A day in small: the planner counts GPUs for a trace, and the cluster state does as planned."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from scheduler import events
from scheduler.cluster import GpuId, SessionId
from scheduler.cluster_state import ClusterState, all_off
from scheduler.fleet import Fleet
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings, ScalingSettings
from tests.builders import a_fleet
from tests.scheduler.clusters import WORK, become_ready, switched

EPOCH_S = 10.0
DAY_EPOCHS = 150
HOLD_S = 60.0
STARTUP_S = 20.0


@dataclass
class Day:
    """One GPU holds two sessions on time, the fleet has sixteen GPUs."""

    fleet: Fleet
    state: ClusterState
    on: list[int] = field(default_factory=list)  # by epoch: GPUs that are ready
    wanted: list[int] = field(default_factory=list)  # by epoch: active sessions
    starts_s: dict[GpuId, list[float]] = field(default_factory=lambda: defaultdict(list))
    drains_s: dict[GpuId, list[float]] = field(default_factory=lambda: defaultdict(list))
    waited_s: list[float] = field(default_factory=list)  # by session that waits at the end of an epoch


def a_day(days: int) -> Day:
    """Each session stays about ten epochs; how many come follows a curve, and nobody comes at night."""
    fleet = a_fleet({"pools": [{"gpu_type": "h100", "nodes": 4, "gpus_per_node": 4}]})
    scaling = ScalingSettings(scale_in_hold_s=HOLD_S, season_s=DAY_EPOCHS * EPOCH_S)
    planner = Planner(fleet, PlannerSettings(scaling=scaling))
    day, rng = Day(fleet=fleet, state=ClusterState(all_off(fleet))), np.random.default_rng(2)
    ends: dict[SessionId, int] = {}
    for epoch in range(days * DAY_EPOCHS):
        now_s = epoch * EPOCH_S
        for event in become_ready(day.state.snapshot(), now_s):
            day.state.apply(event, now_s)
        for session_id in [name for name, end in ends.items() if end <= epoch]:
            day.state.apply(events.SessionClosed(session_id=session_id), now_s)
            del ends[session_id]
        for _ in range(rng.poisson(2.0 * max(0.0, -np.cos(2 * np.pi * epoch / DAY_EPOCHS)))):
            session_id = SessionId(f"s{epoch}-{len(ends)}")
            ends[session_id] = epoch + int(rng.integers(6, 15))
            day.state.apply(events.SessionOpened(session_id=session_id, profile="a"), now_s)
        _step(planner, day, now_s)
    return day


def _step(planner: Planner, day: Day, now_s: float) -> None:
    snapshot = day.state.snapshot()
    day.on.append(sum(gpu.status == "ready" for gpu in snapshot.gpus.values()))
    decision = planner.step(snapshot, now_s, WORK)
    for move in decision.plan.moves:
        began = events.MoveStarted(session_id=move.session_id, kind=move.kind, source=move.source, target=move.target)
        day.state.apply(began, now_s)
        day.state.apply(events.MoveEnded(session_id=move.session_id), now_s)
    for event in switched(decision.plan, snapshot, day.fleet, now_s):
        if isinstance(event, events.GpuStarting):
            day.starts_s[event.gpu_id].append(now_s)
        if isinstance(event, events.GpuDraining | events.GpuStopped):  # an empty one is stopped at once
            day.drains_s[event.gpu_id].append(now_s)
        day.state.apply(event, now_s)
    for told in (*decision.events, events.EpochEnded()):
        day.state.apply(told, now_s)
    left = day.state.snapshot().sessions.values()
    day.wanted.append(sum(session.status in ("active", "waiting") for session in left))
    day.waited_s += [now_s - session.since_s for session in left if session.status == "waiting"]


DAY = cache(a_day)


def test_everybody_is_served_as_soon_as_a_gpu_can_be_ready() -> None:
    day = DAY(2)
    assert max(day.wanted) >= 12
    assert max(day.waited_s) < STARTUP_S


def test_gpus_follow_the_curve_down_and_up_again() -> None:
    day = DAY(2)
    second = slice(DAY_EPOCHS, None)
    on, wanted = np.array(day.on[second]), np.array(day.wanted[second])
    assert on[: DAY_EPOCHS // 5].min() <= 1
    assert on.max() >= wanted.max() / 2
    assert on.mean() <= on.max() / 2, "a fleet that stays at its peak would pay twice as much"


def test_no_gpu_is_started_and_drained_within_the_hold() -> None:
    day = DAY(2)
    assert any(day.drains_s.values())
    for gpu_id, drains_s in day.drains_s.items():
        for drained_s in drains_s:
            started_s = max(at_s for at_s in day.starts_s[gpu_id] if at_s < drained_s)
            assert drained_s - started_s >= HOLD_S


def test_gpus_do_not_flap() -> None:
    """One rise and one fall a day: most GPUs start once, and few come back within it."""
    day = DAY(2)
    assert sum(map(len, day.starts_s.values())) <= 2 * 2 * max(day.on)
