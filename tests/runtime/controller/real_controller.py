"""A controller of real worker processes whose hand-overs and journal are those of the product.

Decides when it listens and when it is killed; must never decide about a hand-over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from runtime.controller.handovers import Handovers, Part
from runtime.controller.step import Step
from runtime.journal.journal import Journal
from runtime.journal.records import Created, Joined, Left, Placed, Record
from runtime.journal.rules import after
from runtime.transfer.messages import Side, Way
from runtime.worker.messages import Closed, Lost, Moved, Refused, Undelivered
from runtime.worker.process.messages import AskInventory, Renew
from scheduler.cluster import SessionId
from tests.runtime.worker.live import LiveFleet
from tests.runtime.worker.live_sessions import Script, state_bytes

_NOT_OF_ATTEMPTS = (Moved, Refused, Closed, Undelivered)
_SOURCE_STATES = ("precopy", "frozen")


class RealController:
    """One controller after another over one journal."""

    def __init__(self, fleet: LiveFleet, path: Path) -> None:
        self.fleet, self._path = fleet, path
        self.journal = Journal.open(path)
        self.handovers = Handovers(self.journal.controller_epoch)
        fleet.controller_epoch = self.journal.controller_epoch
        self.written: list[Record] = []
        self.before_words: Callable[[list[Record]], None] = lambda _: None  # called when records are durable

    def join(self, name: str) -> None:
        worker = self.fleet.start(name)
        self.carry_out(Step(), Joined(worker=name, incarnation=worker.incarnation))

    def open(self, session_id: SessionId, name: str, script: Script) -> None:
        created = Created(
            session_id=session_id,
            profile=script.profile,
            seed=script.seed,
            prompt=script.prompt,
            token_sha256=bytes(32),
        )
        self.carry_out(Step(), created, Placed(session_id=session_id, worker=name))
        self.fleet.open(session_id, self.fleet.workers[name], script)

    def begin(self, session_id: SessionId, target: str, way: Way) -> None:
        needed = state_bytes(self.fleet.model, self.fleet.sink.scripts[session_id].profile)
        self.carry_out(
            self.handovers.begin(
                self.journal.truth,
                session_id,
                target,
                state_bytes=needed,
                active=True,
                way=way,
                now_s=time.monotonic(),
            )
        )

    def carry_out(self, outcome: Step, *before: Record) -> None:
        """Written first, said afterwards."""
        records = [*before, *outcome.records]
        if records:
            self.journal.append(records)
            self.written += records
            self.before_words(records)
        for session_id, session in self.journal.truth.sessions.items():
            if session.worker is None:
                self.fleet.owner.pop(SessionId(session_id), None)
            else:
                self.fleet.owner[SessionId(session_id)] = (session.worker, session.ownership)
        for word in outcome.words:
            assert not isinstance(word.body, Renew | AskInventory), "hand-overs are not about leases"
            self.fleet.workers[word.worker].command(word.body)

    def listen(self, seconds: float = 0.02) -> None:
        """Whatever has come, and what follows from it and from the time."""
        self.fleet.listen(seconds)
        now_s = time.monotonic()
        for name, worker in self.fleet.workers.items():
            if not worker.lives and name in self.journal.truth.workers:
                self._left(name, now_s)
            reports, worker.reports[:] = worker.reports[:], []
            for report in reports:
                if isinstance(report, Lost):
                    self.carry_out(self.handovers.lost(self.journal.truth, name, report.session_id, now_s))
                elif not isinstance(report, _NOT_OF_ATTEMPTS):
                    self.carry_out(self.handovers.hear(self.journal.truth, name, report, now_s))
        for session_id, taken in self.fleet.sink.taken.items():
            self.carry_out(self.handovers.chunks_taken(self.journal.truth, session_id, taken, now_s))
        self.carry_out(self.handovers.ticked(now_s))

    def run_until_quiet(self, seconds: float = 60.0) -> None:
        """Until no hand-over is under way; then whoever serves hears what it may have missed."""
        end_s = time.monotonic() + seconds
        while self.handovers.under_way:
            assert time.monotonic() < end_s, f"these do not end: {self.handovers.under_way}"
            self.listen()
        for session_id in self.fleet.owner:
            self.fleet.serve(session_id)

    def crash(self) -> None:
        """All that this controller knew is gone; what it had asked and heard is on its way still."""
        self.journal.close()
        self.journal = Journal.open(self._path)
        self.fleet.controller_epoch, self.fleet.version = self.journal.controller_epoch, 0
        self.handovers, outcome = Handovers.resumed(self.journal.truth, time.monotonic())
        for name in list(self.journal.truth.workers):
            worker = self.fleet.workers[name]
            if not worker.lives:
                continue
            for held in worker.ask().sessions:
                if held.attempt is not None:
                    side: Side = "source" if held.state in _SOURCE_STATES else "target"
                    part = Part(session_id=held.session_id, attempt=held.attempt, side=side, ownership=held.ownership)
                    self.carry_out(self.handovers.found(self.journal.truth, name, part, time.monotonic()))
        self.carry_out(outcome)

    def _left(self, name: str, now_s: float) -> None:
        left = Left(worker=name, incarnation=self.journal.truth.workers[name], reason="its process has ended")
        gone = after(self.journal.truth, [left])
        self.carry_out(self.handovers.left(gone, name, now_s), left)
