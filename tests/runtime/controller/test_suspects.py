"""A session that takes its workers down takes no third one; who was only there once, or long ago, goes on."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bench.world.fleet import FLEET
from runtime.controller.controller import Controller, Exited, Ticked
from runtime.controller.step import Step
from runtime.controller.suspects import CLEAR_CHUNKS, FALLS_MAX
from runtime.gateway import messages as gate
from runtime.journal.records import Began, Cleared, Committed, Ended, Joined, Left, Placed, Prepared
from runtime.journal.rules import after
from runtime.transfer import messages as moved
from runtime.worker import messages as said
from runtime.worker.process.messages import Goodbye, Said
from tests.runtime.controller.test_controller import BEAT, HELLO, W, a_controller, created


class Running:
    """One session on one worker, which ends and comes back."""

    def __init__(self) -> None:
        self.controller = a_controller(created())
        self.incarnation = 1
        self.now_s = 1.0

    def serves(self, state: str = "active", chunks: int = 0) -> None:
        """The session is placed, and its worker has told of so many chunks."""
        books = self.controller._books
        if self.incarnation not in books.truth.workers.values():
            self.controller.handle(replace(HELLO, incarnation=self.incarnation), self.now_s)
        books.write(Placed(session_id="s", worker=W))
        owned = books.truth.sessions["s"]
        moved = said.Moved(session_id="s", state=state, ownership=owned.ownership)
        self.controller.handle(
            Said(worker=W, incarnation=self.incarnation, controller_epoch=1, report=moved), self.now_s
        )
        beat = replace(BEAT, incarnation=self.incarnation, sent_s=self.now_s, chunks=(("s", chunks),))
        self.controller.beat(beat, self.now_s)

    def tick(self) -> Step:
        self.now_s += 0.1
        return self.controller.handle(Ticked(), self.now_s)

    def falls(self) -> Step:
        step = self.controller.handle(Exited(worker=W, incarnation=self.incarnation, reason="signal 11"), self.now_s)
        self.incarnation += 1
        return step


def test_who_was_there_each_time_a_worker_fell_is_ended_with_the_reason() -> None:
    running = Running()
    for number in range(1, FALLS_MAX + 1):
        running.serves()
        step = running.falls()
        assert (Ended(session_id="s") in step.records) == (number == FALLS_MAX)
    (ended,) = [reply for reply in step.replies if isinstance(reply, gate.Ended)]
    assert ended.reason == f"its workers have ended {FALLS_MAX} times in a row, now {W}: signal 11"


def test_who_was_served_in_between_is_above_suspicion() -> None:
    running = Running()
    for _ in range(FALLS_MAX + 2):
        running.serves(chunks=CLEAR_CHUNKS)
        running.tick()
        assert Ended(session_id="s") not in running.falls().records
        assert Cleared(session_id="s") not in running.tick().records, "what it had before says nothing of later"
    running.serves(chunks=CLEAR_CHUNKS - 1)
    assert Cleared(session_id="s") not in running.tick().records


def test_that_it_is_above_suspicion_is_written_once() -> None:
    running = Running()
    running.serves()
    running.falls()
    running.serves(chunks=CLEAR_CHUNKS)
    assert Cleared(session_id="s") in running.tick().records
    assert running.tick().records == ()


@pytest.mark.parametrize("state", ["idle", "suspended"])
def test_who_rests_takes_nobody_down(state: str) -> None:
    running = Running()
    running.controller.handle(gate.Want(session_id="s", active=False), running.now_s)
    for _ in range(FALLS_MAX + 1):
        running.serves(state)
        assert Ended(session_id="s") not in running.falls().records


def test_who_was_at_rest_and_was_told_to_go_on_may_have_done_it() -> None:
    """Its worker says that it is active only some time after it is."""
    running = Running()
    running.serves()
    running.falls()
    running.controller.handle(gate.Want(session_id="s", active=False), running.now_s)
    running.serves("idle")
    running.controller.handle(gate.Want(session_id="s", active=True), running.now_s)
    running.controller.handle(gate.Want(session_id="s", active=False), running.now_s)
    assert Ended(session_id="s") in running.falls().records


def test_a_worker_that_was_asked_to_stop_has_not_fallen() -> None:
    running = Running()
    for _ in range(FALLS_MAX + 1):
        running.serves()
        goodbye = Goodbye(worker=W, incarnation=running.incarnation, reason="stopped")
        assert Ended(session_id="s") not in running.controller.handle(goodbye, running.now_s).records
        running.incarnation += 1


def test_a_worker_that_says_what_it_died_of_has_fallen() -> None:
    running = Running()
    for _ in range(FALLS_MAX):
        running.serves()
        goodbye = Goodbye(worker=W, incarnation=running.incarnation, reason="failed: the device is gone", failed=True)
        step = running.controller.handle(goodbye, running.now_s)
        running.incarnation += 1
    assert Ended(session_id="s") in step.records


def test_who_was_handed_over_and_fell_does_not_go_on_where_it_came_from() -> None:
    """Otherwise the source would be the third worker."""
    joined = tuple(Joined(worker=name, incarnation=1) for name in "xv")
    controller = a_controller(
        created(),
        *joined,
        Placed(session_id="s", worker="x"),
        Left(worker="x", incarnation=1, reason="signal 11"),
        Placed(session_id="s", worker=W),
        Prepared(session_id="s", attempt=1, target="v"),
        Committed(attempt=1),
    )
    step = controller.handle(Exited(worker="v", incarnation=1, reason="signal 11"), 1.0)
    assert {type(word.body) for word in step.words if word.worker == W} == {moved.Release}
    assert Ended(session_id="s") not in step.records
    released = moved.Released(session_id="s", attempt=1)
    controller.handle(Said(worker=W, incarnation=1, controller_epoch=1, report=released), 1.1)
    step = controller.handle(Ticked(), 1.2)
    assert Ended(session_id="s") in step.records
    (ended,) = [reply for reply in step.replies if isinstance(reply, gate.Ended)]
    assert ended.reason == "its workers have ended 2 times in a row, now v: signal 11"


def test_a_controller_that_begins_anew_knows_of_it() -> None:
    running = Running()
    running.serves()
    running.falls()
    truth = after(running.controller.truth, [Began(controller_epoch=2)])
    running.controller, _ = Controller.begin(FLEET, truth, running.now_s)
    running.serves()
    assert Ended(session_id="s") in running.falls().records
