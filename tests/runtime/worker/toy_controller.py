"""Workers whose hand-overs are decided as in a real fleet, in a world that treats messages badly.

Messages lie in lists until somebody delivers, doubles or drops them, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from runtime.controller.handover import ATTEMPT_S, SAY_AGAIN_S, Progress
from runtime.controller.handovers import Handovers
from runtime.controller.step import Step
from runtime.journal.records import Began, Created, Joined, Left, Placed, Record
from runtime.journal.rules import after
from runtime.journal.truth import Truth
from runtime.state.ranges import GRANULE_BYTES, Ranges
from runtime.transfer import messages as m
from runtime.transfer.attempt import (
    Arrived,
    OpenReceiving,
    OpenSending,
    RoundSent,
)
from runtime.transfer.messages import AttemptId
from runtime.worker.messages import Command, Desired, Frozen, Lost, Open, Report
from runtime.worker.process.messages import AskInventory, Renew
from scheduler.cluster import SessionId
from tests.runtime.worker.toy_worker import ToyWorker, World
from tests.runtime.worker.toy_worker import Truth as Content

DEADLINE_S = ATTEMPT_S


class ToyFleet(World):
    """Three workers, and a controller whose journal is a value."""

    def __init__(self, names: str = "abc") -> None:
        super().__init__()
        self.workers = {name: ToyWorker(self, name, 1) for name in names}
        self.to_worker: list[tuple[str, Command]] = []
        self.journal = after(Truth(), [Joined(worker=name, incarnation=1) for name in names])
        self.handovers = Handovers(1)
        self.reached: set[str] = set()
        self._version = 0

    @property
    def owner(self) -> dict[SessionId, tuple[str, int]]:
        """Worker and ownership epoch."""
        sessions = self.journal.sessions.items()
        return {SessionId(name): (s.worker, s.ownership) for name, s in sessions if s.worker is not None}

    def send(self, name: str, body: Desired | m.Migrating) -> None:
        self.to_worker.append((name, self._command(name, body)))

    def _command(self, name: str, body: Desired | m.Migrating) -> Command:
        self._version += 1
        return Command(
            controller_epoch=self.journal.controller_epoch,
            incarnation=self.workers[name].incarnation,
            version=self._version,
            body=body,
        )

    def _carry_out(self, outcome: Step, *before: Record) -> None:
        """What is decided is written first, and it never contradicts what was written."""
        self.journal = after(self.journal, [*before, *outcome.records])
        self.reached.update(type(record).__name__ for record in (*before, *outcome.records))
        for word in outcome.words:
            assert not isinstance(word.body, Renew | AskInventory), "hand-overs are not about leases"
            self.send(word.worker, word.body)

    def open(self, name: str, granules: int) -> None:
        session_id = SessionId(f"s{len(self.truth)}")
        self.truth[session_id] = Content(granules, bytearray(granules))
        created = Created(session_id=session_id, profile="toy", seed=0, prompt="", token_sha256=bytes(32))
        self._carry_out(Step(), created, Placed(session_id=session_id, worker=name))
        self.send(name, Open(session_id=session_id, state_bytes=granules * GRANULE_BYTES, ownership=1))

    def migrate(self, session_id: SessionId, target: str) -> None:
        busy = any(progress.session_id == session_id for progress in self.attempts)
        if self.owner[session_id][0] == target or busy:
            return
        state_bytes = self.truth[session_id].granules * GRANULE_BYTES
        begun = self.handovers.begin(
            self.journal, session_id, target, state_bytes=state_bytes, active=True, way="gloo", now_s=self.now_s
        )
        self._carry_out(begun)

    @property
    def attempts(self) -> tuple[Progress, ...]:
        return self.handovers.under_way

    def abort(self, attempt: int) -> None:
        self._carry_out(self.handovers.abort(attempt, self.now_s))

    def nudge(self) -> None:
        """Some time goes by, and what was not confirmed is said again."""
        self.now_s += SAY_AGAIN_S
        self._carry_out(self.handovers.ticked(self.now_s))
        for name in self.workers:
            self.send(name, self.handovers.horizon(self.journal))

    def restart(self) -> None:
        """Another controller goes on from the journal and from what workers say when it greets them."""
        epoch = self.journal.controller_epoch + 1
        self.journal = after(self.journal, [Began(controller_epoch=epoch)])
        self._version = 0
        self.handovers, resumed = Handovers.resumed(self.journal, self.now_s)
        greeting = self.handovers.horizon(self.journal)
        for worker in self.workers.values():
            worker.told(self._command(worker.name, greeting))
            for part in worker.parts():
                self._carry_out(self.handovers.found(self.journal, worker.name, part, self.now_s))
        self._carry_out(resumed)
        self.reached.add("restart")

    def controller_hears(self, name: str, incarnation: int, report: Report) -> None:
        """Of workers that are there."""
        if self.workers[name].incarnation != incarnation:
            return
        if isinstance(report, Lost):
            self._carry_out(self.handovers.lost(self.journal, name, report.session_id, self.now_s))
        elif isinstance(report, get_args(m.MigrationReport)):
            self.reached.add(type(report).__name__)
            if isinstance(report, m.Sent):  # nothing is delivered here, so that nothing is missing
                frozen = Frozen(session_id=report.session_id, attempt=report.attempt, chunk_number=0)
                self._carry_out(self.handovers.hear(self.journal, name, frozen, self.now_s))
            self._carry_out(self.handovers.hear(self.journal, name, report, self.now_s))

    def kill(self, name: str) -> None:
        """The worker's memory is gone, and the controller knows at once."""
        left = Left(worker=name, incarnation=self.workers[name].incarnation, reason="killed")
        gone = after(self.journal, [left])
        self._carry_out(self.handovers.left(gone, name, self.now_s), left)
        self.workers[name] = ToyWorker(self, name, self.workers[name].incarnation + 1)
        self._carry_out(Step(), Joined(worker=name, incarnation=self.workers[name].incarnation))

    def lane_step(self, attempt: AttemptId, *, flip: bool = False) -> None:
        """One round goes from lane to lane."""
        move_round(self.workers.values(), attempt, flip=flip)


def move_round(workers: Iterable[ToyWorker], attempt: AttemptId, *, flip: bool = False) -> None:
    """One round goes from lane to lane; `flip`: and arrives with a wrong checksum, if it is the last."""
    sides = [worker.lanes[attempt] for worker in workers if attempt in worker.lanes]
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
