"""What follows from events."""

from __future__ import annotations

from scheduler import events
from scheduler.cluster import Migrated, SessionId, Snapshot
from scheduler.cluster_checks import validate
from scheduler.cluster_state import apply
from scheduler.events import Event
from scheduler.history import IDLE_TIMES_MAX
from tests.scheduler.clusters import a_cluster, gpu, node, two_profiles

FLEET = two_profiles()
A1 = SessionId("a1")


def _after(snapshot: Snapshot, *happened: Event, now_s: float = 10.0) -> Snapshot:
    for event in happened:
        snapshot = apply(snapshot, event, now_s)
        assert not validate(snapshot, FLEET)
    return snapshot


def test_events_leave_the_snapshot_before_them_alone() -> None:
    before = a_cluster(FLEET, "a1@0")
    _after(before, events.SessionClosed(session_id=A1))
    assert A1 in before.sessions


def test_a_session_stays_where_it_is_until_its_move_has_ended() -> None:
    moving = _after(
        a_cluster(FLEET, "a1@0"), events.MoveStarted(session_id=A1, kind="migrate", source=gpu(0), target=gpu(1))
    )
    assert moving.sessions[A1].gpu == gpu(0)
    assert _after(moving, events.MoveFailed(session_id=A1)).sessions[A1].gpu == gpu(0)
    arrived = _after(moving, events.MoveEnded(session_id=A1))
    assert arrived.sessions[A1].gpu == gpu(1)
    assert arrived.sessions[A1].moved_s == 10.0


def test_a_session_that_returns_while_it_is_offloaded_waits_for_the_end() -> None:
    moving = a_cluster(FLEET, "a1@0~", moves={"a1": ("offload", 0, None)})
    back = _after(moving, events.SessionActivated(session_id=A1))
    assert back.sessions[A1].status == "waiting"
    assert _after(back, events.MoveEnded(session_id=A1)).sessions[A1].node == node(0)
    assert _after(back, events.MoveFailed(session_id=A1)).sessions[A1].gpu == gpu(0)


def test_a_lost_gpu_takes_states_and_moves_with_it() -> None:
    moving = a_cluster(FLEET, "a1@0 a2@0~ a3", moves={"a3": ("place", None, 0)})
    lost = _after(moving, events.GpuLost(gpu_id=gpu(0)))
    assert not lost.moves
    assert {name: session.status for name, session in lost.sessions.items()} == {
        "a1": "waiting",
        "a2": "suspended",
        "a3": "waiting",
    }


def test_idle_times_that_end_in_a_return_are_remembered() -> None:
    back = _after(a_cluster(FLEET, "a1@0~ a2@0~"), events.SessionActivated(session_id=A1))
    assert back.history.idle_s == {"a": (110.0,)}
    assert _after(back, events.SessionClosed(session_id=SessionId("a2"))).history.gone == {"a": 1}


def test_history_is_bounded() -> None:
    snapshot = a_cluster(FLEET, "a1@0")
    for _ in range(IDLE_TIMES_MAX + 10):
        snapshot = apply(snapshot, events.SessionIdled(session_id=A1), 1.0)
        snapshot = apply(snapshot, events.SessionActivated(session_id=A1), 2.0)
    assert len(snapshot.history.idle_s["a"]) <= IDLE_TIMES_MAX
    assert not validate(snapshot, FLEET)


def test_the_most_active_sessions_of_an_epoch_are_history() -> None:
    ended = _after(
        a_cluster(FLEET, "a1@0 a2 a3@1~"), events.SessionClosed(session_id=SessionId("a2")), events.EpochEnded()
    )
    assert ended.history.active_max == {"a": (2,)}
    assert ended.history.active_max_now == {"a": 1}


def test_migrations_of_the_epoch_under_way_are_remembered_however_they_end() -> None:
    snapshot = a_cluster(FLEET, "a1@0 a2@0 a3@0", moves={f"a{i}": ("migrate", 0, 1) for i in (1, 2, 3)})
    over = _after(
        snapshot,
        events.MoveEnded(session_id=A1),
        events.MoveFailed(session_id=SessionId("a2")),
        events.SessionClosed(session_id=SessionId("a3")),
    )
    first, second = list(snapshot.gpus)[:2]
    assert over.history.migrated_now == (Migrated(source=first, target=second, profile="a"),) * 3
    assert not _after(over, events.EpochEnded()).history.migrated_now


def test_reports_about_what_is_gone_are_passed_over() -> None:
    snapshot = a_cluster(FLEET, "")
    late = (events.MoveEnded(session_id=A1), events.SessionIdled(session_id=A1), events.SessionClosed(session_id=A1))
    assert not _after(snapshot, *late).sessions


def test_inconsistent_snapshots_are_told() -> None:
    assert validate(a_cluster(FLEET, "b1@0 b2@0 b3@0~"), FLEET)
    assert validate(a_cluster(FLEET, "a1@3"), FLEET)
    assert validate(a_cluster(FLEET, "a1@0", moves={"a1": ("migrate", 1, 0)}), FLEET)
    assert not validate(a_cluster(FLEET, "a1@0 a2@1~ a3@n0~ a4@n1 a5"), FLEET)
