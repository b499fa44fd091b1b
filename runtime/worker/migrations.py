"""Migrations of sessions into and out of a worker.

Decides which side of which attempt a command or an event is for; must never know the journal, nor what a side does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from runtime.state.ranges import Ranges
from runtime.transfer.attempt import LANES_MAX, Arrived, LaneEnded, LaneEvent, LaneFailed, Listening, RoundSent
from runtime.transfer.messages import (
    Abort,
    Aborted,
    Activate,
    AttemptId,
    Horizon,
    Migrating,
    Prepare,
    Reactivate,
    Release,
    Start,
    session_of,
)
from runtime.transfer.outgoing import PrecopyRule
from runtime.worker.answers import Steps, say
from runtime.worker.arrivals import Arrivals
from runtime.worker.books import Books, Record
from runtime.worker.departures import Departures
from runtime.worker.ended_attempts import EndedAttempts
from runtime.worker.events import Action


class Migrations:
    """Attempts of one worker, as source and as target."""

    def __init__(self, books: Books, rule: PrecopyRule, lanes_max: int = LANES_MAX) -> None:
        self._books, self._ended = books, EndedAttempts()
        self._departures = Departures(books, self._ended, rule, lanes_max)
        self._arrivals = Arrivals(books, self._ended, lanes_max)

    def command(self, command: Migrating, now_s: float) -> Steps:
        if isinstance(command, Horizon):
            return self._arrivals.prune(command)
        record = self._books.get(session_of(command))
        match command:
            case Prepare():
                return self._arrivals.prepare(command, record, now_s)
            case Start():
                return self._departures.start(command, record, now_s)
            case Activate():
                return self._arrivals.activate(command, record)
            case Release():
                return self._departures.release(command, record)
            case Abort():
                return self._abort(command, record)
            case Reactivate():
                return self._departures.reactivate(command, record)
            case _:
                assert_never(command)

    def lane(self, event: LaneEvent) -> Steps:
        """What the thread of an attempt tells; the attempt may be over by then."""
        if isinstance(event, LaneEnded):
            self._books.end_lane(event.attempt)
        record = next((r for r in self._books.records.values() if _attempt_of(r) == event.attempt), None)
        if record is None:
            return ()
        match event:
            case RoundSent() if record.outgoing is not None:
                return self._departures.settle(record, *record.outgoing.round_sent(event))
            case Listening() if record.incoming is not None:
                return self._arrivals.settle(record, *record.incoming.listening(event))
            case Arrived() if record.incoming is not None:
                return self._arrivals.settle(record, *record.incoming.arrived(event))
            case LaneFailed():
                return self._fail(record, event.reason)
            case LaneEnded():
                return self._fail(record, "the transfer ended early")
            case _:
                return ()

    def chunk_ended(self, record: Record, dirty: Ranges) -> Steps:
        assert record.outgoing is not None
        return self._departures.settle(record, *record.outgoing.chunk_ended(dirty))

    def round_begun(self, record: Record) -> None:
        assert record.outgoing is not None
        self._books.write(replace(record, outgoing=record.outgoing.round_begun()))

    def lost(self, record: Record, reason: str) -> Steps:
        """The source's state is gone; if all of it was sent, the controller may still commit."""
        return self._fail(record, f"the state is lost: {reason}")

    def ticked(self, now_s: float) -> Steps:
        steps: list[Action] = []
        for record in list(self._books.records.values()):
            if record.outgoing is not None:
                steps += self._departures.settle(record, *record.outgoing.ticked(now_s))
            elif record.incoming is not None:
                steps += self._arrivals.settle(record, *record.incoming.ticked(now_s))
        return tuple(steps)

    def _abort(self, command: Abort, record: Record | None) -> Steps:
        self._ended.add(session_of(command), command.attempt)
        aborted = say(Aborted(session_id=command.session_id, attempt=command.attempt))
        if record is None or _attempt_of(record) != command.attempt:
            return aborted
        side = self._arrivals.drop(record) if record.incoming is not None else self._departures.abort(record)
        return (*side, *aborted)

    def _fail(self, record: Record, reason: str) -> Steps:
        if record.outgoing is not None:
            return self._departures.settle(record, *record.outgoing.failed(reason))
        assert record.incoming is not None
        return self._arrivals.settle(record, *record.incoming.failed(reason))


def _attempt_of(record: Record) -> AttemptId | None:
    if record.outgoing is not None:
        return record.outgoing.attempt
    return record.incoming.attempt if record.incoming is not None else None
