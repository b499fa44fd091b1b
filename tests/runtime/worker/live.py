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
from runtime.worker.messages import (
    Close,
    Closed,
    Command,
    Demand,
    Desired,
    Encoding,
    Open,
    Report,
    Steered,
    StreamReport,
    Uncredited,
    Undelivered,
)
from runtime.worker.process.config import WorkerConfig
from runtime.worker.process.messages import (
    AskInventory,
    Credit,
    Delivered,
    FromController,
    FromGateway,
    Goodbye,
    Heartbeat,
    Hello,
    Inventory,
    Renew,
    Said,
    Steer,
    encoded,
    from_worker,
    to_gateway,
)
from scheduler.cluster import SessionId
from tests.runtime.transfer.processes import Process, Store
from tests.runtime.worker.live_ends import End
from tests.runtime.worker.live_sessions import Script, Sink, state_bytes
from tests.runtime.worker.live_worker import run_live_worker

PATIENCE_S = 60.0
AHEAD = 2  # chunks that a client takes beyond those it has
REPEAT_S = 0.5  # between two tellings of what may have been lost
STALL_S = 3.0  # of a transfer, without a byte, after which its peer counts as lost
ASK_S = 1.0  # for an answer
REST_S = 1.0  # without a new chunk, though many have had time to come


class LiveWorker(Process):
    """One incarnation."""

    def __init__(self, fleet: LiveFleet, config: WorkerConfig, model: str) -> None:
        self.fleet, self.name, self.incarnation = fleet, config.name, config.incarnation
        self.hello: Hello | None = None
        self.heartbeat: Heartbeat | None = None
        self.inventory: Inventory | None = None
        self.goodbye: Goodbye | None = None
        self.reports: list[Report] = []
        self.told: list[StreamReport] = []  # to the gateway, where nobody here goes by it
        super().__init__(run_live_worker, config, model, fleet.stall_s)

    def send(self, message: FromController) -> None:
        self.send_raw(self.fleet.controller, encoded(message))

    def tell(self, message: FromGateway) -> None:
        self.send_raw(self.fleet.gateway, encoded(message))

    def send_raw(self, end: End, *frames: bytes) -> None:
        end.send(f"{self.name}/{self.incarnation}", *frames)

    def command(self, body: Desired | Migrating) -> None:
        self.fleet.version += 1
        epoch = self.fleet.controller_epoch
        self.send(Command(controller_epoch=epoch, incarnation=self.incarnation, version=self.fleet.version, body=body))

    def take(self, kinds: type[Any] | tuple[type[Any], ...], **fields: object) -> Any:
        """The first report of that kind with these fields, which is taken out; None if there is none yet."""
        said: list[Any]
        for said in (self.reports, self.told):
            for report in said:
                if isinstance(report, kinds) and all(getattr(report, name, None) == f for name, f in fields.items()):
                    said.remove(report)
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
        """Again and again, until it answers."""
        self.fleet.question += 1
        ask = AskInventory(
            controller_epoch=self.fleet.controller_epoch, incarnation=self.incarnation, question=self.fleet.question
        )
        end_s = time.monotonic() + PATIENCE_S
        while self.inventory is None or self.inventory.question != ask.question:
            assert time.monotonic() < end_s, f"{self.name} does not say what it holds"
            self.send(ask)
            self.fleet.until(lambda: self.inventory is not None and self.inventory.question == ask.question, ASK_S)
        return self.inventory

    def settled(self) -> Inventory:
        """Its inventory when no transfer touches anything any more."""
        end_s = time.monotonic() + PATIENCE_S
        while (inventory := self.ask()).lanes or inventory.device.draining or inventory.host.draining:
            assert time.monotonic() < end_s, f"{self.name} does not settle: {inventory}"
        return inventory

    @property
    def numbers(self) -> dict[str, int]:
        """Of everybody's next chunk, as the last heartbeat has them."""
        assert self.heartbeat is not None
        return dict(self.heartbeat.chunks)

    def at_rest(self) -> dict[str, int]:
        """These numbers, when they have not changed for a while though it lives."""
        numbers: dict[str, int] = {}
        since_s = time.monotonic()

        def still() -> bool:
            nonlocal numbers, since_s
            now = self.numbers
            if now != numbers or not now:
                numbers, since_s = now, time.monotonic()
            return time.monotonic() > since_s + REST_S

        assert self.fleet.until(still)
        return numbers


class LiveFleet:
    """Workers, the store where their pairs meet, who owns which session, and the sink of all chunks."""

    def __init__(self, model: str = "tiny", *, pace_s: float = 0.05, stall_s: float = STALL_S, **settings: Any) -> None:
        self.model, self.pace_s, self.stall_s, self._settings = model, pace_s, stall_s, settings
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self.controller, self.gateway = (End(self._context, self._poller, size) for size in (1 << 20, 1 << 24))
        self.store = Store()
        self.workers: dict[str, LiveWorker] = {}
        self.owner: dict[SessionId, tuple[str, int]] = {}
        self.sink = Sink()
        self.credit: dict[SessionId, int | None] = {}  # chunks that a client takes in all; None: always some more
        self.confirmed: dict[SessionId, int] = {}  # the last change that is part of the session
        self.credited: dict[SessionId, int] = {}  # the highest number that has been told
        self.silent: set[str] = set()  # workers that the controller does not answer
        self.controller_epoch, self.version, self.attempt, self.question = 1, 0, 0, 0
        self._incarnation = 0
        self._poor: set[SessionId] = set()  # who has taken chunks and got no new credit yet
        self._next_credit_s = self._next_serve_s = 0.0

    def close(self) -> None:
        for process in [*self.workers.values(), self.store]:
            process.end()
        self._context.destroy(linger=0)

    def close_gateway(self) -> None:
        self.gateway.close()
        self.expect_holes()

    def expect_holes(self) -> None:
        """The connections to the gateway are lost, and chunks with them: no more than clients have credit for."""
        self.sink.holes = {name: self.credited[name] - self.sink.taken[name] for name in self.owner}

    def start(self, name: str, *, wait: bool = True, **changes: Any) -> LiveWorker:
        """A worker, or a new incarnation of one that is gone; `wait`: until it has been adopted."""
        self._incarnation += 1
        settings = {"device_bytes": 1 << 20, "host_bytes": 1 << 20, "heartbeat_s": 0.1} | self._settings | changes
        config = WorkerConfig(
            name=name,
            incarnation=self._incarnation,
            controller=self.controller.address,
            gateway=self.gateway.address,
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
        for frame in self.gateway.frames(ready):
            self._told(frame)
        for frame in self.controller.frames(ready):
            self._heard(frame)
        now_s = time.monotonic()
        if now_s >= self._next_serve_s:
            self._next_serve_s = now_s + REPEAT_S
            for session_id in self.owner:
                self.serve(session_id)
        if self._poor and now_s >= self._next_credit_s:
            self._next_credit_s = now_s + self.pace_s
            for session_id in self._poor:
                self.give_credit(session_id)
            self._poor.clear()

    def _told(self, frame: bytes) -> None:
        message = to_gateway(frame)
        if isinstance(message, Delivered):
            self.sink.take(message)
            self._poor.add(SessionId(message.session_id))
            return
        worker, report = self.workers.get(message.worker), message.report
        if worker is None or worker.incarnation != message.incarnation:
            return
        session_id = SessionId(report.session_id)
        if report.lineage != self.sink.lineages.get(session_id):
            return
        if isinstance(report, Steered):
            self.confirmed[session_id] = max(report.serial, self.confirmed.get(session_id, 0))
        elif not isinstance(report, Uncredited):
            worker.told.append(report)
            if isinstance(report, Undelivered):
                self.sink.holes[session_id] = report.number + report.count - self.sink.taken[session_id]
        elif self._is_served(session_id, worker):
            self.sink.go_on(session_id, report.chunk_number)
            self._poor.add(session_id)

    def _is_served(self, session_id: SessionId, worker: LiveWorker) -> bool:
        return session_id in self.owner and self.owner[session_id][0] == worker.name

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
        self.confirmed[session_id] = self.credited[session_id] = 0
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
                lineage=self.sink.lineages[session_id],
                serial=serial,
                from_chunk=from_chunk,
                prompt=prompt,
                control=control,
            )
            worker.tell(steer)
        self.give_credit(session_id)

    def give_credit(self, session_id: SessionId, ahead: int = AHEAD) -> None:
        if session_id not in self.owner:
            return
        worker, limit = self.workers[self.owner[session_id][0]], self.credit[session_id]
        up_to = self.sink.taken[session_id] + ahead
        up_to = up_to if limit is None else min(limit, up_to)
        self.credited[session_id] = max(up_to, self.credited[session_id])
        credit = Credit(
            controller_epoch=self.controller_epoch,
            incarnation=worker.incarnation,
            session_id=session_id,
            lineage=self.sink.lineages[session_id],
            up_to=up_to,
        )
        worker.tell(credit)

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
