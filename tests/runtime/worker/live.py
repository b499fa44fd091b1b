"""Real worker processes, and a controller and gateway in the test that speak with them over real sockets.

Decides how processes are started and listened to, and what a journal would say; must never look into their memory.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from runtime.transfer.messages import Migrating
from runtime.worker.messages import Close, Closed, Command, Demand, Desired, Encoding, Open, Report, Steered
from runtime.worker.process.config import WorkerConfig
from runtime.worker.process.messages import (
    AskInventory,
    Credit,
    Goodbye,
    Heartbeat,
    Hello,
    Inventory,
    Renew,
    Said,
    Steer,
    ToWorker,
    delivered,
    encoded,
    from_worker,
)
from scheduler.cluster import SessionId
from tests.runtime.transfer.processes import Process, Store
from tests.runtime.worker.live_sessions import Script, Sink, state_bytes
from tests.runtime.worker.live_worker import run_live_worker

PATIENCE_S = 60.0
AHEAD = 2  # chunks that a client takes beyond those it has


class LiveWorker(Process):
    """One incarnation."""

    def __init__(self, fleet: LiveFleet, config: WorkerConfig, model: str) -> None:
        self.fleet, self.name, self.incarnation = fleet, config.name, config.incarnation
        self.hello: Hello | None = None
        self.heartbeat: Heartbeat | None = None
        self.inventory: Inventory | None = None
        self.goodbye: Goodbye | None = None
        self.reports: list[Report] = []
        super().__init__(run_live_worker, config, model)

    def send(self, message: ToWorker) -> None:
        self.send_raw(encoded(message))

    def send_raw(self, *frames: bytes) -> None:
        """What nobody is there to hear is lost, as over any network."""
        identity = f"{self.name}/{self.incarnation}".encode()
        with contextlib.suppress(zmq.ZMQError):
            self.fleet.router.send_multipart([identity, *frames], zmq.NOBLOCK)

    def command(self, body: Desired | Migrating) -> None:
        self.fleet.version += 1
        epoch = self.fleet.controller_epoch
        self.send(Command(controller_epoch=epoch, incarnation=self.incarnation, version=self.fleet.version, body=body))

    def take(self, kinds: type[Any] | tuple[type[Any], ...], **fields: object) -> Any:
        """The first report of that kind with these fields, which is taken out; None if there is none yet."""
        for report in self.reports:
            if isinstance(report, kinds) and all(getattr(report, name, None) == f for name, f in fields.items()):
                self.reports.remove(report)
                return report
        return None

    def wait(self, kinds: type[Any] | tuple[type[Any], ...], seconds: float = PATIENCE_S, **fields: object) -> Any:
        """The same, as soon as there is one; None if the worker dies or does not say it."""
        found: list[Any] = []

        def there() -> bool:
            report = self.take(kinds, **fields)
            if report is not None:
                found.append(report)
            return bool(found) or not self.lives

        self.fleet.until(there, seconds)
        self.fleet.listen(0)
        return found[0] if found else self.take(kinds, **fields)

    def ask(self) -> Inventory:
        self.fleet.question += 1
        question = self.fleet.question
        epoch = self.fleet.controller_epoch
        self.send(AskInventory(controller_epoch=epoch, incarnation=self.incarnation, question=question))
        assert self.fleet.until(lambda: self.inventory is not None and self.inventory.question == question)
        assert self.inventory is not None
        return self.inventory

    def settled(self) -> Inventory:
        """Its inventory when no transfer touches anything any more."""
        end_s = time.monotonic() + PATIENCE_S
        while (inventory := self.ask()).lanes or inventory.device.draining or inventory.host.draining:
            assert time.monotonic() < end_s, f"{self.name} does not settle: {inventory}"
        return inventory


class LiveFleet:
    """Workers, the store where their pairs meet, who owns which session, and the sink of all chunks."""

    def __init__(self, model: str = "tiny", *, pace_s: float = 0.05, **settings: Any) -> None:
        self.model, self.pace_s, self._settings = model, pace_s, settings
        self._context = zmq.Context()
        self.router, self.pull = self._context.socket(zmq.ROUTER), self._context.socket(zmq.PULL)
        self.router.set(zmq.ROUTER_MANDATORY, 1)
        self.router.set(zmq.ROUTER_HANDOVER, 1)
        self.router.set(zmq.MAXMSGSIZE, 1 << 20)
        self.pull.set(zmq.RCVHWM, 4)
        self.pull.set(zmq.MAXMSGSIZE, 1 << 24)
        ports = [made.bind_to_random_port("tcp://127.0.0.1") for made in (self.router, self.pull)]
        self._controller, self._gateway = (f"tcp://127.0.0.1:{port}" for port in ports)
        self._poller = zmq.Poller()
        self._poller.register(self.router, zmq.POLLIN)
        self._poller.register(self.pull, zmq.POLLIN)
        self.store = Store()
        self.workers: dict[str, LiveWorker] = {}
        self.owner: dict[SessionId, tuple[str, int]] = {}
        self.sink = Sink()
        self.credit: dict[SessionId, int | None] = {}  # chunks that a client takes in all; None: always some more
        self.confirmed: dict[SessionId, int] = {}  # the last change that is part of the session
        self.silent: set[str] = set()  # workers that the controller does not answer
        self.controller_epoch, self.version, self.attempt, self.question = 1, 0, 0, 0
        self._incarnation = 0
        self.reads_chunks = True  # whether the gateway does
        self._poor: set[SessionId] = set()  # who has taken chunks and got no new credit yet
        self._next_credit_s = 0.0

    def close(self) -> None:
        for process in [*self.workers.values(), self.store]:
            process.end()
        self._context.destroy(linger=0)

    def start(self, name: str, *, wait: bool = True, **changes: Any) -> LiveWorker:
        """A worker, or a new incarnation of one that is gone; `wait`: until it has been adopted."""
        self._incarnation += 1
        settings = {"device_bytes": 1 << 20, "host_bytes": 1 << 20, "heartbeat_s": 0.1} | self._settings | changes
        config = WorkerConfig(
            name=name,
            incarnation=self._incarnation,
            controller=self._controller,
            gateway=self._gateway,
            store=("127.0.0.1", self.store.port),
            **settings,
        )
        worker = self.workers[name] = LiveWorker(self, config, self.model)
        if wait:
            assert self.until(lambda: worker.heartbeat is not None and worker.heartbeat.leased), f"{name} is not up"
        return worker

    def until(self, there: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
        """Listen until that is so; False if it takes longer."""
        end_s = time.monotonic() + seconds
        while not there():
            if time.monotonic() >= end_s:
                return False
            self.listen(0.02)
        return True

    def listen(self, wait_s: float) -> None:
        """Take in all that has come so far."""
        ready = dict(self._poller.poll(int(wait_s * 1000)))
        while self.pull in ready and self.reads_chunks:
            try:
                frame = self.pull.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            chunk = delivered(frame)
            self.sink.take(chunk)
            self._poor.add(SessionId(chunk.session_id))
        while self.router in ready:
            try:
                _, frame = self.router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._heard(frame)
        if self._poor and time.monotonic() >= self._next_credit_s:
            self._next_credit_s = time.monotonic() + self.pace_s
            for session_id in self._poor:
                self.give_credit(session_id)
            self._poor.clear()

    def _heard(self, frame: bytes) -> None:
        message = from_worker(frame)
        named = message.hello if isinstance(message, Inventory) else message
        worker = self.workers.get(named.worker)
        if worker is None or worker.incarnation != named.incarnation:
            return
        match message:
            case Hello():
                worker.hello = message
                self._renew(worker, message.sent_s)
            case Heartbeat():
                worker.heartbeat = message
                self._renew(worker, message.sent_s)
            case Inventory():
                worker.inventory = message
            case Goodbye():
                worker.goodbye = message
            case Said(report=Steered() as report):
                session_id = SessionId(report.session_id)
                self.confirmed[session_id] = max(report.serial, self.confirmed.get(session_id, 0))
            case Said():
                worker.reports.append(message.report)

    def _renew(self, worker: LiveWorker, sent_s: float) -> None:
        if worker.name not in self.silent:
            epoch = self.controller_epoch
            worker.send(Renew(controller_epoch=epoch, incarnation=worker.incarnation, sent_s=sent_s))

    def open(
        self,
        session_id: SessionId,
        worker: LiveWorker,
        script: Script,
        *,
        lineage: int = 0,
        encoding: Encoding = "none",
        credit: int | None = None,
    ) -> None:
        """A new session; its changes are told at once, and so is what its client takes."""
        ownership = self.owner.get(session_id, ("", 0))[1] + 1
        self.owner[session_id], self.credit[session_id] = (worker.name, ownership), credit
        self.sink.open(session_id, script, lineage)
        self.confirmed[session_id] = 0
        worker.command(
            Open(
                session_id=session_id,
                state_bytes=state_bytes(self.model, script.profile),
                ownership=ownership,
                text=script.text(lineage, encoding),
            )
        )
        self.serve(session_id)

    def serve(self, session_id: SessionId) -> None:
        """Tell whoever owns the session what it may not have heard: changes and credit."""
        worker = self.workers[self.owner[session_id][0]]
        for serial, (from_chunk, prompt, control) in enumerate(self.sink.scripts[session_id].changes, 1):
            steer = Steer(
                controller_epoch=self.controller_epoch,
                incarnation=worker.incarnation,
                session_id=session_id,
                serial=serial,
                from_chunk=from_chunk,
                prompt=prompt,
                control=control,
            )
            worker.send(steer)
        self.give_credit(session_id)

    def give_credit(self, session_id: SessionId, ahead: int = AHEAD) -> None:
        if session_id not in self.owner:
            return
        worker, limit = self.workers[self.owner[session_id][0]], self.credit[session_id]
        up_to = self.sink.taken[session_id] + ahead
        credit = Credit(
            controller_epoch=self.controller_epoch,
            incarnation=worker.incarnation,
            session_id=session_id,
            up_to=up_to if limit is None else min(limit, up_to),
        )
        worker.send(credit)

    def shut(self, session_id: SessionId) -> None:
        """Close the session and forget it."""
        worker = self.workers[self.owner.pop(session_id)[0]]
        worker.command(Close(session_id=session_id))
        assert worker.wait(Closed, session_id=session_id) is not None

    def demand(self, session_id: SessionId, *, active: bool) -> None:
        self.workers[self.owner[session_id][0]].command(Demand(session_id=session_id, active=active))

    def forget(self, session_id: SessionId) -> None:
        """Its state is gone with its owner."""
        assert not self.workers[self.owner[session_id][0]].lives
        del self.owner[session_id]

    def wait_chunks(self, session_id: SessionId, count: int) -> None:
        """Until so many have come in all."""
        there = self.until(lambda: self.sink.taken[session_id] >= count)
        owner = self.workers[self.owner[session_id][0]]
        assert there, f"{session_id} has {self.sink.taken[session_id]} chunks, not {count}; {owner.ask()}"

    def wait_more(self, more: int = 2) -> None:
        """Until so many more have come of every session: all are served."""
        wanted = {session_id: self.sink.taken[session_id] + more for session_id in self.owner}
        for session_id, count in wanted.items():
            self.wait_chunks(session_id, count)

    def check(self) -> None:
        """Every session is served by its owner, and nobody else holds anything of it."""
        self.wait_more()
        for worker in self.workers.values():
            owned = {session_id for session_id, (name, _) in self.owner.items() if name == worker.name}
            if not worker.lives:
                assert not owned, f"{owned} are lost, and the journal does not know it"
                continue
            inventory = worker.settled()
            assert {held.session_id for held in inventory.sessions} == owned
            assert all(held.state == "active" for held in inventory.sessions), inventory.sessions
            assert inventory.device.reserved == 0

    def stop(self, name: str) -> None:
        """Ask it to end, and see that it does so as it should."""
        worker = self.workers[name]
        worker.signal(signal.SIGTERM)
        assert self.until(lambda: not worker.lives), f"{name} does not end"
        self.listen(0)
        assert worker.exit_code == 0
        assert worker.goodbye is not None


@contextlib.contextmanager
def a_live_fleet(model: str = "tiny", **settings: Any) -> Iterator[LiveFleet]:
    fleet = LiveFleet(model, **settings)
    try:
        yield fleet
    finally:
        fleet.close()
