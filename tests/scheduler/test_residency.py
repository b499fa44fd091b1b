"""Who keeps its room on a GPU."""

from __future__ import annotations

import numpy as np

from scheduler.cluster import History, Session, SessionId
from scheduler.planner_settings import PlannerSettings, ResidencySettings
from scheduler.residency import Crowd, ReturnChances, choose
from scheduler.return_room import crowded
from tests.scheduler.clusters import a_cluster, a_plan_for, gpu, moves_of, two_profiles

SIZE = {"a": 4096, "b": 8192}


def _history(idle_s: dict[str, tuple[float, ...]], gone: dict[str, int] | None = None) -> History:
    return History(epoch_s=10.0, active_max={}, idle_s=idle_s, gone=gone or {}, scale_in_wanted_since_s={})


def _idle(name: str, since_s: float) -> Session:
    return Session(session_id=SessionId(name), profile=name[0], status="idle", since_s=since_s, gpu=gpu(0))


def _gone(crowd: Crowd, chances: ReturnChances) -> list[tuple[str, str]]:
    return [(session.session_id, reason) for session, reason in choose(crowd, chances, SIZE, 0.2, now_s=100.0)]


def _crowd(room_mib: int, *sessions: Session, reserve_mib: int = 0, leaving: bool = False) -> Crowd:
    return Crowd(sessions=sessions, room_mib=room_mib, reserve_mib=reserve_mib, leaving=leaving)


def test_the_chance_counts_those_that_idled_as_long() -> None:
    chances = ReturnChances(_history({"a": (5.0, 15.0, 25.0, 500.0)}, {"a": 1}), horizon_s=20.0)
    soon = chances.soon("a", np.array([10.0]))[0]
    assert abs(soon - (2 + 1 - np.exp(-20 / 70)) / (4 + 1)) < 1e-12


def test_without_a_past_who_idles_longest_goes() -> None:
    chances = ReturnChances(_history({}), horizon_s=30.0)
    assert _gone(_crowd(4096, _idle("a1", 90.0), _idle("a2", 10.0)), chances) == [("a2", "memory")]


def test_who_is_about_to_return_stays_though_it_idles_longer() -> None:
    """Idle times are 60 or 1000 s: after 55 s a return is near, after 65 s it is far."""
    chances = ReturnChances(_history({"a": (60.0, 1000.0) * 20}), horizon_s=30.0)
    crowd = _crowd(4096, _idle("a1", 35.0), _idle("a2", 45.0))
    assert _gone(crowd, chances) == [("a1", "memory")]


def test_who_fits_stays_however_long_it_idles() -> None:
    chances = ReturnChances(_history({"a": (1.0,) * 50}, {"a": 50}), horizon_s=30.0)
    assert _gone(_crowd(8192, _idle("a1", -1e6), _idle("a2", -1e6)), chances) == []


def test_the_reserve_is_for_those_likely_to_return() -> None:
    chances = ReturnChances(_history({"a": (1.0,) * 50, "b": (400.0,) * 50}), horizon_s=30.0)
    crowd = _crowd(12288, _idle("a1", -900.0), _idle("b1", -280.0), reserve_mib=1024)
    assert _gone(crowd, chances) == [("a1", "idle")]


def test_nobody_stays_on_a_gpu_that_goes() -> None:
    chances = ReturnChances(_history({}), horizon_s=30.0)
    assert _gone(_crowd(10**6, _idle("a1", 99.0), leaving=True), chances) == [("a1", "drain")]


def test_whoever_could_not_return_on_time_goes_though_there_is_room() -> None:
    chances = ReturnChances(_history({}), horizon_s=30.0)
    crowd = Crowd(
        sessions=(_idle("a1", 90.0), _idle("b1", 90.0)),
        room_mib=1 << 20,
        reserve_mib=0,
        leaving=False,
        crowded=frozenset({"b"}),
    )
    assert _gone(crowd, chances) == [("b1", "return")]


def test_a_gpu_is_crowded_for_those_who_would_be_late_or_make_others_late() -> None:
    """Targets are 340 ms: three a fit (300 ms); two a and a b do not (350 ms), nor four a."""
    fleet = two_profiles({"target": {"chunk_latency_ms": 340.0, "first_chunk_ms": 3000.0}})
    active = np.array([[2, 0], [3, 0], [0, 1]])
    idle = {0: {"a", "b"}, 1: {"a"}, 2: {"a", "b"}}
    assert crowded(fleet, np.zeros(3, np.int64), active, idle) == {0: frozenset({"b"}), 1: frozenset({"a"})}


def test_idle_sessions_leave_a_gpu_on_which_their_return_would_be_late() -> None:
    fleet = two_profiles({"target": {"chunk_latency_ms": 250.0, "first_chunk_ms": 3000.0}})
    plan = a_plan_for(fleet, a_cluster(fleet, "a1@0 a2@0 a3@0~", on=1))
    assert {name: move.reason for name, move in moves_of(plan, "offload").items()} == {"a3": "return"}
    kept = PlannerSettings(idle=ResidencySettings(return_on_time=False))
    assert not a_plan_for(fleet, a_cluster(fleet, "a1@0 a2@0 a3@0~", on=1), kept).moves
