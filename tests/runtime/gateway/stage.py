"""The controller and the workers of a gateway, in one thread: they speak their real messages over real sockets.

Decides what they answer, and lets a test say otherwise; must never know a client.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import zmq

from runtime.gateway import messages as m
from runtime.transfer.messages import UNREADABLE
from runtime.worker.messages import Encoding, Steered, StreamReport, Uncredited
from runtime.worker.process.messages import Credit, Delivered, Steer, Told, WantKeyFrame
from tests.ports import free_port

PATIENCE_S = 60.0

_FROM_GATEWAY = msgspec.msgpack.Decoder(Steer | Credit | WantKeyFrame)


@dataclass(slots=True)
class Held:
    """A session on the worker."""

    ownership: int
    lineage: int
    encoding: Encoding
    prompt: str
    control: str
    number: int = 0
    serial: int = 0
    up_to: int = 0
    active: bool = True
    wants_key_frame: bool = False


class Stage(threading.Thread):
    """Controller and workers in one thread. Used by the test's thread through `tell` and what is read of it."""

    def __init__(self, gateway_workers: str, *, body_bytes: int = 64, pace_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.set(zmq.ROUTER_HANDOVER, 1)
        self.port = self._router.bind_to_random_port("tcp://127.0.0.1")
        self.gateway_workers = gateway_workers
        self._dealers: dict[str, zmq.Socket[bytes]] = {}
        self._gateway = b""
        self._told = 0
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue()
        self._stopping = False
        self.body_bytes, self.pace_s = body_bytes, pace_s
        self.body: Callable[[int, bool], tuple[bytes, bytes | None]] | None = None
        self.sessions: dict[str, m.Create] = {}
        self.owners: dict[str, str] = {}
        self.held: dict[str, dict[str, Held]] = {}
        self.prompts: dict[str, tuple[int, str]] = {}
        self.positions: dict[str, int] = {}
        self.wants: dict[str, bool] = {}
        self.ended: list[str] = []
        self.taken: list[m.Taken] = []
        self.controls: Counter[str] = Counter()
        self.creates = 0
        self.refusal: m.Refused | None = None
        self.accepts, self.is_away, self.is_mute = True, False, False
        self.counts: dict[str, float] = {}
        self.answers: dict[str, bytes | None] = {}
        self.refusals: dict[str, str] = {}  # what is asked -> why not
        self.mode: m.Mode = "execute"
        self.proposal: int | None = None
        self._next_status_s = 0.0
        self._next_chunk_s = 0.0
        self.failure: BaseException | None = None

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def tell(self, call: Callable[[], None]) -> None:
        """Do that in the thread, and wait for it."""
        done = threading.Event()

        def both() -> None:
            call()
            done.set()

        self._calls.put(both)
        assert done.wait(PATIENCE_S), self.failure

    def stop(self) -> None:
        self._stopping = True
        self.join(PATIENCE_S)
        assert self.failure is None, self.failure

    def run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failure = error
        finally:
            self._context.destroy(linger=0)

    def add_worker(self, name: str) -> None:
        """In the thread."""
        dealer = self._context.socket(zmq.DEALER)
        dealer.set(zmq.ROUTING_ID, f"{name}/1".encode())
        dealer.set(zmq.SNDHWM, 8)
        dealer.set(zmq.IMMEDIATE, 1)
        dealer.set(zmq.RECONNECT_IVL, 20)
        dealer.connect(self.gateway_workers)
        self._dealers[name], self.held[name] = dealer, {}

    def say(self, message: m.ToGateway) -> None:
        """In the thread."""
        if self._gateway and not self.is_mute:
            self._router.send_multipart([self._gateway, m.encoded(message)], zmq.NOBLOCK)

    def serve(self, session_id: str) -> None:
        """In the thread: say where the session is."""
        create, name = self.sessions[session_id], self.owners.get(session_id, "")
        held = self.held[name][session_id] if name else None
        serial, prompt = self.prompts[session_id]
        text = msgspec.structs.replace(create.text, prompt=prompt)
        self.say(
            m.Serving(
                controller_epoch=1,
                session_id=session_id,
                where=("active" if self.wants[session_id] else "idle") if name else "waiting",
                ownership=held.ownership if held else 0,
                lineage=held.lineage if held else 0,
                worker=name,
                incarnation=1 if name else 0,
                position=self.positions.get(session_id, 0),
                token_sha256=create.token_sha256,
                text=text,
                prompt_serial=serial,
                chunk_number=held.number if held else 0,
            )
        )

    def move(self, session_id: str, name: str, *, lost: bool = False) -> None:
        """In the thread: another worker goes on with it, or begins a lineage."""
        before = self.held[self.owners[session_id]].pop(session_id)
        _, prompt = self.prompts[session_id]
        held = Held(
            ownership=before.ownership + 1,
            lineage=before.lineage + lost,
            encoding=before.encoding,
            prompt=prompt if lost else before.prompt,
            control=self.sessions[session_id].text.control if lost else before.control,
            number=0 if lost else before.number,
            serial=0 if lost else before.serial,
            up_to=0 if lost else before.up_to,
            active=self.wants[session_id],
            wants_key_frame=True,
        )
        self.held[name][session_id], self.owners[session_id] = held, name
        self.serve(session_id)

    def _turn(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()()
        if self.is_away:
            time.sleep(0.01)
        elif self._router.poll(2):
            self._hear()
        now_s = time.monotonic()
        if now_s >= self._next_status_s and not self.is_away:
            self._next_status_s = now_s + 0.1
            self.say(
                m.Status(
                    controller_epoch=1,
                    sent_s=now_s,
                    ready=True,
                    accepts=self.accepts,
                    retry_after_s=7.0,
                    counts=self.counts,
                    told=self._told,
                    mode=self.mode,
                    proposal=self.proposal,
                )
            )
        for name, dealer in self._dealers.items():
            while dealer.poll(0):
                self._worker_hears(name, dealer, _FROM_GATEWAY.decode(dealer.recv()))
        if now_s >= self._next_chunk_s:
            self._next_chunk_s = now_s + self.pace_s
            for name, dealer in self._dealers.items():
                for session_id, held in self.held[name].items():
                    self._compute(name, dealer, session_id, held)

    def _hear(self) -> None:
        while self._router.poll(0):
            self._gateway, frame = self._router.recv_multipart()
            try:
                message = m.from_gateway(frame)
            except UNREADABLE as error:
                raise AssertionError(f"the gateway says what is no message: {error}") from error
            self._answer(message)

    def _answer(self, message: m.FromGateway) -> None:
        match message:
            case m.Here():
                if message.since != self._told:
                    for session_id in self.sessions:
                        self.serve(session_id)
                self._told = message.since
            case m.Create():
                self._create(message)
            case m.Ask():
                key = f"{message.about} {message.version} {message.gpu_id or message.session_id}"
                body, refused = self.answers.get(key), self.refusals.get(key, "")
                self.say(m.Answer(question=message.question, body=body, refused=refused))
            case m.Taken():
                self.taken.append(message)
            case m.Controlled():
                self.controls.update(dict(message.counts))
            case _ if message.session_id not in self.sessions:
                self.say(m.Ended(session_id=message.session_id, reason="there is no such session"))
            case m.Want():
                self.wants[message.session_id] = message.active
                name = self.owners.get(message.session_id)
                if name:
                    self.held[name][message.session_id].active = message.active
                self.serve(message.session_id)
            case m.Prompt():
                if message.serial > self.prompts[message.session_id][0]:
                    self.prompts[message.session_id] = (message.serial, message.prompt)
                self.say(m.Prompted(session_id=message.session_id, serial=message.serial))
            case m.End():
                self._end(message.session_id, "ended")

    def _create(self, create: m.Create) -> None:
        self.creates += create.session_id not in self.sessions
        if self.refusal is not None:
            self.say(msgspec.structs.replace(self.refusal, session_id=create.session_id))
            return
        session_id = create.session_id
        if session_id not in self.sessions:
            self.sessions[session_id], self.prompts[session_id] = create, (0, create.text.prompt)
            self.wants[session_id] = True
            if not self.positions.get("*"):
                self.place(session_id)
            else:
                self.positions[session_id] = self.positions["*"]
        self.say(m.Created(session_id=session_id, position=self.positions.get(session_id, 0)))
        self.serve(session_id)

    def place(self, session_id: str) -> None:
        """In the thread."""
        text = self.sessions[session_id].text
        self.positions[session_id] = 0
        self.owners[session_id] = "w"
        self.held["w"][session_id] = Held(
            ownership=1,
            lineage=0,
            encoding=text.encoding,
            prompt=text.prompt,
            control=text.control,
            active=self.wants[session_id],
            wants_key_frame=True,
        )
        self.serve(session_id)

    def _end(self, session_id: str, reason: str) -> None:
        name = self.owners.pop(session_id, None)
        if name:
            del self.held[name][session_id]
        del self.sessions[session_id]
        self.ended.append(session_id)
        self.say(m.Ended(session_id=session_id, reason=reason))

    def _worker_hears(self, name: str, dealer: zmq.Socket[bytes], message: Steer | Credit | WantKeyFrame) -> None:
        held = self.held[name].get(message.session_id)
        if held is None or (message.controller_epoch, message.incarnation) != (1, 1):
            return
        report: StreamReport
        match message:
            case WantKeyFrame():
                held.wants_key_frame = True
            case _ if message.lineage != held.lineage:
                return
            case Credit():
                held.up_to = max(held.up_to, message.up_to)
                report = Uncredited(session_id=message.session_id, lineage=held.lineage, chunk_number=held.number)
                if message.up_to <= held.number:
                    self._tell(name, dealer, report)
            case Steer():
                if message.serial == held.serial + 1:
                    held.serial = message.serial
                    held.prompt = held.prompt if message.prompt is None else message.prompt
                    held.control = held.control if message.control is None else message.control
                report = Steered(
                    session_id=message.session_id, lineage=held.lineage, serial=held.serial, asker=message.asker
                )
                self._tell(name, dealer, report)

    def _tell(self, name: str, dealer: zmq.Socket[bytes], report: StreamReport) -> None:
        told = Told(worker=name, incarnation=1, controller_epoch=1, report=report)
        with contextlib.suppress(zmq.Again):
            dealer.send(msgspec.msgpack.encode(told), zmq.NOBLOCK)

    def _compute(self, name: str, dealer: zmq.Socket[bytes], session_id: str, held: Held) -> None:
        if not held.active or held.number >= held.up_to:
            return
        body, init = f"{held.lineage} {held.number} {held.prompt} {held.control} ".encode(), None
        body += b"." * max(0, self.body_bytes - len(body))
        if self.body is not None:
            body, init = self.body(held.number, held.wants_key_frame)
        chunk = Delivered(
            worker=name,
            incarnation=1,
            controller_epoch=1,
            session_id=session_id,
            ownership=held.ownership,
            lineage=held.lineage,
            number=held.number,
            encoding=held.encoding,
            body=body,
            init=init,
            key_frame=held.encoding != "h264" or held.wants_key_frame or held.number % 16 == 0,
            shape=(12, 8, 8, 3) if held.encoding == "none" else (),
        )
        try:
            dealer.send(msgspec.msgpack.encode(chunk), zmq.NOBLOCK)
        except zmq.Again:
            return
        held.number, held.wants_key_frame = held.number + 1, False


@contextlib.contextmanager
def a_stage(**settings: Any) -> Iterator[Stage]:
    """A controller and the worker `w`."""
    stage = Stage(f"tcp://127.0.0.1:{free_port()}", **settings)
    stage.start()
    stage.tell(lambda: stage.add_worker("w"))
    try:
        yield stage
    finally:
        stage.stop()
