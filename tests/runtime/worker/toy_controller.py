"""A controller that follows the protocol as simply as it can, in a world that treats its messages badly.

Messages lie in lists until somebody delivers, doubles or drops them, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.state.ranges import GRANULE_BYTES, Ranges
from runtime.transfer import messages as m
from runtime.transfer.attempt import (
    Arrived,
    OpenReceiving,
    OpenSending,
    RoundSent,
)
from runtime.transfer.messages import AttemptId, Route
from runtime.worker.messages import Command, Desired, Lost, Open, Report
from scheduler.cluster import SessionId
from tests.runtime.worker.toy_worker import ToyWorker, Truth, World

DEADLINE_S = 20.0


@dataclass
class Attempt:
    """The controller's view of one migration; `committed` and `aborted` are in the journal."""

    attempt: int
    session_id: SessionId
    source: str
    target: str
    ready: bool = False
    sent: int | None = None
    staged: int | None = None
    committed: bool = False
    aborted: bool = False
    activated: bool = False
    done: set[str] = field(default_factory=set)  # sides that have confirmed the end


class ToyFleet(World):
    """Three workers and one controller."""

    def __init__(self, names: str = "abc") -> None:
        super().__init__()
        self.workers = {name: ToyWorker(self, name, 1) for name in names}
        self.to_worker: list[tuple[str, Command]] = []
        self.owner: dict[SessionId, tuple[str, int]] = {}  # the journal: worker and ownership epoch
        self.attempts: dict[int, Attempt] = {}
        self.reached: set[str] = set()
        self._attempt, self._version = 0, 0

    def send(self, name: str, body: Desired | m.Migrating) -> None:
        self._version += 1
        command = Command(
            controller_epoch=1, incarnation=self.workers[name].incarnation, version=self._version, body=body
        )
        self.to_worker.append((name, command))

    def open(self, name: str, granules: int) -> None:
        session_id = SessionId(f"s{len(self.truth)}")
        self.truth[session_id] = Truth(granules, bytearray(granules))
        self.owner[session_id] = (name, 1)
        self.send(name, Open(session_id=session_id, state_bytes=granules * GRANULE_BYTES, ownership=1))

    def migrate(self, session_id: SessionId, target: str) -> None:
        source = self.owner[session_id][0]
        if source == target or self.open_attempt(session_id) is not None:
            return
        self._attempt += 1
        self.attempts[self._attempt] = Attempt(self._attempt, session_id, source, target)

    def open_attempt(self, session_id: SessionId) -> Attempt | None:
        return next((a for a in self.attempts.values() if a.session_id == session_id), None)

    def abort(self, attempt: Attempt) -> None:
        if not attempt.committed:
            attempt.aborted = True

    def nudge(self) -> None:
        """Say again whatever has not been confirmed."""
        for a in list(self.attempts.values()):
            self._nudge(a)
        if self.attempts:
            named = tuple(self.attempts)
            for name in self.workers:
                self.send(name, m.Horizon(attempt=self._attempt, open_attempts=named))

    def _nudge(self, a: Attempt) -> None:
        if a.aborted or (a.committed and a.activated):
            for side, name in (("source", a.source), ("target", a.target)):
                if side not in a.done and a.aborted:
                    self.send(name, m.Abort(session_id=a.session_id, attempt=a.attempt))
                elif side not in a.done and side == "source":
                    self.send(name, m.Release(session_id=a.session_id, attempt=a.attempt))
            if a.done >= ({"source", "target"} if a.aborted else {"source"}):
                del self.attempts[a.attempt]
        elif a.committed:
            ownership = self.owner[a.session_id][1]
            if self.owner[a.session_id][0] == a.source:
                self.send(a.source, m.Reactivate(session_id=a.session_id, attempt=a.attempt, ownership=ownership))
            else:
                self.send(a.target, m.Activate(session_id=a.session_id, attempt=a.attempt, ownership=ownership))
        else:
            self._say_again_before_the_commit(a)

    def _say_again_before_the_commit(self, a: Attempt) -> None:
        """To both sides, whatever one of them has said: what the other has said may be lost."""
        prepare = m.Prepare(
            session_id=a.session_id,
            attempt=a.attempt,
            state_bytes=self.truth[a.session_id].granules * GRANULE_BYTES,
            route=Route(way="tcp", peer=a.source, incarnation=a.attempt),
            active=True,
            deadline_s=DEADLINE_S,
            horizon=a.attempt - 1 if len(self.attempts) == 1 else 0,
        )
        self.send(a.target, prepare)
        if a.ready:
            route = Route(way="tcp", peer=a.target, incarnation=a.attempt)
            start = m.Start(session_id=a.session_id, attempt=a.attempt, route=route, deadline_s=DEADLINE_S)
            self.send(a.source, start)

    def controller_hears(self, name: str, incarnation: int, report: Report) -> None:
        """The journal decides: commit when both checksums are there and equal, abort on a failure before that."""
        if self.workers[name].incarnation != incarnation:
            return
        if isinstance(report, Lost) and self.owner.get(SessionId(report.session_id), ("", 0))[0] == name:
            self._forget(SessionId(report.session_id))
        a = self.attempts.get(getattr(report, "attempt", 0))
        if a is None:
            return
        match report:
            case m.Ready():
                a.ready = True
            case m.Sent():
                a.sent = report.digest
            case m.Staged():
                a.staged = report.digest
            case m.AttemptFailed() if a.committed and self.owner.get(a.session_id, ("", 0))[0] == a.source == name:
                self._forget(a.session_id)  # it was to be reactivated, and is lost there
            case m.Nack() | m.AttemptFailed():
                self.abort(a)
            case m.Activated():
                a.activated = True
                self.reached.add("activated")
            case m.Aborted():
                a.done.add("source" if name == a.source else "target")
                self.reached.add("aborted")
            case m.Released():
                a.done.add("source")
                self.reached.add("released")
            case m.Reactivated():
                del self.attempts[a.attempt]
                self.reached.add("reactivated")
        if a.sent is not None and a.staged is not None and not a.aborted and not a.committed:
            assert a.sent == a.staged
            a.committed = True
            self.owner[a.session_id] = (a.target, self.owner[a.session_id][1] + 1)

    def _forget(self, session_id: SessionId) -> None:
        """A session whose state is gone is not seen again; its attempt ends all the same."""
        del self.owner[session_id]
        self.reached.add("lost")
        a = self.open_attempt(session_id)
        if a is not None and a.committed:
            a.activated = True  # nobody else is to be activated: what is left is to release the source
        elif a is not None:
            a.aborted = True

    def kill(self, name: str) -> None:
        """The worker's memory is gone, and the controller knows at once."""
        self.workers[name] = ToyWorker(self, name, self.workers[name].incarnation + 1)
        for a in self.attempts.values():
            frozen = a.committed and not a.activated and "source" not in a.done
            if frozen and self.owner[a.session_id][0] == a.target == name:
                self.owner[a.session_id] = (a.source, self.owner[a.session_id][1] + 1)
            elif name in (a.source, a.target):
                self.abort(a)
                a.done.add("source" if name == a.source else "target")
        for session_id, (owner, _) in list(self.owner.items()):
            if owner == name:
                self._forget(session_id)

    def lane_step(self, attempt: AttemptId, *, flip: bool = False) -> None:
        """One round goes from lane to lane."""
        sides = [w.lanes[attempt] for w in self.workers.values() if attempt in w.lanes]
        sending = next((lane for lane in sides if isinstance(lane.opened, OpenSending)), None)
        receiving = next((lane for lane in sides if isinstance(lane.opened, OpenReceiving)), None)
        if sending is None or receiving is None or not sending.rounds:
            return
        sent = sending.rounds.popleft()
        session_id = sending.opened.session_id
        for at in _granules(sent.ranges):
            source = sending.opened.block.start // GRANULE_BYTES + at
            target = receiving.opened.block.start // GRANULE_BYTES + at
            receiving.worker.memory["device"][target] = sending.worker.memory["device"][source]
        block = sending.opened.block
        first, last = block.start // GRANULE_BYTES, block.end // GRANULE_BYTES
        digest = hash(bytes(sending.worker.memory["device"][first:last])) % 2**64 if sent.last else None
        sending.worker.events.append(RoundSent(attempt=attempt, number=sent.number, digest=digest))
        if not sent.last:
            return
        assert digest is not None
        sending.worker.end_lane(attempt)
        if flip:
            receiving.worker.end_lane(attempt, "checksum")
        else:
            head = sending.worker.chunks[session_id].to_bytes(8)
            receiving.worker.events.append(Arrived(attempt=attempt, digest=digest, head=head))
            receiving.worker.end_lane(attempt)


def _granules(ranges: Ranges) -> list[int]:
    return [at // GRANULE_BYTES for start, end in ranges for at in range(start, end, GRANULE_BYTES)]
