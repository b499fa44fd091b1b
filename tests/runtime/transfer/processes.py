"""Real worker processes, and a controller in the test that migrates sessions between them.

Decides how processes are started, hurt and listened to; must never look into their memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from runtime.state.checksum import digest
from runtime.transfer import messages as m
from runtime.transfer.messages import AttemptId, Route, Way
from runtime.transfer.outgoing import PrecopyRule
from runtime.worker.messages import Command, Desired, Open, Report
from scheduler.cluster import SessionId
from tests.runtime.transfer.small_worker import (
    Answer,
    Ask,
    ChunkMade,
    Fault,
    Told,
    WorkerConfig,
    run_store,
    run_worker,
    seed_of,
)
from tests.runtime.transfer.toy_model import state_after

PATIENCE_S = 30.0
_CONTEXT = get_context("forkserver")  # torch is imported once, before anything has threads
_CONTEXT.set_forkserver_preload(["torch", "torch.distributed", "tests.runtime.transfer.preloaded"])


Kinds = type[Any] | tuple[type[Any], ...]


class Process:
    """A child process and the pipe to it."""

    def __init__(self, main: Callable[..., None], *arguments: object) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=main, args=(*arguments, theirs), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def join(self) -> None:
        self._process.join(PATIENCE_S)

    def end(self) -> None:
        self.signal(signal.SIGKILL)
        self.join()
        self.pipe.close()


class Store(Process):
    """Where pairs meet."""

    def __init__(self) -> None:
        super().__init__(run_store)
        assert self.pipe.poll(PATIENCE_S)
        self.port: int = self.pipe.recv()


class Worker(Process):
    """One incarnation of a worker. Chunks are checked as their sink would check them."""

    def __init__(self, fleet: Fleet, name: str, incarnation: int, device_bytes: int) -> None:
        self.fleet, self.name, self.incarnation = fleet, name, incarnation
        self.reports: list[Report] = []
        self.answers: list[Answer] = []
        config = WorkerConfig(
            name=name,
            incarnation=incarnation,
            device_bytes=device_bytes,
            store_port=fleet.store.port,
            chunk_s=fleet.chunk_s,
            rule=fleet.rule,
        )
        super().__init__(run_worker, config)

    def tell(self, told: Told) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(told)

    def command(self, body: Desired | m.Migrating) -> None:
        self.fleet.version += 1
        self.tell(Command(controller_epoch=1, incarnation=self.incarnation, version=self.fleet.version, body=body))

    def listen(self) -> None:
        """Take in all that it has told so far."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            while self.pipe.poll(0):
                told = self.pipe.recv()
                match told:
                    case Answer():
                        self.answers.append(told)
                    case ChunkMade():
                        self.fleet.sink(self, told)
                    case _:
                        self.reports.append(told)

    def wait(
        self, kinds: type[Any] | tuple[type[Any], ...], attempt: int | None = None, seconds: float = PATIENCE_S
    ) -> Any:
        """The first report of these kinds (and attempt), which is taken out; None if it dies or does not come."""
        end_s = time.monotonic() + seconds
        while True:
            lives = self.lives
            self.fleet.listen()
            for report in self.reports:
                if isinstance(report, kinds) and attempt in (None, getattr(report, "attempt", None)):
                    self.reports.remove(report)
                    return report
            if not lives or time.monotonic() >= end_s:
                return None
            time.sleep(0.001)

    def ask(self, session_id: SessionId | None = None) -> Answer:
        self.tell(Ask(what="state" if session_id else "room", session_id=session_id))
        end_s = time.monotonic() + PATIENCE_S
        while not self.answers:
            assert time.monotonic() < end_s, f"{self.name} does not answer"
            self.fleet.listen()
            time.sleep(0.001)
        return self.answers.pop(0)

    def settled(self) -> Answer:
        """Its answer when no lane is open and nothing drains."""
        end_s = time.monotonic() + PATIENCE_S
        while True:
            answer = self.ask()
            if answer.lanes == 0 and answer.device.draining == 0:
                return answer
            assert time.monotonic() < end_s, f"{self.name} does not settle: {answer}"
            time.sleep(0.01)


@dataclass
class Outcome:
    """How a migration ended."""

    committed: bool
    reasons: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Fleet:
    """Workers, a store, the journal of who owns which session, and the sink of their chunks."""

    def __init__(self, *, chunk_s: float = 0.01, rule: PrecopyRule | None = None) -> None:
        self.chunk_s, self.rule = chunk_s, rule
        self.version = self.attempt = 0
        self.store = Store()
        self.workers: dict[str, Worker] = {}
        self.owner: dict[SessionId, tuple[str, int]] = {}
        self.chunks: dict[SessionId, int] = {}  # that have come
        self.late: int = 0  # chunks of somebody who does not own the session any more
        self._incarnation = 0

    def close(self) -> None:
        for process in [*self.workers.values(), self.store]:
            process.end()

    def start(self, name: str, device_bytes: int) -> Worker:
        """A worker, or a new incarnation of one that is gone."""
        self._incarnation += 1
        self.workers[name] = Worker(self, name, self._incarnation, device_bytes)
        return self.workers[name]

    def listen(self) -> None:
        for worker in self.workers.values():
            worker.listen()

    def sink(self, worker: Worker, chunk: ChunkMade) -> None:
        name, ownership = self.owner.get(chunk.session_id, ("", 0))
        if (worker.name, chunk.ownership) != (name, ownership):
            self.late += 1
            return
        expected = self.chunks.get(chunk.session_id, 0)
        assert chunk.number == expected, f"chunk {chunk.number} of {chunk.session_id} where {expected} belongs"
        self.chunks[chunk.session_id] = expected + 1

    def open(self, session_id: SessionId, worker: Worker, state_bytes: int) -> None:
        self.owner[session_id], self.chunks[session_id] = (worker.name, 1), 0
        worker.command(Open(session_id=session_id, state_bytes=state_bytes, ownership=1))
        self.wait_chunks(session_id, 1)

    def forget(self, session_id: SessionId) -> None:
        """Its state is gone with its owner."""
        assert not self.workers[self.owner[session_id][0]].lives
        del self.owner[session_id], self.chunks[session_id]

    def check(self, state_bytes: int) -> None:
        """Every session is served by its owner from the right state, and nobody else holds anything of it."""
        for worker in self.workers.values():
            owned = [session_id for session_id, (name, _) in self.owner.items() if name == worker.name]
            if not worker.lives:
                assert not owned, f"{owned} are lost, and the journal does not know it"
                continue
            for session_id in owned:
                self.wait_chunks(session_id, 2)
                answer = worker.ask(session_id)
                assert answer.digest == digest(state_after(state_bytes, seed_of(session_id), answer.chunks))
            answer = worker.settled()
            assert list(answer.states) == owned
            assert (answer.device.used, answer.device.reserved) == (len(owned) * state_bytes, 0)

    def wait_chunks(self, session_id: SessionId, more: int) -> None:
        """Until that many more have come: the session is served."""
        wanted, end_s = self.chunks[session_id] + more, time.monotonic() + PATIENCE_S
        while self.chunks[session_id] < wanted:
            assert time.monotonic() < end_s, f"{session_id} is not served"
            self.listen()
            time.sleep(0.001)

    def migrate(
        self,
        session_id: SessionId,
        target: Worker,
        way: Way,
        state_bytes: int,
        *,
        fault: Callable[[AttemptId], tuple[Worker, Fault]] | None = None,
        through: Callable[[str], str] = lambda address: address,
        deadline_s: float = 20.0,
    ) -> Outcome:
        """One attempt, with the commit in the middle, as the controller's rules say. `through` leads to a detour."""
        self.attempt += 1
        attempt, begun_s = self.attempt, time.monotonic()
        source = self.workers[self.owner[session_id][0]]
        if fault is not None:
            worker, told = fault(AttemptId(attempt))
            worker.tell(told)
        outcome = self._copy(session_id, source, target, way, state_bytes, through, deadline_s)
        if outcome.committed:
            self._finish(session_id, source, target, attempt)
        else:
            self._abort(session_id, source, target, attempt)
        outcome.seconds = time.monotonic() - begun_s
        return outcome

    def _finish(self, session_id: SessionId, source: Worker, target: Worker, attempt: int) -> None:
        """After the commit: the target serves, or it is dead and the source serves again in a new ownership epoch."""
        ownership = self.owner[session_id][1] + 1
        self.owner[session_id] = (target.name, ownership)
        target.command(m.Activate(session_id=session_id, attempt=attempt, ownership=ownership))
        if target.wait(m.Activated, attempt) is not None:
            source.command(m.Release(session_id=session_id, attempt=attempt))
            assert source.wait(m.Released, attempt) is not None or not source.lives
            return
        assert not target.lives
        self.owner[session_id] = (source.name, ownership + 1)
        source.command(m.Reactivate(session_id=session_id, attempt=attempt, ownership=ownership + 1))
        assert source.wait(m.Reactivated, attempt) is not None or not source.lives

    def _abort(self, session_id: SessionId, source: Worker, target: Worker, attempt: int) -> None:
        """Whoever is stopped goes on first: what it still does must not matter."""
        for side in (source, target):
            side.command(m.Abort(session_id=session_id, attempt=attempt))
            side.signal(signal.SIGCONT)
            assert side.wait(m.Aborted, attempt) is not None or not side.lives

    def _copy(
        self,
        session_id: SessionId,
        source: Worker,
        target: Worker,
        way: Way,
        state_bytes: int,
        through: Callable[[str], str],
        deadline_s: float,
    ) -> Outcome:
        attempt = self.attempt
        target.command(
            m.Prepare(
                session_id=session_id,
                attempt=attempt,
                state_bytes=state_bytes,
                route=Route(way=way, peer=source.name, incarnation=attempt),
                active=True,
                deadline_s=deadline_s,
                horizon=attempt - 1,
            )
        )
        ready = target.wait((m.Ready, m.Nack, m.AttemptFailed), attempt)
        if not isinstance(ready, m.Ready):
            return Outcome(committed=False, reasons=[getattr(ready, "reason", "the target is gone")])
        route = Route(
            way=way,
            peer=target.name,
            incarnation=attempt,
            address=through(ready.route.address),
            token=ready.route.token,
        )
        source.command(m.Start(session_id=session_id, attempt=attempt, route=route, deadline_s=deadline_s))
        return self._watch(source, target, attempt, deadline_s)

    def _watch(self, source: Worker, target: Worker, attempt: int, deadline_s: float) -> Outcome:
        """Commit if both sides say the same in time; otherwise tell why not."""
        end_s = time.monotonic() + deadline_s
        sent: m.Sent | None = None
        staged: m.Staged | None = None
        while sent is None or staged is None:
            failed = [side.wait(m.AttemptFailed, attempt, 0) for side in (source, target)]
            reasons = [f"{report.side}: {report.reason}" for report in failed if report is not None]
            reasons += [f"{side.name} is gone" for side in (source, target) if not side.lives]
            if not reasons and time.monotonic() >= end_s:
                reasons = ["the controller has waited long enough"]
            if reasons:
                return Outcome(committed=False, reasons=reasons)
            sent = sent or source.wait(m.Sent, attempt, 0.001)
            staged = staged or target.wait(m.Staged, attempt, 0)
        assert sent.digest == staged.digest
        return Outcome(committed=True)


@contextlib.contextmanager
def a_fleet(**settings: Any) -> Iterator[Fleet]:
    fleet = Fleet(**settings)
    try:
        yield fleet
    finally:
        fleet.close()
