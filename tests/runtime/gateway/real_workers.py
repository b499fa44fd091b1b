"""A controller in the test that speaks with a real gateway and with real worker processes.

Decides what a journal would say; must never look into a process's memory.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import zmq
from msgspec.structs import replace

from runtime.gateway import messages as m
from runtime.transfer.messages import (
    Activate,
    Activated,
    Migrating,
    Prepare,
    Ready,
    Release,
    Route,
    Sent,
    Staged,
    Start,
)
from runtime.worker.messages import Close, Command, Demand, Desired, Frozen, Lost, Moved, Open
from runtime.worker.process.config import WorkerConfig
from runtime.worker.process.messages import (
    Goodbye,
    Heartbeat,
    Hello,
    Inventory,
    Renew,
    Said,
    encoded,
    from_worker,
)
from tests.ports import free_port
from tests.runtime.gateway.stage import PATIENCE_S
from tests.runtime.transfer.processes import Process
from tests.runtime.worker.live_sessions import state_bytes
from tests.runtime.worker.live_worker import run_live_worker

MODEL = "tiny"
REPEAT_S = 0.2
STALL_S = 10.0


@dataclass(slots=True)
class Owned:
    """A session as the journal has it."""

    create: m.Create
    owner: str
    ownership: int = 1
    lineage: int = 0
    prompt: str = ""
    prompt_serial: int = 0
    wanted: bool = True
    is_open: bool = False
    number: int = 0


@dataclass(slots=True)
class Handover:
    """One attempt."""

    session_id: str
    attempt: int
    source: str
    target: str
    came: dict[str, Any] = field(default_factory=dict)
    committed: bool = False
    said: set[str] = field(default_factory=set)


class RealStage(threading.Thread):
    """Used by the test's thread through `tell`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gateways, self._workers = (self._context.socket(zmq.ROUTER) for _ in range(2))
        ports = [made.bind_to_random_port("tcp://127.0.0.1") for made in (self._gateways, self._workers)]
        self.address, self._own = (f"tcp://127.0.0.1:{port}" for port in ports)
        self.gateway_workers = f"tcp://127.0.0.1:{free_port()}"
        self._gateway, self._told = b"", 0
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue()
        self._stopping, self._version, self._next_s = False, 0, 0.0
        self.processes: dict[str, Process] = {}
        self.incarnations: dict[str, int] = {}
        self.up: set[str] = set()
        self.sessions: dict[str, Owned] = {}
        self.handover: Handover | None = None
        self.failure: BaseException | None = None

    def start_worker(self, name: str) -> None:
        self.incarnations[name] = self.incarnations.get(name, 0) + 1
        config = WorkerConfig(
            name=name,
            incarnation=self.incarnations[name],
            controller=self._own,
            gateway=self.gateway_workers,
            device_bytes=1 << 20,
            host_bytes=1 << 20,
            heartbeat_s=0.1,
        )
        self.processes[name] = Process(run_live_worker, config, MODEL, STALL_S)

    def tell(self, call: Callable[[], None]) -> None:
        done = threading.Event()

        def both() -> None:
            call()
            done.set()

        self._calls.put(both)
        assert done.wait(PATIENCE_S), self.failure

    def stop(self) -> None:
        self._stopping = True
        self.join(PATIENCE_S)
        for process in self.processes.values():
            process.end()
        assert self.failure is None, self.failure

    def run(self) -> None:
        poller = zmq.Poller()
        for made in (self._gateways, self._workers):
            poller.register(made, zmq.POLLIN)
        try:
            while not self._stopping:
                with contextlib.suppress(queue.Empty):
                    self._calls.get_nowait()()
                for made, _ in poller.poll(20):
                    identity, frame = made.recv_multipart()
                    if made is self._workers:
                        self._hear_worker(from_worker(frame))
                    else:
                        self._gateway = identity
                        self._hear_gateway(m.from_gateway(frame))
                if time.monotonic() >= self._next_s:
                    self._next_s = time.monotonic() + REPEAT_S
                    self._repeat()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failure = error
        finally:
            self._context.destroy(linger=0)

    def move(self, session_id: str, target: str) -> None:
        """In the thread: hand it over, while it goes on."""
        attempt = self._version + 1
        source = self.sessions[session_id].owner
        self.handover = Handover(session_id=session_id, attempt=attempt, source=source, target=target)
        self._step()

    def lose(self, session_id: str, target: str) -> None:
        """In the thread: its owner is dead."""
        owned = self.sessions[session_id]
        self.up.discard(owned.owner)
        owned.owner, owned.ownership, owned.lineage = target, owned.ownership + 1, owned.lineage + 1
        owned.is_open, owned.number = False, 0
        self._open(session_id)

    def _say(self, message: m.ToGateway) -> None:
        if self._gateway:
            self._gateways.send_multipart([self._gateway, m.encoded(message)], zmq.NOBLOCK)

    def _command(self, name: str, body: Desired | Migrating) -> None:
        self._version += 1
        command = Command(controller_epoch=1, incarnation=self.incarnations[name], version=self._version, body=body)
        self._to_worker(name, encoded(command))

    def _to_worker(self, name: str, frame: bytes) -> None:
        self._workers.send_multipart([f"{name}/{self.incarnations[name]}".encode(), frame], zmq.NOBLOCK)

    def _hear_worker(self, message: Hello | Heartbeat | Said | Inventory | Goodbye) -> None:
        if isinstance(message, Hello | Heartbeat) and message.incarnation == self.incarnations[message.worker]:
            self.up.add(message.worker)
            renew = Renew(controller_epoch=1, incarnation=message.incarnation, sent_s=message.sent_s)
            self._to_worker(message.worker, encoded(renew))
        if isinstance(message, Heartbeat):
            for session_id, number in message.chunks:
                owned = self.sessions.get(session_id)
                if owned is not None and owned.owner == message.worker:
                    owned.number = number
        if isinstance(message, Said):
            self._report(message.worker, message.report)

    def _report(self, worker: str, report: Any) -> None:
        handover = self.handover
        match report:
            case Moved(state="active") if not self.sessions[report.session_id].is_open:
                self.sessions[report.session_id].is_open = True
                self._serve(report.session_id)
            case Ready() | Frozen() | Sent() | Staged() | Activated() if handover is not None:
                handover.came[type(report).__name__] = report
                self._step()
            case Lost():
                raise AssertionError(f"{worker}: {report}")

    def _hear_gateway(self, message: m.FromGateway) -> None:
        match message:
            case m.Here():
                if message.since != self._told:
                    for session_id in self.sessions:
                        self._serve(session_id)
                self._told = message.since
            case m.Create():
                if message.session_id not in self.sessions:
                    owned = Owned(create=message, owner="a", prompt=message.text.prompt)
                    self.sessions[message.session_id] = owned
                    self._open(message.session_id)
                self._say(m.Created(session_id=message.session_id, position=0))
            case m.Want():
                owned = self.sessions[message.session_id]
                owned.wanted = message.active
                self._command(owned.owner, Demand(session_id=message.session_id, active=message.active))
                self._serve(message.session_id)
            case m.Prompt():
                owned = self.sessions[message.session_id]
                if message.serial > owned.prompt_serial:
                    owned.prompt, owned.prompt_serial = message.prompt, message.serial
                self._say(m.Prompted(session_id=message.session_id, serial=message.serial))
            case m.Taken():
                if self.handover is not None:
                    self.handover.came["Taken"] = message
                    self._step()
            case m.End():
                gone = self.sessions.pop(message.session_id, None)
                if gone is not None:
                    self._command(gone.owner, Close(session_id=message.session_id))
                self._say(m.Ended(session_id=message.session_id, reason="ended"))
            case m.Ask():
                pass

    def _open(self, session_id: str) -> None:
        owned = self.sessions[session_id]
        text = replace(owned.create.text, prompt=owned.prompt, lineage=owned.lineage)
        size = state_bytes(MODEL, text.profile)
        self._command(owned.owner, Open(session_id=session_id, state_bytes=size, ownership=owned.ownership, text=text))

    def _serve(self, session_id: str) -> None:
        owned = self.sessions[session_id]
        where: m.Where = ("active" if owned.wanted else "idle") if owned.is_open else "waiting"
        self._say(
            m.Serving(
                controller_epoch=1,
                session_id=session_id,
                where=where,
                ownership=owned.ownership,
                lineage=owned.lineage,
                worker=owned.owner if owned.is_open else "",
                incarnation=self.incarnations[owned.owner],
                token_sha256=owned.create.token_sha256,
                text=replace(owned.create.text, prompt=owned.prompt),
                prompt_serial=owned.prompt_serial,
                chunk_number=owned.number,
            )
        )

    def _repeat(self) -> None:
        status = m.Status(
            controller_epoch=1,
            sent_s=time.monotonic(),
            ready=True,
            accepts=True,
            retry_after_s=1.0,
            counts={},
            told=self._told,
        )
        self._say(status)
        handover = self.handover
        if handover is not None and "Frozen" in handover.came and "Taken" not in handover.came:
            owned = self.sessions[handover.session_id]
            up_to = handover.came["Frozen"].chunk_number
            self._say(m.AwaitTaken(session_id=handover.session_id, lineage=owned.lineage, up_to=up_to))

    def _step(self) -> None:
        """One thing after the other, each said once: nothing is lost in this test."""
        handover = self.handover
        assert handover is not None
        owned, came = self.sessions[handover.session_id], handover.came
        names: dict[str, Any] = {"session_id": handover.session_id, "attempt": handover.attempt}
        if self._first("prepare"):
            self._command(
                handover.target,
                Prepare(
                    **names,
                    state_bytes=state_bytes(MODEL, owned.create.text.profile),
                    route=Route(way="tcp", peer=handover.source, incarnation=handover.attempt),
                    active=True,
                    deadline_s=30.0,
                    horizon=handover.attempt - 1,
                ),
            )
        if "Ready" in came and self._first("start"):
            route = replace(came["Ready"].route, peer=handover.target)
            self._command(handover.source, Start(**names, route=route, deadline_s=30.0))
        if {"Frozen", "Sent", "Staged", "Taken"} <= came.keys() and self._first("activate"):
            assert came["Sent"].digest == came["Staged"].digest
            owned.owner, owned.ownership = handover.target, owned.ownership + 1
            self._command(handover.target, Activate(**names, ownership=owned.ownership))
        if "Activated" in came and self._first("release"):
            self._command(handover.source, Release(**names))
            self._serve(handover.session_id)
            self.handover = None

    def _first(self, what: str) -> bool:
        handover = self.handover
        assert handover is not None
        first = what not in handover.said
        handover.said.add(what)
        return first


@contextlib.contextmanager
def a_real_stage(*names: str) -> Iterator[RealStage]:
    stage = RealStage()
    for name in names:
        stage.start_worker(name)
    stage.start()
    try:
        yield stage
    finally:
        stage.stop()
