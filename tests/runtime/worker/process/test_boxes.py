"""What waits between the threads of a worker is bounded, and nobody sleeps while something waits."""

from __future__ import annotations

import threading
import time

import pytest

from runtime.worker.events import Event, SlotReady, Ticked
from runtime.worker.messages import Steered
from runtime.worker.process.inbox import Inbox
from runtime.worker.process.messages import (
    AskInventory,
    Delivered,
    FromWorker,
    Goodbye,
    ToGateway,
    Told,
    from_worker,
    to_gateway,
)
from runtime.worker.process.outbox import CHUNKS_MAX, WORDS_MAX, Outbox, Peer
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


def an_answer(serial: int) -> Told:
    return Told(worker="w", incarnation=1, controller_epoch=1, report=Steered(session_id=S, lineage=0, serial=serial))


def a_report(at: int) -> Goodbye:
    return Goodbye(worker="w", incarnation=at, reason="")


def said(outbox: Outbox, peer: Peer, at: int) -> None:
    if peer == "controller":
        outbox.say(a_report(at))
    else:
        outbox.tell(an_answer(at))


def taken(outbox: Outbox, peer: Peer) -> list[FromWorker | ToGateway]:
    """All that waits for one, as a socket takes it."""
    frames = []
    while (frame := outbox.next_for(peer)) is not None:
        frames.append(frame)
        outbox.taken_for(peer)
    return [from_worker(frame) if peer == "controller" else to_gateway(frame) for frame in frames]


def test_a_session_has_few_chunks_on_their_way() -> None:
    told: list[str] = []
    outbox = Outbox(nothing, lambda: told.append("eased"))
    for number in range(CHUNKS_MAX):
        assert outbox.may_compute(S)
        outbox.computed((S, 0, number), ownership=1)
    assert not outbox.may_compute(S)
    assert outbox.may_compute(SessionId("other"))
    outbox.deliver(a_chunk(0))
    frame = outbox.next_for("gateway")
    assert frame is not None
    assert to_gateway(frame) == a_chunk(0)
    assert not outbox.may_compute(S)  # it is on its way until a socket has taken it
    outbox.taken_for("gateway")
    assert outbox.may_compute(S)
    outbox.given_up((S, 0, 1))
    assert not outbox.has_chunks(S)
    assert told == ["eased", "eased"]


def test_answers_and_chunks_leave_in_the_order_in_which_they_came() -> None:
    outbox = Outbox(nothing, nothing)
    messages: list[ToGateway] = [an_answer(1), a_chunk(0), an_answer(2), an_answer(3), a_chunk(1)]
    for message in messages:
        if isinstance(message, Delivered):
            outbox.computed((S, message.lineage, message.number), ownership=1)
            outbox.deliver(message)
        else:
            outbox.tell(message)
    assert taken(outbox, "gateway") == messages
    assert outbox.is_empty


@pytest.mark.parametrize(("peer", "other"), [("controller", "gateway"), ("gateway", "controller")])
def test_words_keep_their_order_and_crowd_one_peer_alone(peer: Peer, other: Peer) -> None:
    outbox = Outbox(nothing, nothing)
    for at in range(WORDS_MAX[peer]):
        assert not outbox.is_crowded(peer)
        said(outbox, peer, at)
    assert outbox.is_crowded(peer)
    assert not outbox.is_crowded(other)
    assert taken(outbox, other) == []
    made = a_report if peer == "controller" else an_answer
    assert taken(outbox, peer) == [made(at) for at in range(WORDS_MAX[peer])]
    assert not outbox.is_crowded(peer)
    assert outbox.is_empty


def test_chunks_are_no_words_and_do_not_make_a_crowd() -> None:
    """Otherwise a gateway that is slow with chunks could not say which of them it wants."""
    outbox = Outbox(nothing, nothing)
    for number in range(WORDS_MAX["gateway"] + 1):
        outbox.computed((S, 0, number), ownership=1)
        outbox.deliver(a_chunk(number))
    assert not outbox.is_crowded("gateway")


def test_no_chunk_is_begun_while_words_about_chunks_crowd() -> None:
    """They are not answers: nothing else would bound them. Whoever computes is woken when it goes on."""
    told: list[str] = []
    outbox = Outbox(nothing, lambda: told.append("eased"))
    for at in range(WORDS_MAX["gateway"] + 1):
        outbox.tell(an_answer(at))
    assert not outbox.may_compute(S)
    outbox.taken_for("gateway")
    outbox.taken_for("gateway")
    assert outbox.may_compute(S)
    assert told
