"""Who is there is known in time, and nobody is given up while it may still compute."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.controller.roster import DRIFT, HANG_S, INVENTORY_S, Roster
from runtime.controller.step import Step, Word
from runtime.journal.records import Began, Joined, Left
from runtime.journal.rules import after
from runtime.journal.truth import Truth
from runtime.worker.process.lease import LEASE_S, Lease
from runtime.worker.process.messages import (
    AskInventory,
    Goodbye,
    Heartbeat,
    Hello,
    Inventory,
    Memory,
    Renew,
)

ROOM = Memory(used=0, reserved=0, draining=0, free=1, largest_free=1)


def hello(worker: str = "w", incarnation: int = 1) -> Hello:
    return Hello(
        protocol=1,
        worker=worker,
        incarnation=incarnation,
        revision="r",
        profiles=(),
        device_bytes=1,
        host_bytes=1,
        coalesce_max=8,
        ways=("tcp",),
        sent_s=0.0,
    )


def beat(incarnation: int = 1, sent_s: float = 0.0, **changes: Any) -> Heartbeat:
    usual: dict[str, Any] = {"turn": 1, "turn_age_s": 0.0, "leased": True, "dropped": 0, "chunks": ()}
    return Heartbeat(worker="w", incarnation=incarnation, controller_epoch=3, sent_s=sent_s, **(usual | changes))


def inventory(incarnation: int = 1, controller_epoch: int = 3, question: int = 1) -> Inventory:
    return Inventory(
        question=question,
        controller_epoch=controller_epoch,
        hello=hello(incarnation=incarnation),
        leased=True,
        lanes=0,
        device=ROOM,
        host=ROOM,
        sessions=(),
    )


@pytest.fixture
def roster() -> Roster:
    made = Roster(3)
    made.said(hello(), 100.0)
    made.said(inventory(), 100.0)
    return made


def test_who_says_hello_has_joined_once() -> None:
    roster = Roster(3)
    assert roster.said(hello(), 0.0).records == (Joined(worker="w", incarnation=1),)
    assert roster.said(hello(), 1.0) == Step()
    assert roster.knows("w", 1)


def test_a_higher_incarnation_is_the_end_of_the_one_before(roster: Roster) -> None:
    assert [type(record) for record in roster.said(hello(incarnation=2), 101.0).records] == [Left, Joined]
    assert roster.said(hello(incarnation=1), 102.0) == Step()
    assert roster.said(beat(incarnation=1), 102.0) == Step()
    assert roster.strangers == 2


def test_heartbeats_are_echoed_to_the_incarnation_that_sent_them(roster: Roster) -> None:
    (word,) = roster.said(beat(sent_s=7.5), 101.0).words
    assert word == Word(worker="w", incarnation=1, body=Renew(controller_epoch=3, incarnation=1, sent_s=7.5))


@pytest.mark.parametrize("incarnation", [1, 2])
def test_whose_hello_was_lost_is_asked(incarnation: int) -> None:
    roster = Roster(3)
    if incarnation == 2:
        roster.said(hello(), 0.0)
    (word,) = roster.said(beat(incarnation=incarnation), 1.0).words
    assert isinstance(word.body, AskInventory)
    assert word.body.incarnation == incarnation
    joined = roster.said(inventory(incarnation), 2.0).records[-1]
    assert joined == Joined(worker="w", incarnation=incarnation)


def test_who_has_not_said_what_it_holds_is_asked_before_its_lease_goes_on() -> None:
    truth = after(Truth(), [Began(controller_epoch=1), Joined(worker="w", incarnation=1)])
    roster, _ = Roster.resumed(truth, 0.0)
    (word,) = roster.said(beat(), 1.0).words
    assert isinstance(word.body, AskInventory)
    roster.said(hello(), 1.1)
    (word,) = roster.said(beat(), 1.5).words
    assert isinstance(word.body, AskInventory), "it has not answered yet"
    roster.said(inventory(controller_epoch=1), 1.6)
    (word,) = roster.said(beat(), 2.0).words
    assert isinstance(word.body, Renew)


@pytest.mark.parametrize("comes", [hello(), inventory(question=1), inventory(question=5)])
def test_who_comes_back_gets_no_lease_before_it_has_heard_all_that_it_was_told_before(
    roster: Roster, comes: Hello | Inventory
) -> None:
    """It was silent for a lease; what it answers by now it may have been asked before it was told something."""
    for second in (105.0, 110.0):
        roster.ticked(second)  # it is asked for the second and the third time
    assert [type(record) for record in roster.ticked(111.0).records] == [Left]
    for _ in range(2):
        (word,) = roster.said(beat(sent_s=9.0), 112.0).words
        assert isinstance(word.body, AskInventory)
    joined = roster.said(comes, 112.1)
    assert [type(record) for record in joined.records] == [Joined]
    (asked,) = joined.words
    assert isinstance(asked.body, AskInventory)
    (word,) = roster.said(beat(sent_s=10.0), 112.5).words
    assert isinstance(word.body, AskInventory)
    roster.said(inventory(question=asked.body.question), 112.6)
    (word,) = roster.said(beat(sent_s=11.0), 113.0).words
    assert isinstance(word.body, Renew)


def test_silence_is_the_end_only_when_no_lease_can_hold(roster: Roster) -> None:
    """The worker's own clock is 5,000 s ahead, its messages take 0.4 s, and it runs 1 % slow."""
    sent_s = 5100.0
    roster.said(beat(sent_s=sent_s), 100.4)
    lease = Lease().renewed(sent_s, sent_s + 0.8)
    left_s = next(now / 100 for now in range(10_000, 20_000) if roster.copy().ticked(now / 100).records)
    since_sent_s = (left_s - 100.0) * (1 - DRIFT)
    assert not lease.holds(sent_s + since_sent_s)
    assert left_s <= 100.4 + LEASE_S * (1 + DRIFT) + 0.01


def test_an_exit_that_was_seen_needs_no_lease(roster: Roster) -> None:
    assert roster.exited("w", 2, "killed") == Step()
    assert roster.exited("w", 1, "killed by signal 9").records == (
        Left(worker="w", incarnation=1, reason="killed by signal 9"),
    )
    assert roster.exited("w", 1, "again") == Step()
    assert not roster.knows("w", 1)


def test_a_goodbye_is_the_end_of_its_own_incarnation(roster: Roster) -> None:
    assert roster.said(Goodbye(worker="w", incarnation=9, reason="stopped"), 101.0) == Step()
    assert roster.said(Goodbye(worker="w", incarnation=1, reason="stopped"), 101.0).records != ()


def test_who_computes_nothing_loses_its_lease_though_it_speaks(roster: Roster) -> None:
    hung = beat(sent_s=1.0, turn_age_s=HANG_S + 1)
    assert roster.said(hung, 101.0) == Step()
    assert roster.present["w"].hangs
    for second in range(102, 111):
        assert roster.said(hung, float(second)) == Step()
    (left,) = roster.ticked(100.01 + LEASE_S * (1 + DRIFT)).records
    assert isinstance(left, Left)
    assert left.reason == "its compute thread hangs"


def test_who_goes_on_computing_in_time_stays(roster: Roster) -> None:
    roster.said(beat(sent_s=1.0, turn_age_s=HANG_S + 1), 101.0)
    assert roster.said(beat(sent_s=2.0), 105.0).words != ()
    assert roster.ticked(100.01 + LEASE_S * (1 + DRIFT)).records == ()


def test_everybody_is_asked_again_now_and_then(roster: Roster) -> None:
    assert roster.ticked(100.0 + INVENTORY_S - 0.1).words == ()
    (asked,) = roster.ticked(100.0 + INVENTORY_S).words
    assert (asked.worker, asked.incarnation) == ("w", 1)
    assert isinstance(asked.body, AskInventory)
    assert roster.question == asked.body.question
    assert roster.ticked(100.0 + INVENTORY_S + 0.1).words == ()


def test_after_a_restart_everybody_is_asked_and_the_silent_have_left() -> None:
    truth = after(Truth(controller_epoch=4), [Joined(worker="w", incarnation=1), Joined(worker="x", incarnation=5)])
    roster, change = Roster.resumed(truth, 50.0)
    assert [(word.worker, word.incarnation, type(word.body)) for word in change.words] == [
        ("w", 1, AskInventory),
        ("x", 5, AskInventory),
    ]
    assert roster.said(inventory(controller_epoch=3), 51.0) == Step()
    assert not roster.all_known, "that was an answer to the controller before"
    assert roster.said(inventory(controller_epoch=4), 51.0) == Step()
    assert roster.present["w"].hello is not None
    assert not roster.all_known
    roster.said(beat(sent_s=3.0), 51.0)
    assert roster.ticked(50.0 + LEASE_S + 0.101).records == (
        Left(worker="x", incarnation=5, reason="not heard for 10.1 s"),
    )


def test_who_comes_back_after_the_question_is_asked_with_its_next_heartbeat() -> None:
    truth = after(Truth(controller_epoch=4), [Joined(worker="w", incarnation=1)])
    roster, _ = Roster.resumed(truth, 50.0)
    (asked,) = roster.said(beat(), 50.4).words
    assert isinstance(asked.body, AskInventory)
    roster.said(inventory(controller_epoch=4), 50.5)
    (echoed,) = roster.said(beat(), 50.9).words
    assert isinstance(echoed.body, Renew)


def test_what_could_not_be_written_has_not_happened(roster: Roster) -> None:
    trial = roster.copy()
    assert trial.exited("w", 1, "killed").records
    assert roster.knows("w", 1)
