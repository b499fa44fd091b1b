"""Moves that come to nothing are told with their reason, and never more than a few an epoch."""

from __future__ import annotations

from runtime.controller.controller import EpochOver, Happening, Ticked
from runtime.controller.process.telling import MOVES_MAX, Telling
from runtime.controller.step import Step
from runtime.journal.records import Left
from runtime.transfer.messages import AttemptFailed
from runtime.worker.messages import Refused
from runtime.worker.process.messages import Said
from scheduler import events
from scheduler.cluster import GpuId, SessionId

TICKED = Ticked()


def begun(session_id: str = "s") -> Step:
    moved = events.MoveStarted(session_id=SessionId(session_id), kind="migrate", source=GpuId("v"), target=GpuId("w"))
    return Step(events=(moved,))


def failed(session_id: str = "s", *records: Left) -> Step:
    return Step(events=(events.MoveFailed(session_id=SessionId(session_id)),), records=records)


def told(happening: Happening, step: Step) -> list[str]:
    telling = Telling()
    assert telling.heard(TICKED, begun()) == []
    return telling.heard(happening, step)


def said(report: AttemptFailed | Refused) -> Said:
    return Said(worker="w", incarnation=1, controller_epoch=1, report=report)


def test_the_reason_is_that_of_whoever_has_said_it() -> None:
    words = "session s: migrate from v to w has failed: "
    broken = AttemptFailed(session_id="s", attempt=1, side="target", frozen=False, reason="a checksum is wrong")
    assert told(said(broken), failed()) == [words + "w: a checksum is wrong"]
    assert told(said(Refused(session_id="s", reason="no room")), failed()) == [words + "w: no room"]
    assert told(TICKED, failed()) == [words + "it took too long"]
    left = Left(worker="v", incarnation=1, reason="silent")
    assert told(TICKED, failed("s", left)) == [words + "v is gone: silent"]
    assert told(EpochOver(), failed()) == [words + "the target cannot take it now"]


def test_what_has_ended_is_not_told_and_nothing_is_told_twice() -> None:
    telling = Telling()
    for over in (events.MoveEnded(session_id=SessionId("s")), events.SessionClosed(session_id=SessionId("s"))):
        telling.heard(TICKED, begun())
        assert telling.heard(TICKED, Step(events=(over,))) == []
        assert telling.heard(TICKED, failed()) == []


def test_of_many_only_a_few_are_named_and_the_others_counted() -> None:
    telling = Telling()
    names = [f"s{number}" for number in range(MOVES_MAX + 3)]
    lines: list[str] = []
    for name in names:
        telling.heard(TICKED, begun(name))
        lines += telling.heard(TICKED, failed(name))
    assert len(lines) == MOVES_MAX
    assert telling.heard(EpochOver(), Step()) == ["3 more moves of this epoch have failed"]
    assert telling.heard(EpochOver(), Step()) == []
    telling.heard(TICKED, begun())
    assert len(telling.heard(TICKED, failed())) == 1
