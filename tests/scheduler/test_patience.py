"""Who waits for a place on time, and until when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scheduler.cluster import Snapshot
from scheduler.fleet import Fleet
from scheduler.patience import patience_s
from scheduler.planner_settings import PlannerSettings
from tests.scheduler.clusters import a_cluster, a_plan_for, moves_of, two_profiles


def _strict(target_ms: float = 250.0, first_chunk_ms: float = 3000.0) -> Fleet:
    """Two a are on time on one GPU (200 ms), a third one is not (300 ms)."""
    target: dict[str, Any] = {"chunk_latency_ms": target_ms, "first_chunk_ms": first_chunk_ms}
    return two_profiles({"target": target})


def _waiting_since(snapshot: Snapshot, since_s: float) -> Snapshot:
    sessions = {
        name: replace(one, since_s=since_s) if one.status == "waiting" else one
        for name, one in snapshot.sessions.items()
    }
    return replace(snapshot, sessions=sessions)


def test_whoever_finds_a_place_on_time_has_it_at_once() -> None:
    fleet = _strict()
    snapshot = _waiting_since(a_cluster(fleet, "a1@0 a2@0 a3@1 a4"), 0.0)
    assert set(moves_of(a_plan_for(fleet, snapshot), "place")) == {"a4"}


def test_whoever_would_be_late_waits_while_its_first_chunk_can_be_on_time() -> None:
    fleet = _strict()
    snapshot = a_cluster(fleet, "a1@0 a2@0 a3@1 a4@1 a5")
    just_come, long_there = _waiting_since(snapshot, -0.5), _waiting_since(snapshot, -10.0)
    assert not a_plan_for(fleet, just_come).moves
    assert set(moves_of(a_plan_for(fleet, long_there), "place")) == {"a5"}
    at_once = PlannerSettings(wait_for_place=False)
    assert set(moves_of(a_plan_for(fleet, just_come, at_once), "place")) == {"a5"}


def test_those_who_wait_longest_take_the_places_on_time() -> None:
    fleet = _strict()
    snapshot = _waiting_since(a_cluster(fleet, "a1@0 a2@0 a3@1 a4 a5"), 0.0)
    older = replace(snapshot.sessions[max(snapshot.sessions)], since_s=-0.2)
    plan = a_plan_for(fleet, replace(snapshot, sessions={**snapshot.sessions, older.session_id: older}))
    assert set(moves_of(plan, "place")) == {"a5"}


def test_a_higher_priority_takes_the_place_on_time() -> None:
    fleet = _strict()
    snapshot = _waiting_since(a_cluster(fleet, "a1@0 a2@0 a3@1 a4 a5"), 0.0)
    first = replace(snapshot.sessions[max(snapshot.sessions)], priority=1)
    plan = a_plan_for(fleet, replace(snapshot, sessions={**snapshot.sessions, first.session_id: first}))
    assert set(moves_of(plan, "place")) == {"a5"}


def test_patience_is_what_a_resume_and_two_rounds_leave_of_the_first_target() -> None:
    fleet = _strict()
    resume_s = fleet.links.latency_ms / 1000 + 4.0 * 2**30 / (fleet.links.device_host_gb_s * 1e9)
    assert patience_s(fleet, "a") == pytest.approx(3.0 - resume_s - 0.5 - 0.5)
    assert patience_s(_strict(first_chunk_ms=900.0), "a") == 0.0
