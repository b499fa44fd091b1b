"""Sessions that leave a worker: the source's side of migrations.

Decides what becomes of session and memory at the source; must never know whether the target serves: what the controller
says about commit and abort is taken as it is.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.transfer.attempt import OpenSending
from runtime.transfer.messages import AttemptId, Reactivate, Reactivated, Release, Released, Start, session_of
from runtime.transfer.outgoing import Outgoing, PrecopyRule
from runtime.transfer.outgoing import Steps as OutgoingSteps
from runtime.worker.answers import Steps, cannot, say, told
from runtime.worker.books import Books, Record, State
from runtime.worker.ended_attempts import EndedAttempts
from runtime.worker.events import Forget


class Departures:
    """Attempts of one worker as source."""

    def __init__(self, books: Books, ended: EndedAttempts, rule: PrecopyRule, lanes_max: int) -> None:
        self._books, self._ended, self._rule, self._lanes_max = books, ended, rule, lanes_max

    def start(self, command: Start, record: Record | None, now_s: float) -> Steps:
        session_id, attempt = session_of(command), AttemptId(command.attempt)
        if record is not None and record.outgoing is not None and record.outgoing.attempt == attempt:
            return self.settle(record, record.outgoing, record.outgoing.standing())
        if self._ended.covers(session_id, attempt):
            return cannot(command, "source", f"attempt {attempt} is over")
        if record is None or record.state not in ("active", "idle"):
            return cannot(command, "source", f"the session is {'not' if record is None else record.state} here")
        if self._books.lanes >= self._lanes_max:
            return cannot(command, "source", f"{self._lanes_max} transfers are in flight, and no more may be")
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
        return (lane, *self.settle(record, *outgoing.begin(precopy=command.precopy)))

    def release(self, command: Release, record: Record | None) -> Steps:
        """Whoever is told to release has been left by its session: the target serves."""
        released = say(Released(session_id=command.session_id, attempt=command.attempt))
        if record is None or record.outgoing is None or record.outgoing.attempt != command.attempt:
            return released
        if not record.outgoing.frozen:
            return cannot(command, "source", f"released while {record.outgoing.phase}")
        _, stop = record.outgoing.over()
        self._ended.add(record.session_id, command.attempt)
        self._books.remove(record)
        return (*told(stop), Forget(session_id=record.session_id), *released)

    def abort(self, record: Record) -> Steps:
        """The source serves on in the same ownership epoch, unless its state is lost."""
        assert record.outgoing is not None
        _, stop = record.outgoing.over()
        if record.state == "lost":
            self._books.write(replace(record, outgoing=None))
            return told(stop)
        return (*told(stop), self._books.rest(record).said)

    def reactivate(self, command: Reactivate, record: Record | None) -> Steps:
        reactivated = Reactivated(session_id=command.session_id, attempt=command.attempt, ownership=command.ownership)
        if record is None:
            return cannot(command, "source", "the session is not here")
        outgoing = record.outgoing
        if outgoing is None or outgoing.attempt != command.attempt or command.ownership <= record.ownership:
            again = record.ownership == command.ownership and record.outgoing is None
            return say(reactivated) if again else cannot(command, "source", f"the session is {record.state}")
        if record.state != "frozen":
            return cannot(command, "source", f"the session is {record.state}")
        _, stop = outgoing.over()
        self._ended.add(record.session_id, command.attempt)
        resting = self._books.rest(replace(record, ownership=command.ownership))
        return (*told(stop), resting.said, *say(reactivated))

    def settle(self, record: Record, outgoing: Outgoing, steps: OutgoingSteps) -> Steps:
        """Where the source stands now. An attempt that failed before the freeze is over, and nothing has happened."""
        if outgoing.phase == "over":
            self._ended.add(record.session_id, outgoing.attempt)
            self._books.rest(record)
        else:
            state: State = "frozen" if outgoing.frozen else "precopy"
            self._books.write(replace(record, state="lost" if record.state == "lost" else state, outgoing=outgoing))
        return told(steps)
