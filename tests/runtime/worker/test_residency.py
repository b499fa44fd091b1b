"""States go to host memory and back; whoever is computed, copied or unknown is handled with care."""

from __future__ import annotations

from runtime.state.ranges import GRANULE_BYTES
from runtime.worker.events import ChunkEnded, CopyState, StateLost
from runtime.worker.messages import Close, Closed, Demand, Lost, Moved, Open, Refused, Resume, Suspend
from tests.runtime.worker.tables import GRANULES, S, copy_ended, prepare, reasons, spans, with_session

SUSPEND, RESUME = Suspend(session_id=S), Resume(session_id=S)
BYTES = GRANULES * GRANULE_BYTES


def test_a_state_goes_to_the_host_and_back() -> None:
    table = with_session()
    actions = table.tell(SUSPEND)
    assert (table.state(), table.runnable) == ("suspending", ())
    assert (table.device.room.used, table.host.room.used) == (BYTES, BYTES)  # both, until the copy has ended
    copy_ended(table, actions)
    assert (table.state(), table.device.room.used, table.host.room.used) == ("suspended", 0, BYTES)
    actions = table.tell(RESUME)
    assert table.state() == "resuming"
    copy_ended(table, actions)
    assert (table.state(), table.device.room.used, table.host.room.used) == ("active", BYTES, 0)
    assert [report.state for report in table.reports(Moved)] == ["active", "suspended", "active"]


def test_a_chunk_is_finished_before_its_state_is_copied() -> None:
    table = with_session()
    table.begin_round([S])
    assert table.tell(SUSPEND) == []
    assert table.runnable == ()
    actions = table.happen(ChunkEnded(session_id=S, dirty=spans(1)))
    assert any(isinstance(action, CopyState) for action in actions)


def test_copies_that_fail_leave_the_state_where_it_was() -> None:
    table = with_session()
    copy_ended(table, table.tell(SUSPEND), failure="4 copies are in flight")
    assert (table.state(), table.host.room.used) == ("active", 0)
    copy_ended(table, table.tell(SUSPEND))
    copy_ended(table, table.tell(RESUME), failure="4 copies are in flight")
    assert (table.state(), table.device.room.used) == ("suspended", 0)
    assert reasons(table.reports(Refused)) == ["4 copies are in flight"] * 2


def test_a_full_memory_refuses_in_numbers() -> None:
    table = with_session(host_granules=4)
    table.tell(SUSPEND)
    assert table.state() == "active"
    table.tell(Open(session_id="other", state_bytes=BYTES, ownership=1))
    assert reasons(table.reports(Refused)) == [
        "host memory: needs 0.031 MiB, largest free run is 0.016 MiB of 0.016 MiB free",
        "needs 0.031 MiB, largest free run is 0.016 MiB of 0.016 MiB free",
    ]


def test_a_session_that_closes_while_it_is_computed_and_copied_frees_memory_when_both_have_ended() -> None:
    table = with_session()
    actions = table.tell(SUSPEND)
    table.tell(Close(session_id=S))
    assert table.state() is None
    assert table.device.room.draining == table.host.room.draining == BYTES
    copy_ended(table, actions)
    assert table.device.room.free == table.device.total_bytes
    assert table.host.room.free == table.host.total_bytes
    computed = with_session()
    computed.begin_round([S])
    computed.tell(Close(session_id=S))
    assert computed.device.room.draining == BYTES
    computed.happen(ChunkEnded(session_id=S, dirty=spans(0)))
    assert computed.device.room.free == computed.device.total_bytes


def test_commands_that_come_twice_or_for_nobody_are_answered() -> None:
    table = with_session()
    table.tell(Open(session_id=S, state_bytes=BYTES, ownership=1))
    assert table.device.room.used == BYTES
    table.tell(Close(session_id="nobody"))
    assert table.reports(Closed)
    table.tell(Suspend(session_id="nobody"))
    assert reasons(table.reports(Refused)) == ["is not here"]


def test_older_plans_older_controllers_and_other_incarnations_are_not_listened_to() -> None:
    table = with_session()
    quiet = Demand(session_id=S, active=False)
    assert table.tell(quiet, version=0) == table.tell(quiet, incarnation=2) == []
    table.tell(RESUME, controller_epoch=2, version=1)  # a new controller counts its plans anew
    assert table.tell(quiet, controller_epoch=1) == []
    assert (table.state(), table.ignored) == ("active", 3)
    table.tell(quiet, controller_epoch=2, version=1)
    assert table.state() == "idle"


def test_an_idle_session_is_not_computed_and_a_lost_one_neither() -> None:
    table = with_session()
    table.tell(Demand(session_id=S, active=False))
    assert (table.state(), table.runnable) == ("idle", ())
    table.tell(Demand(session_id=S, active=True))
    table.happen(StateLost(session_id=S, reason="gone"))
    assert (table.state(), table.runnable, table.device.room.used) == ("lost", (), 0)
    assert reasons(table.reports(Lost)) == ["gone"]


def test_what_was_said_before_a_question_and_comes_behind_it_has_no_effect() -> None:
    """Whoever asks relies on the answer: nothing that was on its way may change it afterwards."""
    table = with_session()
    table.asked(7)
    for version in (6, 7):
        assert table.tell(Open(session_id="other", state_bytes=GRANULE_BYTES, ownership=1), version=version) == []
        assert table.tell(prepare(granules=1), version=version) == []
    assert (set(table.records), table.ignored) == ({S}, 4)
    table.asked(5)
    assert table.tell(Open(session_id="other", state_bytes=GRANULE_BYTES, ownership=1), version=7) == []
    table.tell(Open(session_id="other", state_bytes=GRANULE_BYTES, ownership=1), version=8)
    assert set(table.records) == {S, "other"}
    table.tell(Open(session_id="third", state_bytes=GRANULE_BYTES, ownership=1), controller_epoch=2, version=1)
    assert "third" in table.records, "another controller counts from the beginning"
