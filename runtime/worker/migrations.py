"""Migrations of sessions into and out of a worker.

Decides which attempt is listened to, and what becomes of session and memory when it ends; must never know the journal:
what the controller says about commit and abort is taken as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from runtime.state.blocks import NoRoom
from runtime.state.ranges import Ranges
from runtime.transfer.attempt import (
    LANES_MAX,
    Arrived,
    LaneEnded,
    LaneEvent,
    LaneFailed,
    Listening,
    OpenReceiving,
    OpenSending,
    RoundSent,
    Tell,
)
from runtime.transfer.incoming import Incoming
from runtime.transfer.messages import (
    Abort,
    Aborted,
    Activate,
    Activated,
    AttemptFailed,
    AttemptId,
    Horizon,
    Migrating,
    MigrationReport,
    Nack,
    Prepare,
    Reactivate,
    Reactivated,
    Release,
    Released,
    Side,
    Start,
    session_of,
)
from runtime.transfer.outgoing import Outgoing, PrecopyRule
from runtime.transfer.outgoing import Steps as OutgoingSteps
from runtime.worker.books import Books, Record, State
from runtime.worker.ended_attempts import EndedAttempts
from runtime.worker.events import Action, Adopt, Forget, Say

Steps = tuple[Action, ...]


class Migrations:
    """Attempts of one worker, as source and as target."""

    def __init__(self, books: Books, rule: PrecopyRule, lanes_max: int = LANES_MAX) -> None:
        self._books, self._rule, self._lanes_max = books, rule, lanes_max
        self._ended = EndedAttempts()

    def command(self, command: Migrating, now_s: float) -> Steps:
        if isinstance(command, Horizon):
            return self._prune(command)
        record = self._books.get(session_of(command))
        match command:
            case Prepare():
                return self._prepare(command, record, now_s)
            case Start():
                return self._start(command, record, now_s)
            case Activate():
                return self._activate(command, record)
            case Release():
                return self._release(command, record)
            case Abort():
                return self._abort(command, record)
            case Reactivate():
                return self._reactivate(command, record)
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
                return self._out(record, *record.outgoing.round_sent(event))
            case Listening() if record.incoming is not None:
                return self._in(record, *record.incoming.listening(event))
            case Arrived() if record.incoming is not None:
                return self._in(record, *record.incoming.arrived(event))
            case LaneFailed():
                return self._fail(record, event.reason)
            case LaneEnded():
                return self._fail(record, "the transfer ended early")
            case _:
                return ()

    def chunk_ended(self, record: Record, dirty: Ranges) -> Steps:
        assert record.outgoing is not None
        return self._out(record, *record.outgoing.chunk_ended(dirty))

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
                steps += self._out(record, *record.outgoing.ticked(now_s))
            elif record.incoming is not None:
                steps += self._in(record, *record.incoming.ticked(now_s))
        return tuple(steps)

    def _prune(self, command: Horizon) -> Steps:
        if not self._ended.prune(command.attempt, command.open_attempts):
            return ()  # an older one, come late
        steps: list[Action] = []
        for record in list(self._books.records.values()):
            if record.incoming is not None and self._ended.covers(record.session_id, record.incoming.attempt):
                steps += self._drop(record)
        return tuple(steps)

    def _prepare(self, command: Prepare, record: Record | None, now_s: float) -> Steps:
        session_id, attempt = session_of(command), AttemptId(command.attempt)
        steps: Steps = ()
        if record is not None and record.incoming is not None and record.incoming.attempt == attempt:
            return self._in(record, record.incoming, record.incoming.standing())
        if self._ended.covers(session_id, attempt):
            return _nack(command, f"attempt {attempt} is over")
        if record is not None and record.incoming is not None and record.incoming.attempt < attempt:
            if record.incoming.phase == "staged" and record.incoming.attempt > command.horizon:
                return _nack(command, f"attempt {record.incoming.attempt} is staged and may be committed")
            steps, record = self._drop(record), None
        if record is not None:
            return (*steps, *_nack(command, f"the session is {record.state} here"))
        if self._books.lanes >= self._lanes_max:
            return (*steps, *_nack(command, f"{self._lanes_max} transfers are in flight, and no more may be"))
        block = self._books.device.take(command.state_bytes, "reserved")
        if isinstance(block, NoRoom):
            return (*steps, *_nack(command, str(block)))
        end_s = now_s + command.deadline_s
        incoming = Incoming(session_id=session_id, attempt=attempt, block=block, active=command.active, end_s=end_s)
        self._books.write(
            Record(
                session_id=session_id,
                state="incoming",
                state_bytes=command.state_bytes,
                ownership=0,
                active=command.active,
                device=block,
                incoming=incoming,
            )
        )
        self._books.open_lane(attempt, block)
        lane = OpenReceiving(attempt=attempt, session_id=session_id, block=block, route=command.route, end_s=end_s)
        return (*steps, lane)

    def _start(self, command: Start, record: Record | None, now_s: float) -> Steps:
        session_id, attempt = session_of(command), AttemptId(command.attempt)
        if record is not None and record.outgoing is not None and record.outgoing.attempt == attempt:
            return self._out(record, record.outgoing, record.outgoing.standing())
        if self._ended.covers(session_id, attempt):
            return _cannot(command, "source", f"attempt {attempt} is over")
        if record is None or record.state not in ("active", "idle"):
            return _cannot(command, "source", f"the session is {'not' if record is None else record.state} here")
        if self._books.lanes >= self._lanes_max:
            return _cannot(command, "source", f"{self._lanes_max} transfers are in flight, and no more may be")
        assert record.device is not None
        end_s = now_s + command.deadline_s
        outgoing = Outgoing(
            session_id=session_id,
            attempt=attempt,
            block_bytes=record.device.size_bytes,
            rule=self._rule,
            end_s=end_s,
            computing=self._books.is_computing(session_id),
        )
        self._books.open_lane(attempt, record.device)
        lane = OpenSending(
            attempt=attempt, session_id=session_id, block=record.device, route=command.route, end_s=end_s
        )
        return (lane, *self._out(record, *outgoing.begin(precopy=command.precopy)))

    def _activate(self, command: Activate, record: Record | None) -> Steps:
        incoming = record.incoming if record is not None else None
        if record is not None and incoming is not None and incoming.attempt == command.attempt:
            if incoming.phase != "staged":
                return _cannot(command, "target", f"the state is not staged: {incoming.phase}")
            self._ended.add(record.session_id, command.attempt)
            self._books.device.settle(incoming.block)
            self._books.rest(
                replace(record, ownership=command.ownership, came_by=incoming.attempt, active=incoming.active)
            )
            adopt = Adopt(session_id=record.session_id, block=incoming.block, head=incoming.head)
            _, stop = incoming.over()
            return (*_told(stop), adopt, *_activated(command))
        if record is not None and record.came_by == command.attempt and record.ownership == command.ownership:
            return _activated(command)
        return _cannot(command, "target", "nothing is staged")

    def _release(self, command: Release, record: Record | None) -> Steps:
        """Whoever is told to release has been left by its session: the target serves."""
        told = Say(report=Released(session_id=command.session_id, attempt=command.attempt))
        if record is None or record.outgoing is None or record.outgoing.attempt != command.attempt:
            return (told,)
        if not record.outgoing.frozen:
            return _cannot(command, "source", f"released while {record.outgoing.phase}")
        _, stop = record.outgoing.over()
        self._ended.add(record.session_id, command.attempt)
        self._books.remove(record)
        return (*_told(stop), Forget(session_id=record.session_id), told)

    def _abort(self, command: Abort, record: Record | None) -> Steps:
        self._ended.add(session_of(command), command.attempt)
        told = Say(report=Aborted(session_id=command.session_id, attempt=command.attempt))
        if record is None or _attempt_of(record) != command.attempt:
            return (told,)
        if record.incoming is not None:
            return (*self._drop(record), told)
        assert record.outgoing is not None
        _, stop = record.outgoing.over()
        if record.state == "lost":
            self._books.write(replace(record, outgoing=None))
            return (*_told(stop), told)
        return (*_told(stop), self._books.rest(record).said, told)

    def _reactivate(self, command: Reactivate, record: Record | None) -> Steps:
        told = Reactivated(session_id=command.session_id, attempt=command.attempt, ownership=command.ownership)
        if record is None:
            return _cannot(command, "source", "the session is not here")
        outgoing = record.outgoing
        if outgoing is None or outgoing.attempt != command.attempt or command.ownership <= record.ownership:
            again = record.ownership == command.ownership and record.outgoing is None
            return (Say(report=told),) if again else _cannot(command, "source", f"the session is {record.state}")
        if record.state != "frozen":
            return _cannot(command, "source", f"the session is {record.state}")
        _, stop = outgoing.over()
        self._ended.add(record.session_id, command.attempt)
        resting = self._books.rest(replace(record, ownership=command.ownership))
        return (*_told(stop), resting.said, Say(report=told))

    def _fail(self, record: Record, reason: str) -> Steps:
        if record.outgoing is not None:
            return self._out(record, *record.outgoing.failed(reason))
        assert record.incoming is not None
        return self._in(record, *record.incoming.failed(reason))

    def _out(self, record: Record, outgoing: Outgoing, steps: OutgoingSteps) -> Steps:
        """Where the source stands now. An attempt that failed before the freeze is over, and nothing has happened."""
        if outgoing.phase == "over":
            self._ended.add(record.session_id, outgoing.attempt)
            self._books.rest(record)
        else:
            state: State = "frozen" if outgoing.frozen else "precopy"
            self._books.write(replace(record, state="lost" if record.state == "lost" else state, outgoing=outgoing))
        return _told(steps)

    def _in(self, record: Record, incoming: Incoming, steps: OutgoingSteps) -> Steps:
        """Where the target stands now. An attempt that failed before it was staged gives its room back."""
        if incoming.phase == "over":
            self._ended.add(record.session_id, incoming.attempt)
            self._books.remove(record)
        else:
            state: State = "received" if incoming.phase == "staged" else "incoming"
            self._books.write(replace(record, state=state, incoming=incoming))
        return _told(steps)

    def _drop(self, record: Record) -> Steps:
        assert record.incoming is not None
        return self._in(record, *record.incoming.over())


def _attempt_of(record: Record) -> AttemptId | None:
    if record.outgoing is not None:
        return record.outgoing.attempt
    return record.incoming.attempt if record.incoming is not None else None


def _told(steps: OutgoingSteps) -> Steps:
    return tuple(Say(report=step.report) if isinstance(step, Tell) else step for step in steps)


def _say(report: MigrationReport) -> Steps:
    return (Say(report=report),)


def _nack(command: Prepare, reason: str) -> Steps:
    return _say(Nack(session_id=command.session_id, attempt=command.attempt, reason=reason))


def _activated(command: Activate) -> Steps:
    return _say(Activated(session_id=command.session_id, attempt=command.attempt, ownership=command.ownership))


def _cannot(command: Start | Activate | Release | Reactivate, side: Side, reason: str) -> Steps:
    failed = AttemptFailed(
        session_id=command.session_id, attempt=command.attempt, side=side, frozen=False, reason=reason
    )
    return _say(failed)
