"""What is written and said in each phase of a hand-over. Whole lives of fleets are in tests/runtime/worker."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.controller.handover import ATTEMPT_S, SAY_AGAIN_S
from runtime.controller.handovers import Handovers, Part
from runtime.controller.step import Step, Word
from runtime.journal.records import (
    Aborted,
    Committed,
    Created,
    Finished,
    Joined,
    Left,
    Lost,
    Placed,
    Reactivated,
    Record,
)
from runtime.journal.rules import ContradictionError, after
from runtime.journal.truth import Truth
from runtime.transfer import messages as m
from runtime.worker.messages import Frozen

PLACED = (
    Joined(worker="a", incarnation=1),
    Joined(worker="b", incarnation=1),
    Created(session_id="s", profile="p", seed=0, prompt="", token_sha256=bytes(32)),
    Placed(session_id="s", worker="a"),
)
ROUTE = m.Route(way="gloo", peer="a", incarnation=1, address="127.0.0.1:7", token=b"t")
READY = ("b", m.Ready(session_id="s", attempt=1, route=ROUTE))
FROZEN = ("a", Frozen(session_id="s", attempt=1, chunk_number=4))
SENT = ("a", m.Sent(session_id="s", attempt=1, digest=7, moved_bytes=9, frozen_bytes=1))
LEFT = (FROZEN, SENT)  # what a source says whose chunks have all been taken
STAGED = ("b", m.Staged(session_id="s", attempt=1, digest=7))
ACTIVATED = ("b", m.Activated(session_id="s", attempt=1, ownership=2))
RELEASED = ("a", m.Released(session_id="s", attempt=1))


class Controller:
    """A journal that is a value, and what was said last."""

    def __init__(self) -> None:
        self.truth = after(Truth(controller_epoch=3), PLACED)
        self.handovers = Handovers(3)
        self.now_s = 100.0
        self.takes_chunks = True
        self.written: list[Record] = []
        self.said: tuple[Word, ...] = ()

    def take(self, outcome: Step, *before: Record) -> None:
        self.truth = after(self.truth, [*before, *outcome.records])
        self.written += outcome.records
        self.said = outcome.words

    def begin(self, way: m.Way = "gloo") -> None:
        self.take(self.handovers.begin(self.truth, "s", "b", state_bytes=64, active=True, way=way, now_s=self.now_s))

    def hear(self, *reports: tuple[str, Any]) -> None:
        for worker, report in reports:
            self.take(self.handovers.hear(self.truth, worker, report, self.now_s))
            if isinstance(report, Frozen) and self.takes_chunks:
                self.taken(report.chunk_number)

    def taken(self, up_to: int) -> None:
        self.take(self.handovers.chunks_taken(self.truth, "s", up_to, self.now_s))

    def left(self, worker: str) -> None:
        left = Left(worker=worker, incarnation=1, reason="killed")
        self.take(self.handovers.left(after(self.truth, [left]), worker, self.now_s), left)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.take(self.handovers.ticked(self.now_s))

    def restart(self) -> None:
        self.handovers, outcome = Handovers.resumed(self.truth, self.now_s)
        self.take(outcome)

    @property
    def owner(self) -> tuple[str | None, int]:
        return self.truth.sessions["s"].worker, self.truth.sessions["s"].ownership

    def words(self) -> list[tuple[str, type]]:
        return [(send.worker, type(send.body)) for send in self.said]


@pytest.fixture
def controller() -> Controller:
    made = Controller()
    made.begin()
    return made


def test_the_whole_way(controller: Controller) -> None:
    assert controller.words() == [("b", m.Prepare)]
    controller.hear(READY)
    assert controller.words() == [("b", m.Prepare), ("a", m.Start)]
    start = controller.said[1].body
    assert isinstance(start, m.Start)
    assert (start.route.peer, start.route.address, start.route.token) == ("b", "127.0.0.1:7", b"t")
    controller.hear(*LEFT)
    assert controller.owner == ("a", 1)
    controller.hear(STAGED)
    assert controller.owner == ("b", 2)
    assert controller.said == (Word(worker="b", body=m.Activate(session_id="s", attempt=1, ownership=2)),)
    controller.hear(ACTIVATED)
    assert controller.words() == [("a", m.Release)]
    controller.hear(RELEASED)
    assert controller.handovers.under_way == ()
    assert [type(record) for record in controller.written[1:]] == [Committed, Finished]


def test_checksums_that_differ_are_never_committed(controller: Controller) -> None:
    controller.hear(READY, *LEFT, ("b", m.Staged(session_id="s", attempt=1, digest=8)))
    assert controller.owner == ("a", 1)
    assert controller.words() == [("a", m.Abort), ("b", m.Abort)]
    assert controller.written[1:] == [Aborted(attempt=1)]


def test_nothing_is_committed_while_the_source_has_chunks_to_deliver(controller: Controller) -> None:
    controller.takes_chunks = False
    controller.hear(READY, SENT, STAGED)
    controller.taken(9)
    assert controller.owner == ("a", 1), "nobody has said where it stands still"
    other = Controller()
    other.begin()
    other.takes_chunks = False
    other.hear(READY, FROZEN, SENT, STAGED)
    other.taken(3)
    assert other.owner == ("a", 1)
    other.taken(4)
    assert other.owner == ("b", 2)


def test_what_was_not_confirmed_is_said_again_and_what_was_is_not(controller: Controller) -> None:
    controller.wait(SAY_AGAIN_S / 2)
    assert controller.said == ()
    controller.wait(SAY_AGAIN_S)
    assert controller.words() == [("b", m.Prepare)]
    controller.take(controller.handovers.abort(1, controller.now_s))
    controller.hear(("b", m.Aborted(session_id="s", attempt=1)))
    controller.wait(SAY_AGAIN_S)
    assert controller.words() == [("a", m.Abort)]


def test_an_attempt_that_takes_too_long_is_aborted_and_a_commit_is_not(controller: Controller) -> None:
    controller.hear(READY, *LEFT)
    controller.wait(ATTEMPT_S - 0.1)
    assert controller.owner == ("a", 1)
    controller.hear(STAGED)
    controller.wait(10 * ATTEMPT_S)
    assert controller.owner == ("b", 2)
    assert controller.words() == [("b", m.Activate)]

    late = Controller()
    late.begin()
    late.wait(ATTEMPT_S)
    assert late.written[1:] == [Aborted(attempt=1)]


def test_the_next_attempt_between_two_that_failed_goes_another_way(controller: Controller) -> None:
    first = controller.said[0].body
    failed = m.AttemptFailed(session_id="s", attempt=1, side="source", frozen=False, reason="peer lost")
    controller.hear(("a", failed))
    controller.begin()
    second = controller.said[0].body
    assert isinstance(first, m.Prepare)
    assert isinstance(second, m.Prepare)
    assert (first.route.way, second.route.way) == ("gloo", "tcp")
    assert second.route.incarnation > first.route.incarnation > 0


def test_a_pair_serves_one_transfer_at_a_time(controller: Controller) -> None:
    other = Created(session_id="t", profile="p", seed=0, prompt="", token_sha256=bytes(32))
    controller.take(Step(), other, Placed(session_id="t", worker="b"))
    controller.take(
        controller.handovers.begin(controller.truth, "t", "a", state_bytes=64, active=True, way="gloo", now_s=0.0)
    )
    prepare = controller.said[0].body
    assert isinstance(prepare, m.Prepare)
    assert prepare.route.way == "tcp"


def test_no_room_is_no_fault_of_the_connection(controller: Controller) -> None:
    controller.hear(("b", m.Nack(session_id="s", attempt=1, reason="needs 64 MiB")))
    controller.hear(*((side, m.Aborted(session_id="s", attempt=1)) for side in ("a", "b")))
    controller.begin()
    again = controller.said[0].body
    assert isinstance(again, m.Prepare)
    assert again.route.way == "gloo"


def test_another_controller_connects_pairs_anew(controller: Controller) -> None:
    before = controller.said[0].body
    other = Handovers(4)
    truth = after(controller.truth, [Aborted(attempt=1)])
    again = other.begin(truth, "s", "b", state_bytes=64, active=True, way="gloo", now_s=0.0).words[0].body
    assert isinstance(before, m.Prepare)
    assert isinstance(again, m.Prepare)
    assert again.route.incarnation > before.route.incarnation


@pytest.mark.parametrize(
    ("heard", "worker", "written", "owner"),
    [
        ((), "b", [Aborted(attempt=1)], ("a", 1)),
        ((READY, *LEFT), "b", [Aborted(attempt=1)], ("a", 1)),
        ((READY, *LEFT), "a", [Aborted(attempt=1)], (None, 1)),
        ((READY, *LEFT, STAGED), "b", [Committed(attempt=1), Reactivated(attempt=1)], ("a", 3)),
        ((READY, *LEFT, STAGED), "a", [Committed(attempt=1)], ("b", 2)),
        ((READY, *LEFT, STAGED, ACTIVATED), "b", [Committed(attempt=1)], (None, 2)),
        ((READY, *LEFT, STAGED, ACTIVATED), "a", [Committed(attempt=1), Finished(attempt=1)], ("b", 2)),
    ],
)
def test_a_worker_leaves_in_each_phase(
    controller: Controller, heard: Any, worker: str, written: list[Record], owner: tuple[str | None, int]
) -> None:
    controller.hear(*heard)
    controller.left(worker)
    assert controller.written[1:] == written
    assert controller.owner == owner
    assert all(send.worker != worker for send in controller.said)


def test_a_source_that_lost_what_it_was_to_go_on_with_says_so(controller: Controller) -> None:
    controller.hear(READY, *LEFT, STAGED)
    controller.left("b")
    failed = m.AttemptFailed(session_id="s", attempt=1, side="source", frozen=True, reason="lost")
    controller.hear(("a", failed))
    assert controller.written[-1] == Lost(session_id="s")
    assert controller.handovers.under_way == ()


@pytest.mark.parametrize(
    ("heard", "word", "owner"),
    [((READY, *LEFT), ("a", m.Abort), "a"), ((READY, *LEFT, STAGED), ("b", m.Activate), "b")],
)
def test_after_a_restart_the_journal_decides(
    controller: Controller, heard: Any, word: tuple[str, type], owner: str
) -> None:
    controller.hear(*heard)
    controller.restart()
    assert word in controller.words()
    assert controller.owner[0] == owner


@pytest.mark.parametrize("gone", [("b",), ("b", "a")])
def test_a_target_that_was_gone_before_a_restart_is_waited_for_by_nobody(
    controller: Controller, gone: tuple[str, ...]
) -> None:
    left = [Left(worker=worker, incarnation=1, reason="killed") for worker in gone]
    controller.truth = after(controller.truth, [Committed(attempt=1), *left])
    controller.restart()
    assert controller.written[-1] == Reactivated(attempt=1)
    if gone == ("b",):
        assert controller.words() == [("a", m.Reactivate)]
        controller.hear(("a", m.Reactivated(session_id="s", attempt=1, ownership=3)))
    assert controller.handovers.under_way == ()
    assert controller.truth.handovers == {}
    assert controller.owner == ((None, 3) if "a" in gone else ("a", 3))


@pytest.mark.parametrize(
    ("records", "part", "word"),
    [
        ([Aborted(attempt=1)], Part(session_id="s", attempt=1, side="source", ownership=1), ("a", m.Abort)),
        ([Aborted(attempt=1)], Part(session_id="s", attempt=1, side="target", ownership=0), ("b", m.Abort)),
        (
            [Committed(attempt=1), Finished(attempt=1)],
            Part(session_id="s", attempt=1, side="source", ownership=1),
            ("a", m.Release),
        ),
        (
            [Committed(attempt=1), Left(worker="b", incarnation=1, reason=""), Reactivated(attempt=1)],
            Part(session_id="s", attempt=1, side="source", ownership=1),
            ("a", m.Reactivate),
        ),
    ],
)
def test_who_has_not_heard_how_it_ended_is_told_after_a_restart(
    controller: Controller, records: list[Record], part: Part, word: tuple[str, type]
) -> None:
    controller.truth = after(controller.truth, records)
    controller.restart()
    assert controller.handovers.under_way == ()
    controller.take(controller.handovers.found(controller.truth, word[0], part, controller.now_s))
    assert controller.words() == [word]
    confirmed: dict[type, Any] = {m.Abort: m.Aborted(session_id="s", attempt=1), m.Release: RELEASED[1]}
    again = m.Reactivated(session_id="s", attempt=1, ownership=3)
    controller.hear((word[0], confirmed.get(word[1], again)))
    assert controller.handovers.under_way == ()
    assert controller.written[1:] == []


def test_what_could_not_be_written_has_not_happened(controller: Controller) -> None:
    controller.hear(READY, *LEFT)
    trial = controller.handovers.copy()
    assert trial.hear(controller.truth, *STAGED, controller.now_s).records == (Committed(attempt=1),)
    again = controller.handovers.hear(controller.truth, *STAGED, controller.now_s)
    assert again.records == (Committed(attempt=1),)


def test_a_session_is_handed_over_once_at_a_time(controller: Controller) -> None:
    with pytest.raises(ContradictionError, match="being handed over"):
        controller.begin()
    assert len(controller.handovers.under_way) == 1


def test_words_of_strangers_and_of_attempts_that_are_over_change_nothing(controller: Controller) -> None:
    controller.hear(("c", READY[1]), ("a", READY[1]), ("b", SENT[1]), ("a", STAGED[1]), ACTIVATED, RELEASED)
    controller.hear(("b", m.Staged(session_id="s", attempt=9, digest=7)))
    assert controller.owner == ("a", 1)
    assert controller.written[1:] == []


@pytest.mark.parametrize("worker", ["a", "b"])
def test_one_side_cannot_speak_for_both(controller: Controller, worker: str) -> None:
    controller.hear((worker, SENT[1]), (worker, STAGED[1]))
    assert controller.owner == ("a", 1)


def test_whoever_comes_back_is_connected_anew_and_the_best_way(controller: Controller) -> None:
    first = controller.said[0].body
    failed = m.AttemptFailed(session_id="s", attempt=1, side="target", frozen=False, reason="peer lost")
    controller.hear(("b", failed))
    controller.left("b")
    controller.take(Step(), Joined(worker="b", incarnation=2))
    controller.hear(("a", m.Aborted(session_id="s", attempt=1)))
    controller.begin()
    second = controller.said[0].body
    assert isinstance(first, m.Prepare)
    assert isinstance(second, m.Prepare)
    assert (second.route.way, second.route.incarnation > first.route.incarnation) == ("gloo", True)


def test_no_horizon_passes_an_attempt_that_is_under_way(controller: Controller) -> None:
    other = Created(session_id="t", profile="p", seed=0, prompt="", token_sha256=bytes(32))
    controller.take(Step(), other, Placed(session_id="t", worker="a"))
    controller.take(
        controller.handovers.begin(controller.truth, "t", "b", state_bytes=64, active=True, way="tcp", now_s=0.0)
    )
    prepare = controller.said[0].body
    assert isinstance(prepare, m.Prepare)
    assert (prepare.attempt, prepare.horizon) == (2, 0)
    assert controller.handovers.horizon(controller.truth) == m.Horizon(attempt=2, open_attempts=(1, 2))
