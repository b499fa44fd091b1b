"""Sessions that come to a worker: the target's side of migrations.

Decides which attempt is listened to, and when its room is given back; must never activate what the controller has not
committed.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.state.blocks import NoRoom
from runtime.transfer.attempt import OpenReceiving
from runtime.transfer.incoming import Incoming
from runtime.transfer.incoming import Steps as IncomingSteps
from runtime.transfer.messages import Activate, Activated, AttemptId, Horizon, Nack, Prepare, session_of
from runtime.worker.answers import Steps, cannot, say, told
from runtime.worker.books import Books, Record, State
from runtime.worker.ended_attempts import EndedAttempts
from runtime.worker.events import Action, Adopt


class Arrivals:
    """Attempts of one worker as target."""

    def __init__(self, books: Books, ended: EndedAttempts, lanes_max: int) -> None:
        self._books, self._ended, self._lanes_max = books, ended, lanes_max

    def prune(self, command: Horizon) -> Steps:
        if not self._ended.prune(command.attempt, command.open_attempts):
            return ()  # an older one, come late
        steps: list[Action] = []
        for record in list(self._books.records.values()):
            if record.incoming is not None and self._ended.covers(record.session_id, record.incoming.attempt):
                steps += self.drop(record)
        return tuple(steps)

    def prepare(self, command: Prepare, record: Record | None, now_s: float) -> Steps:
        session_id, attempt = session_of(command), AttemptId(command.attempt)
        steps: Steps = ()
        if record is not None and record.incoming is not None and record.incoming.attempt == attempt:
            return self.settle(record, record.incoming, record.incoming.standing())
        if self._ended.covers(session_id, attempt):
            return _nack(command, f"attempt {attempt} is over")
        if record is not None and record.incoming is not None and record.incoming.attempt < attempt:
            if record.incoming.phase == "staged" and record.incoming.attempt > command.horizon:
                return _nack(command, f"attempt {record.incoming.attempt} is staged and may be committed")
            steps, record = self.drop(record), None
        if record is not None:
            return (*steps, *_nack(command, f"the session is {record.state} here"))
        if self._books.lanes >= self._lanes_max:
            return (*steps, *_nack(command, f"{self._lanes_max} transfers are in flight, and no more may be"))
        return (*steps, *self._reserve(command, now_s))

    def activate(self, command: Activate, record: Record | None) -> Steps:
        incoming = record.incoming if record is not None else None
        if record is not None and incoming is not None and incoming.attempt == command.attempt:
            if incoming.phase != "staged":
                return cannot(command, "target", f"the state is not staged: {incoming.phase}")
            self._ended.add(record.session_id, command.attempt)
            self._books.device.settle(incoming.block)
            self._books.rest(
                replace(record, ownership=command.ownership, came_by=incoming.attempt, active=incoming.active)
            )
            adopt = Adopt(session_id=record.session_id, block=incoming.block, head=incoming.head)
            _, stop = incoming.over()
            return (*told(stop), adopt, *_activated(command))
        if record is not None and record.came_by == command.attempt and record.ownership == command.ownership:
            return _activated(command)
        return cannot(command, "target", "nothing is staged")

    def settle(self, record: Record, incoming: Incoming, steps: IncomingSteps) -> Steps:
        """Where the target stands now. An attempt that failed before it was staged gives its room back."""
        if incoming.phase == "over":
            self._ended.add(record.session_id, incoming.attempt)
            self._books.remove(record)
        else:
            state: State = "received" if incoming.phase == "staged" else "incoming"
            self._books.write(replace(record, state=state, incoming=incoming))
        return told(steps)

    def drop(self, record: Record) -> Steps:
        assert record.incoming is not None
        return self.settle(record, *record.incoming.over())

    def _reserve(self, command: Prepare, now_s: float) -> Steps:
        session_id, attempt = session_of(command), AttemptId(command.attempt)
        block = self._books.device.take(command.state_bytes, "reserved")
        if isinstance(block, NoRoom):
            return _nack(command, str(block))
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
        return (OpenReceiving(attempt=attempt, session_id=session_id, block=block, route=command.route, end_s=end_s),)


def _nack(command: Prepare, reason: str) -> Steps:
    return say(Nack(session_id=command.session_id, attempt=command.attempt, reason=reason))


def _activated(command: Activate) -> Steps:
    return say(Activated(session_id=command.session_id, attempt=command.attempt, ownership=command.ownership))
