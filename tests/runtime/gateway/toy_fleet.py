"""A controller and workers as the gateway meets them, in virtual time, and a network between them that loses things.

Decides what they answer, as `docs/worker.md` and `runtime/gateway/messages.py` say; must never look into the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.gateway import messages as m
from runtime.gateway.session import Outgoing
from runtime.gateway.workers import ToOwner
from runtime.worker.messages import Steered, StreamReport, Text, Uncredited
from runtime.worker.process.messages import Credit, Delivered, Steer, ToGateway, Told, WantKeyFrame

KEY_EVERY = 4


@dataclass(slots=True)
class Held:
    """A session on a worker."""

    lineage: int
    ownership: int
    prompt: str
    control: str
    number: int = 0
    serial: int = 0
    up_to: int = 0
    active: bool = True
    frozen: bool = False
    wants_key_frame: bool = True


@dataclass(slots=True)
class Worker:
    """One incarnation, with at most one session."""

    name: str
    incarnation: int = 1
    held: Held | None = None
    answers_credit: bool = True

    def hear(self, message: Any, session_id: str) -> list[ToGateway]:
        held = self.held
        if held is None or message.incarnation != self.incarnation or held.frozen:
            return []
        if isinstance(message, WantKeyFrame):
            held.wants_key_frame = True
            return []
        if message.lineage != held.lineage:
            return []
        if isinstance(message, Credit):
            held.up_to = max(held.up_to, message.up_to)
            uncredited = Uncredited(session_id=session_id, lineage=held.lineage, chunk_number=held.number)
            return [self._told(uncredited)] if self.answers_credit and message.up_to <= held.number else []
        assert isinstance(message, Steer)
        if message.serial == held.serial + 1:
            held.serial = message.serial
            held.prompt = held.prompt if message.prompt is None else message.prompt
            held.control = held.control if message.control is None else message.control
        steered = Steered(session_id=session_id, lineage=held.lineage, serial=held.serial, asker=message.asker)
        return [self._told(steered)]

    def _told(self, report: StreamReport) -> Told:
        return Told(worker=self.name, incarnation=self.incarnation, controller_epoch=1, report=report)

    def compute(self, session_id: str) -> list[ToGateway]:
        """Its next chunk, if it may."""
        held = self.held
        if held is None or held.frozen or not held.active or held.number >= held.up_to:
            return []
        key_frame = held.wants_key_frame or held.number % KEY_EVERY == 0
        chunk = Delivered(
            worker=self.name,
            incarnation=self.incarnation,
            controller_epoch=1,
            session_id=session_id,
            ownership=held.ownership,
            lineage=held.lineage,
            number=held.number,
            encoding="h264",
            body=f"{held.lineage} {held.number} {held.ownership}".encode(),
            init=b"init" if held.wants_key_frame else None,
            key_frame=key_frame,
        )
        held.number, held.wants_key_frame = held.number + 1, False
        return [chunk]


@dataclass
class Fleet:
    """Two workers and the controller, with one session. What was said and has not arrived is in the lists."""

    session_id: str = ""
    workers: dict[str, Worker] = field(default_factory=lambda: {name: Worker(name) for name in "ab"})
    owner: str = ""
    ownership: int = 0
    lineage: int = 0
    prompt: str = ""
    prompt_serial: int = 0
    wanted: bool = True
    digest: bytes = bytes(32)
    text: Text | None = None
    told: int = 0
    heard_number: int = 0
    freezing: tuple[str, str, int] | None = None  # source, target, chunks that the source has made
    over: bool = False
    to_controller: list[m.FromGateway] = field(default_factory=list)
    to_workers: list[ToOwner] = field(default_factory=list)
    from_controller: list[m.ToGateway] = field(default_factory=list)
    from_workers: dict[str, list[ToGateway]] = field(default_factory=lambda: {"a": [], "b": []})

    def say(self, messages: Iterable[Outgoing]) -> None:
        for message in messages:
            if isinstance(message, ToOwner):
                self.to_workers.append(message)
            else:
                self.to_controller.append(message)

    def serving(self) -> m.Serving:
        assert self.text is not None
        worker = self.workers.get(self.owner)
        return m.Serving(
            controller_epoch=1,
            session_id=self.session_id,
            where="active" if self.wanted else "idle",
            ownership=self.ownership,
            lineage=self.lineage,
            worker=self.owner,
            incarnation=0 if worker is None else worker.incarnation,
            token_sha256=self.digest,
            text=self.text,
            prompt_serial=self.prompt_serial,
            chunk_number=self.heard_number,
        )

    def beat(self) -> None:
        """The owner's heartbeat."""
        held = self.workers[self.owner].held if self.owner else None
        if held is not None and held.lineage == self.lineage:
            self.heard_number = held.number

    def hear(self, message: m.FromGateway) -> None:
        if isinstance(message, m.Here):
            self.told = message.since
            status = m.Status(
                controller_epoch=1,
                sent_s=0.0,
                ready=True,
                accepts=True,
                retry_after_s=0.0,
                counts={},
                told=message.since,
            )
            self.from_controller += [self.serving(), status] if self.owner else [status]
            return
        if isinstance(message, m.Ask | m.Controlled):
            return
        if isinstance(message, m.Create) and not self.owner and not self.over:
            self.session_id, self.text, self.digest = message.session_id, message.text, message.token_sha256
            self.prompt = message.text.prompt
            self._open("a")
        if self.over or message.session_id != self.session_id:
            self.from_controller.append(m.Ended(session_id=message.session_id, reason="over"))
            return
        self._about(message)

    def _about(self, message: m.FromGateway) -> None:
        match message:
            case m.Create():
                self.from_controller.append(m.Created(session_id=self.session_id, position=0))
                self.from_controller.append(self.serving())
            case m.Want():
                self.wanted = message.active
                held = self.workers[self.owner].held
                if held is not None:
                    held.active = self.wanted
                self.from_controller.append(self.serving())
            case m.Prompt():
                if message.serial > self.prompt_serial:
                    self.prompt, self.prompt_serial = message.prompt, message.serial
                self.from_controller.append(m.Prompted(session_id=self.session_id, serial=message.serial))
            case m.End():
                self.over = True
                self.from_controller.append(m.Ended(session_id=self.session_id, reason="over"))
            case m.Taken():
                if self.freezing is not None and message.up_to >= self.freezing[2] and message.lineage == self.lineage:
                    self.commit()

    def freeze(self) -> None:
        """A hand-over to the other worker: the source has stopped."""
        held = self.workers[self.owner].held
        if self.freezing is None and held is not None:
            held.frozen = True
            self.freezing = (self.owner, "b" if self.owner == "a" else "a", held.number)
        self.await_taken()

    def await_taken(self) -> None:
        if self.freezing is not None:
            up_to = self.freezing[2]
            self.from_controller.append(m.AwaitTaken(session_id=self.session_id, lineage=self.lineage, up_to=up_to))

    def abort(self) -> None:
        if self.freezing is not None:
            held = self.workers[self.freezing[0]].held
            assert held is not None
            held.frozen, self.freezing = False, None

    def commit(self) -> None:
        assert self.freezing is not None
        source, target, _ = self.freezing
        self.freezing = None
        held = self.workers[source].held
        assert held is not None
        self.owner, self.ownership = target, self.ownership + 1
        self.workers[target].held = replace(
            held, ownership=self.ownership, frozen=False, active=self.wanted, wants_key_frame=True
        )
        self.beat()
        self.from_controller.append(self.serving())

    def reactivate(self, *, zombie: bool) -> None:
        """The target of the last hand-over counts as dead, and its source, which has kept what it had, serves again."""
        source = "b" if self.owner == "a" else "a"
        held = self.workers[source].held
        if self.freezing is None and held is not None and held.frozen and held.lineage == self.lineage:
            if not zombie:
                self._dies(self.owner)
            self.owner, self.ownership = source, self.ownership + 1
            held.frozen, held.ownership, held.active = False, self.ownership, self.wanted
            self.heard_number = held.number
            self.from_controller.append(self.serving())

    def lose(self, *, zombie: bool) -> None:
        """The owner counts as dead; a zombie goes on for some time."""
        self.abort()
        before = self.owner
        if not zombie:
            self._dies(before)
        self.lineage += 1
        self._open("b" if before == "a" else "a")
        self.from_controller.append(self.serving())

    def _open(self, name: str) -> None:
        assert self.text is not None
        self.owner, self.ownership, self.heard_number = name, self.ownership + 1, 0
        self.workers[name].held = Held(
            lineage=self.lineage,
            ownership=self.ownership,
            prompt=self.prompt,
            control=self.text.control,
            active=self.wanted,
        )

    def _dies(self, name: str) -> None:
        before = self.workers[name]
        self.workers[name] = Worker(name, before.incarnation + 1, answers_credit=before.answers_credit)
        self.from_workers[name].clear()
