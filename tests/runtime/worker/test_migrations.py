"""Each failure of a migration has the outcome that the protocol promises."""

from __future__ import annotations

import msgspec
import pytest

from runtime.state.ranges import GRANULE_BYTES, bytes_in
from runtime.transfer import messages as m
from runtime.transfer.attempt import Arrived, LaneEnded, LaneFailed, OpenReceiving, StopLane
from runtime.transfer.messages import AttemptId
from runtime.transfer.outgoing import PrecopyRule
from runtime.worker.ended_attempts import EndedAttempts
from runtime.worker.events import Adopt, ChunkEnded, Say, StateLost, Ticked
from runtime.worker.messages import Close, Command, Demand, Lost, Open, Refused, Suspend
from scheduler.cluster import SessionId
from tests.runtime.worker.tables import (
    DEADLINE_S,
    DIGEST,
    GRANULES,
    HEAD,
    S,
    Told,
    frozen_source,
    idle,
    prepare,
    reasons,
    rounds,
    route,
    sent,
    spans,
    staged_target,
    start,
    with_session,
)

ABORT = m.Abort(session_id=S, attempt=1)
ACTIVATE = m.Activate(session_id=S, attempt=1, ownership=2)
RELEASE = m.Release(session_id=S, attempt=1)
REACTIVATE = m.Reactivate(session_id=S, attempt=1, ownership=3)


def test_only_what_changed_goes_again_and_the_session_freezes_at_a_chunk_boundary() -> None:
    table = with_session(rule=PrecopyRule(rounds_max=3))
    (first,) = rounds(table.tell(start()))
    assert bytes_in(first.ranges) == GRANULES * GRANULE_BYTES
    table.compute(0, 1, 2)
    table.compute(2, 3)
    (second,) = rounds(sent(table, 1, 1))
    assert second.ranges == ((0, 4 * GRANULE_BYTES),)
    table.compute(4)
    table.begin_round([S])
    (third,) = rounds(sent(table, 1, 2))
    assert third.ranges == spans(4)
    assert not third.last
    assert sent(table, 1, 3) == []  # the third round was the last that may run beside it: it waits for the chunk
    assert (table.state(), table.runnable) == ("precopy", ())
    (last,) = rounds(table.happen(ChunkEnded(session_id=S, dirty=spans(5))))
    assert (last.ranges, last.last) == (spans(5), True)
    assert table.state() == "frozen"
    sent(table, 1, 4, digest=DIGEST)
    (told,) = table.reports(m.Sent)
    assert (told.digest, told.moved_bytes, told.frozen_bytes) == (DIGEST, 14 * GRANULE_BYTES, GRANULE_BYTES)


def test_a_round_that_would_not_be_smaller_is_not_made() -> None:
    table = with_session(rule=PrecopyRule(rounds_max=100))
    table.tell(start())
    table.compute(0, 1)
    sent(table, 1, 1)
    table.compute(2, 3)
    (last,) = rounds(sent(table, 1, 2))
    assert (last.last, last.ranges) == (True, ((2 * GRANULE_BYTES, 4 * GRANULE_BYTES),))


def test_without_precopy_the_whole_state_goes_frozen() -> None:
    table = with_session()
    table.begin_round([S])
    assert rounds(table.tell(start(precopy=False))) == []
    (last,) = rounds(table.happen(ChunkEnded(session_id=S, dirty=spans(1))))
    assert (last.last, bytes_in(last.ranges)) == (True, GRANULES * GRANULE_BYTES)


def test_a_target_without_room_says_how_much_is_missing() -> None:
    table = with_session()
    (said,) = table.tell(msgspec.structs.replace(prepare(), session_id="other"))
    assert isinstance(said, Say)
    assert reasons([said.report]) == ["needs 0.031 MiB, largest free run is 0.016 MiB of 0.016 MiB free"]
    assert table.device.room.reserved == 0


def test_a_transfer_that_fails_before_the_freeze_is_over_and_the_session_never_stood_still() -> None:
    table = with_session()
    table.tell(start())
    table.happen(LaneFailed(attempt=AttemptId(1), reason="lost: the peer"))
    table.happen(LaneEnded(attempt=AttemptId(1)))
    assert (table.state(), table.runnable) == ("active", (S,))
    (failed,) = table.reports(m.AttemptFailed)
    assert (failed.side, failed.frozen) == ("source", False)
    assert reasons(table.reports(m.AttemptFailed)) == ["lost: the peer"]


@pytest.mark.parametrize("when", ["on its way", "sent"])
def test_a_frozen_source_waits_for_the_controller_whatever_happens(when: str) -> None:
    table = idle(with_session())
    table.tell(start())
    sent(table, 1, 1)
    if when == "sent":
        sent(table, 1, 2, digest=DIGEST)
    table.happen(LaneFailed(attempt=AttemptId(1), reason="lost"))
    table.happen(LaneEnded(attempt=AttemptId(1)))
    # What was sent as a whole may be staged: that the lane fails afterwards is no reason to abort.
    assert reasons(table.reports(m.AttemptFailed)) == (["lost"] if when == "on its way" else [])
    table.tell(Demand(session_id=S, active=True))
    table.now_s = 1000 * DEADLINE_S
    table.happen(Ticked())
    assert (table.state(), table.runnable) == ("frozen", ())
    table.tell(ABORT)
    assert (table.state(), table.runnable) == ("active", (S,))
    assert table.records[S].ownership == 1
    assert table.reports(m.Aborted)


def test_a_staged_target_waits_for_the_controller_for_as_long_as_it_takes() -> None:
    table = staged_target()
    table.now_s = 1000 * DEADLINE_S
    table.happen(Ticked())
    assert (table.state(), table.runnable) == ("received", ())
    actions = table.tell(ACTIVATE)
    (adopt,) = [action for action in actions if isinstance(action, Adopt)]
    assert (adopt.head, adopt.block) == (HEAD, table.records[S].device)
    assert (table.state(), table.records[S].ownership, table.runnable) == ("active", 2, (S,))
    assert (table.device.room.reserved, table.device.room.used) == (0, GRANULES * GRANULE_BYTES)


def test_what_has_not_arrived_as_a_whole_is_not_activated() -> None:
    """No controller that follows the protocol says so; a target that believed it would serve half a state."""
    table = Told()
    table.tell(prepare())
    table.tell(ACTIVATE)
    assert (table.state(), table.runnable) == ("incoming", ())
    assert reasons(table.reports(m.AttemptFailed)) == ["the state is not staged: posting"]


def test_a_target_that_hears_nothing_gives_its_room_back_once_the_lane_has_let_go() -> None:
    table = Told()
    table.tell(prepare())
    table.now_s = DEADLINE_S
    actions = table.happen(Ticked())
    assert StopLane(attempt=AttemptId(1)) in actions
    assert table.device.room.draining == GRANULES * GRANULE_BYTES
    assert reasons(table.reports(m.AttemptFailed)) == ["late: the target was posting"]
    table.happen(LaneEnded(attempt=AttemptId(1)))
    assert table.device.room.free == table.device.total_bytes
    assert isinstance(table.tell(prepare(2))[0], OpenReceiving)


def test_a_wrong_checksum_at_the_target_frees_its_room() -> None:
    table = Told()
    table.tell(prepare())
    table.happen(LaneFailed(attempt=AttemptId(1), reason="malformed: checksum"))
    table.happen(LaneEnded(attempt=AttemptId(1)))
    assert table.device.room.free == table.device.total_bytes
    assert table.reports(m.AttemptFailed)[0].side == "target"


def test_an_abort_of_a_staged_state_frees_its_room() -> None:
    table = staged_target()
    table.tell(ABORT)
    assert table.device.room.free == table.device.total_bytes
    (failed,) = [action for action in table.tell(ACTIVATE) if isinstance(action, Say)]
    assert reasons([failed.report]) == ["nothing is staged"]


def test_a_released_source_holds_nothing() -> None:
    table = frozen_source()
    table.tell(RELEASE)
    assert table.state() is None
    assert table.device.room.draining == GRANULES * GRANULE_BYTES  # its lane has not ended
    table.happen(LaneEnded(attempt=AttemptId(1)))
    assert table.device.room.free == table.device.total_bytes


def test_a_source_is_reactivated_in_a_new_ownership_epoch() -> None:
    table = frozen_source()
    table.tell(msgspec.structs.replace(REACTIVATE, ownership=1))
    assert table.state() == "frozen"
    table.tell(REACTIVATE)
    assert (table.state(), table.records[S].ownership) == ("idle", 3)


def test_every_message_may_come_twice() -> None:
    source, target = idle(with_session()), Told()
    for table, body in ((target, prepare()), (source, start())):
        table.tell(body)
        assert table.tell(body) == []
    sent(source, 1, 1)
    sent(source, 1, 2, digest=DIGEST)
    assert sent(source, 1, 2, digest=DIGEST) == []
    source.tell(start())
    assert len(source.reports(m.Sent)) == 2  # it is told again, and nothing is sent again
    target.happen(Arrived(attempt=AttemptId(1), digest=DIGEST, head=HEAD))
    target.tell(prepare())
    assert len(target.reports(m.Staged)) == 2
    for _ in range(2):
        target.tell(ACTIVATE)
        source.tell(RELEASE)
    assert len(target.reports(m.Activated)) == len(source.reports(m.Released)) == 2
    assert target.reports(Lost) == target.reports(m.AttemptFailed) == []
    assert target.state() == "active"


def test_what_comes_after_the_end_of_an_attempt_has_no_effect() -> None:
    table = Told()
    table.tell(ABORT)
    table.tell(prepare())
    assert reasons(table.reports(m.Nack)) == ["attempt 1 is over"]
    source = with_session()
    source.tell(ABORT)
    source.tell(start())
    assert reasons(source.reports(m.AttemptFailed)) == ["attempt 1 is over"]
    assert source.state() == "active"
    source.tell(start(2))
    source.tell(ABORT)
    assert source.state() == "precopy"  # an older attempt's abort


def test_staging_is_monotone_in_the_attempt() -> None:
    table = staged_target(5)
    table.tell(prepare(4))
    assert _staged_attempt(table) == 5
    table.tell(prepare(7))
    assert "attempt 5 is staged" in reasons(table.reports(m.Nack))[-1]
    actions = table.tell(prepare(8, horizon=5))
    assert any(isinstance(action, OpenReceiving) for action in actions)
    table.tell(prepare(5))
    assert _staged_attempt(table) == 8


def _staged_attempt(table: Told) -> int | None:
    incoming = table.records[S].incoming
    return None if incoming is None else incoming.attempt


def test_a_staged_state_is_dropped_at_the_horizon_unless_its_attempt_is_named() -> None:
    table = staged_target(5)
    for horizon in (m.Horizon(attempt=4), m.Horizon(attempt=6, open_attempts=(5,))):
        table.tell(horizon)
        assert table.state() == "received"
    table.tell(m.Horizon(attempt=5))  # an older one, come late
    assert table.state() == "received"
    table.tell(m.Horizon(attempt=7))
    assert table.device.room.free == table.device.total_bytes


def test_more_transfers_than_may_be_are_refused() -> None:
    table = Told(device_granules=40)
    for attempt in range(1, 6):
        table.tell(msgspec.structs.replace(prepare(attempt, granules=1), session_id=f"s{attempt}"))
    assert reasons(table.reports(m.Nack)) == ["4 transfers are in flight, and no more may be"]


def test_a_state_that_is_lost_on_the_way_ends_the_attempt() -> None:
    table = with_session()
    table.tell(start())
    table.happen(StateLost(session_id=S, reason="the device has failed"))
    assert table.state() == "lost"
    assert table.reports(Lost)
    table.happen(LaneEnded(attempt=AttemptId(1)))
    assert table.device.room.free == table.device.total_bytes
    table.tell(Close(session_id=S))
    assert table.state() is None


def test_a_session_that_migrates_is_neither_suspended_nor_closed() -> None:
    table = with_session()
    table.tell(start())
    table.tell(Suspend(session_id=S))
    table.tell(Close(session_id=S))
    assert reasons(table.reports(Refused)) == ["is precopy", "is precopy: its migration has to end first"]


_BODIES = [
    prepare(),
    start(),
    ACTIVATE,
    RELEASE,
    ABORT,
    REACTIVATE,
    m.Horizon(attempt=3, open_attempts=(1, 2)),
    Open(session_id=S, state_bytes=1, ownership=0),
]


@pytest.mark.parametrize("body", _BODIES, ids=lambda body: type(body).__name__)
def test_commands_survive_the_wire(body: m.Migrating) -> None:
    command = Command(controller_epoch=1, incarnation=2, version=3, body=body)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(command), type=Command) == command


@pytest.mark.parametrize(
    "wrong",
    [
        msgspec.structs.replace(prepare(), session_id=""),
        msgspec.structs.replace(prepare(), attempt=-1),
        msgspec.structs.replace(prepare(), state_bytes=0),
        msgspec.structs.replace(prepare(), deadline_s=float("inf")),
        msgspec.structs.replace(start(), route=msgspec.structs.replace(route(1), token=bytes(33))),
        msgspec.structs.replace(start(), session_id="s" * 257),
    ],
)
def test_commands_beyond_their_limits_are_refused(wrong: m.Migrating) -> None:
    command = Command(controller_epoch=1, incarnation=2, version=3, body=wrong)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(command), type=Command)


def test_attempts_that_are_forgotten_one_by_one_stay_over() -> None:
    ended = EndedAttempts(ended_max=3)
    for attempt in range(1, 5):
        ended.add(SessionId(f"s{attempt}"), attempt)
    assert all(ended.covers(SessionId(f"s{attempt}"), attempt) for attempt in range(1, 5))
    assert not ended.covers(S, 5)
