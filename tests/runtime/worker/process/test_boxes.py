"""What waits between the threads of a worker is bounded, and nobody sleeps while something waits."""

from __future__ import annotations

import threading
import time

import pytest

from runtime.worker.events import Event, SlotReady, Ticked
from runtime.worker.process.inbox import Inbox
from runtime.worker.process.messages import AskInventory, Delivered, Goodbye, delivered, from_worker
from runtime.worker.process.outbox import CHUNKS_MAX, REPORTS_MAX, Outbox
from scheduler.cluster import SessionId

S = SessionId("s")
ASK = AskInventory(controller_epoch=1, incarnation=1, question=1)


def nothing() -> None:
    """Nobody has to be woken."""


def a_chunk(number: int) -> Delivered:
    return Delivered(
        worker="w",
        incarnation=1,
        controller_epoch=1,
        session_id=S,
        ownership=1,
        lineage=0,
        number=number,
        encoding="none",
        body=b"frames",
    )


def test_messages_beyond_the_bound_stay_with_who_brings_them_and_room_is_told() -> None:
    told: list[str] = []
    inbox = Inbox(lambda: told.append("room"), messages_max=2)
    assert [inbox.offer(ASK) for _ in range(3)] == [True, True, False]
    assert not inbox.has_room
    assert len(inbox.take(0)) == 2
    assert told == ["room"]
    assert inbox.take(0) == []
    assert told == ["room"]


def test_events_come_first_and_are_never_turned_away() -> None:
    inbox = Inbox(nothing, messages_max=1)
    inbox.offer(ASK)
    events: list[Event] = [SlotReady(session_id=S), Ticked()]
    for event in events:
        inbox.tell(event)
    assert inbox.take(0) == [*events, ASK]


@pytest.mark.parametrize("how", ["offer", "tell", "wake"])
def test_whoever_waits_is_woken(how: str) -> None:
    inbox = Inbox(nothing)
    news = {"offer": lambda: inbox.offer(ASK), "tell": lambda: inbox.tell(Ticked()), "wake": inbox.wake}
    timer = threading.Timer(0.05, news[how])
    timer.start()
    begun_s = time.monotonic()
    inbox.take(30.0)
    assert time.monotonic() - begun_s < 20.0
    timer.join()


def test_a_wake_before_the_wait_is_not_lost() -> None:
    inbox = Inbox(nothing)
    inbox.wake()
    begun_s = time.monotonic()
    assert inbox.take(30.0) == []
    assert time.monotonic() - begun_s < 20.0


def test_a_session_has_few_chunks_on_their_way() -> None:
    told: list[str] = []
    outbox = Outbox(nothing, lambda: told.append("sent"))
    for number in range(CHUNKS_MAX):
        assert outbox.may_compute(S)
        outbox.computed((S, 0, number), ownership=1)
    assert not outbox.may_compute(S)
    assert outbox.may_compute(SessionId("other"))
    outbox.deliver(a_chunk(0))
    frame = outbox.chunk()
    assert frame is not None
    assert delivered(frame) == a_chunk(0)
    assert not outbox.may_compute(S)  # it is on its way until a socket has taken it
    outbox.chunk_sent()
    assert outbox.may_compute(S)
    outbox.given_up((S, 0, 1))
    assert not outbox.has_chunks(S)
    assert told == ["sent", "sent"]


def test_reports_keep_their_order_and_a_crowd_is_noticed() -> None:
    outbox = Outbox(nothing, nothing)
    for at in range(REPORTS_MAX):
        assert not outbox.is_crowded
        outbox.say(Goodbye(worker="w", incarnation=at, reason=""))
    assert outbox.is_crowded
    for at in range(REPORTS_MAX):
        frame = outbox.report()
        assert frame is not None
        message = from_worker(frame)
        assert isinstance(message, Goodbye)
        assert message.incarnation == at
        outbox.report_sent()
    assert outbox.report() is None
    assert outbox.is_empty
