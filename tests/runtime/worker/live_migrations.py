"""Migrations between real worker processes, as the controller's rules say, and what may be lost when somebody dies.

Decides commit and abort; must never know how a state is copied.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from runtime.transfer import messages as m
from runtime.transfer.messages import AttemptId, Route, Way
from runtime.worker.messages import Frozen
from scheduler.cluster import SessionId
from tests.runtime.transfer.small_worker import Fault
from tests.runtime.worker.live import PATIENCE_S, LiveFleet, LiveWorker
from tests.runtime.worker.live_sessions import state_bytes

REPEAT_S = 1.0  # between two tellings of what has not been answered
DEADLINE_S = 20.0

Said = TypeVar("Said")
Struck = tuple[LiveWorker, Fault]


@dataclass
class Outcome:
    """How a migration ended."""

    committed: bool
    reasons: list[str] = field(default_factory=list)


@dataclass
class Migrating:
    """One attempt, driven to its end."""

    fleet: LiveFleet
    session_id: SessionId
    source: LiveWorker
    target: LiveWorker
    way: Way
    attempt: int
    deadline_s: float
    reasons: list[str] = field(default_factory=list)

    def run(self) -> Outcome:
        committed = self._copied()
        if committed:
            self._finish()
        else:
            self._abort()
        if self.session_id in self.fleet.owner:
            self.fleet.serve(self.session_id)  # whoever serves may have missed changes and credit
        return Outcome(committed=committed, reasons=self.reasons)

    def _copied(self) -> bool:
        """Whether the whole state is staged, and all chunks before it have been delivered."""
        end_s, next_s = time.monotonic() + self.deadline_s, 0.0
        ready: m.Ready | None = None
        sent: m.Sent | None = None
        staged: m.Staged | None = None
        frozen: Frozen | None = None
        while True:
            self.fleet.listen(0.005)
            if ready is None and (ready := self._take(self.target, m.Ready)) is not None:
                next_s = 0.0
            sent, frozen = sent or self._take(self.source, m.Sent), frozen or self._take(self.source, Frozen)
            staged = staged or self._take(self.target, m.Staged)
            if sent is not None and staged is not None and frozen is not None:
                assert sent.digest == staged.digest
                if self.fleet.sink.taken[self.session_id] >= frozen.chunk_number:
                    return True
            if self._has_failed(time.monotonic() >= end_s):
                return False
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + REPEAT_S
                self._tell_again(ready)

    def _take(self, worker: LiveWorker, kind: type[Said]) -> Said | None:
        found: Said | None = worker.take(kind, attempt=self.attempt)
        return found

    def _has_failed(self, late: bool) -> bool:
        for side in (self.source, self.target):
            report = side.take((m.AttemptFailed, m.Nack), attempt=self.attempt)
            if report is not None:
                self.reasons.append(f"{side.name}: {report.reason}")
            if not side.lives:
                self.reasons.append(f"{side.name} is gone")
        if late and not self.reasons:
            self.reasons.append("the controller has waited long enough")
        return bool(self.reasons)

    def _tell_again(self, ready: m.Ready | None) -> None:
        peer = self.source.name
        route = Route(way=self.way, peer=peer, incarnation=self.attempt)
        script = self.fleet.sink.scripts[self.session_id]
        prepare = m.Prepare(
            session_id=self.session_id,
            attempt=self.attempt,
            state_bytes=state_bytes(self.fleet.model, script.profile),
            route=route,
            active=True,
            deadline_s=self.deadline_s,
            horizon=self.attempt - 1,
        )
        self.target.command(prepare)
        if ready is not None:
            there = Route(
                way=self.way,
                peer=self.target.name,
                incarnation=self.attempt,
                address=ready.route.address,
                token=ready.route.token,
            )
            self.source.command(
                m.Start(session_id=self.session_id, attempt=self.attempt, route=there, deadline_s=self.deadline_s)
            )

    def _finish(self) -> None:
        """After the commit: the target serves, or it is dead and the source serves again in a new ownership epoch."""
        session_id, attempt, fleet = self.session_id, self.attempt, self.fleet
        ownership = fleet.owner[session_id][1] + 1
        fleet.owner[session_id] = (self.target.name, ownership)
        activate = m.Activate(session_id=session_id, attempt=attempt, ownership=ownership)
        if self._insist(self.target, activate, m.Activated):
            self._insist(self.source, m.Release(session_id=session_id, attempt=attempt), m.Released)
            return
        fleet.owner[session_id] = (self.source.name, ownership + 1)
        again = m.Reactivate(session_id=session_id, attempt=attempt, ownership=ownership + 1)
        self._insist(self.source, again, m.Reactivated)

    def _abort(self) -> None:
        """Whoever is stopped goes on first: what it still does must not matter."""
        for side in (self.source, self.target):
            side.signal(signal.SIGCONT)
            self._insist(side, m.Abort(session_id=self.session_id, attempt=self.attempt), m.Aborted)

    def _insist(self, side: LiveWorker, told: m.Migrating, kind: type[object]) -> bool:
        """Repeat until it is confirmed; False if the worker has died."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            side.command(told)
            if side.wait(kind, REPEAT_S, attempt=self.attempt) is not None:
                return True
            if not side.lives:
                return False
        raise AssertionError(f"{side.name} lives and does not confirm {told}")


def migrate(
    fleet: LiveFleet,
    session_id: SessionId,
    target: LiveWorker,
    way: Way,
    *,
    fault: Callable[[AttemptId], Struck] | None = None,
    deadline_s: float = DEADLINE_S,
) -> Outcome:
    """One attempt."""
    fleet.attempt += 1
    if fault is not None:
        worker, told = fault(AttemptId(fleet.attempt))
        worker.pipe.send(told)
    source = fleet.workers[fleet.owner[session_id][0]]
    return Migrating(fleet, session_id, source, target, way, fleet.attempt, deadline_s).run()
