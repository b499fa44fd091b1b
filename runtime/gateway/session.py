"""One session as the gateway has it: what its client wants, who serves it, and what has to be said about it.

Decides when something is said again, when an absent client's session pauses and when a slow client is cut; must never
know a socket, nor other sessions. Time is an argument, in seconds of any clock that only grows.
"""

from __future__ import annotations

from typing import Any, assert_never

from runtime.gateway import messages as m
from runtime.gateway.changes import AGAIN_S, Changes
from runtime.gateway.client import Client, Outcome
from runtime.gateway.limits import Limits
from runtime.gateway.playout import Playout
from runtime.gateway.stream import Stream
from runtime.gateway.workers import Address, ToOwner
from runtime.worker.messages import Steered, StreamReport, Text, Uncredited, Undelivered, Unsteered
from runtime.worker.process.messages import Credit, Delivered, Steer, WantKeyFrame

QUIET_S = 2.0  # without a chunk that may come, before the controller is asked how things are
WAITING_S = 5.0  # the same, without a place
CREDIT_AGAIN_S = 1.0

Outgoing = m.FromGateway | ToOwner


class Session:
    """From its create, or from the first word of the controller to a gateway that has begun anew, until its end."""

    def __init__(
        self,
        session_id: str,
        tenant: str,
        text: Text,
        token_sha256: bytes,
        limits: Limits,
        now_s: float,
        *,
        asker: int = 0,
    ) -> None:
        """`asker`: a number of this gateway alone, so that it hears answers to its own changes only."""
        self.session_id, self.tenant, self.text, self.token_sha256 = session_id, tenant, text, token_sha256
        self._limits, self._asker = limits, asker
        self.created_s = now_s
        self.answer: m.Created | m.Refused | None = None  # to its create
        self.serving: m.Serving | None = None
        self.ended: str | None = None  # why
        self.stream = Stream(limits)
        self.changes = Changes(text.prompt, limits.changes_max)
        self.client: Client | None = None
        self._absent_since_s = now_s
        self._paused = self.ending = False
        self._said_active = True  # what it is said to want; whoever is created wants chunks
        self._is_answered = True  # the controller has said since where it is
        self._awaited: m.AwaitTaken | None = None
        self._create_s = self._want_s = self._ask_s = self._end_s = 0.0
        self._credit: tuple[Address | None, int, int] = (None, 0, 0)  # owner, lineage, number
        self._credit_s = now_s
        self._key_frame_s = 0.0
        self._wanted_s: float | None = None  # since when the next chunk may come
        self.chunk_s: float | None = None  # how long the newest chunk was waited for
        self.playout = Playout()
        self.is_created_here = False

    # What the controller says.

    def created(self, answer: m.Created) -> None:
        self.answer = answer

    def refused(self, answer: m.Refused) -> None:
        self.answer, self.ended = answer, answer.reason

    def served(self, serving: m.Serving, now_s: float) -> None:
        before = self.serving
        if before is not None and (serving.controller_epoch, serving.ownership) < (
            before.controller_epoch,
            before.ownership,
        ):
            return
        if self.answer is None:
            self.answer = m.Created(session_id=self.session_id, position=serving.position)
        known = before is not None or not serving.lineage
        new_lineage = serving.lineage > self.stream.lineage
        self.serving, self._is_answered = serving, True
        self.stream.owned(serving.ownership, serving.lineage, serving.chunk_number)
        self.changes.written_before(serving.prompt_serial)
        if serving.where != "active":
            self._wanted_s = None
        if serving.where == "waiting":
            self._ask_s = now_s + WAITING_S
        if new_lineage and known:
            self.changes.lineage_begins(now_s)
        elif before is None or (before.ownership, owner_of(before)) != (serving.ownership, owner_of(serving)):
            self.changes.owner_changes(now_s)

    def prompted(self, answer: m.Prompted) -> None:
        self.changes.prompted(answer.serial)

    def awaited(self, question: m.AwaitTaken) -> None:
        self._awaited = question

    def over(self, reason: str) -> None:
        self.ended = reason

    # What workers say.

    def delivered(self, chunk: Delivered, now_s: float) -> bool:
        """Whether it was taken."""
        lineage = self.stream.lineage
        if not self.stream.take(chunk, present=self.client is not None):
            return False
        if chunk.lineage > lineage:
            self.changes.lineage_begins(now_s)
        if self.client is not None:
            self.client.chunk_came(now_s)
        self.chunk_s = None if self._wanted_s is None else now_s - self._wanted_s
        self._wanted_s = now_s if self._is_quiet else None
        self._credit_s, self._ask_s = now_s, now_s + QUIET_S
        return True

    def told(self, sender: Address, report: StreamReport, now_s: float) -> None:
        """Only the owner's word counts, and only about this lineage."""
        if self.serving is None or owner_of(self.serving) != sender or report.lineage != self.stream.lineage:
            return
        match report:
            case Steered() if report.asker != self._asker:
                pass  # a gateway before this one has asked
            case Steered():
                self._tell(*(Outcome(change=change) for change in self.changes.steered(report.serial, now_s)))
            case Unsteered():
                change = self.changes.unsteered(report.serial, report.prompt, report.control, now_s)
                if change is not None:
                    self._tell(Outcome(change=change, refused=report.reason))
            case Uncredited():
                self.stream.skip(report.lineage, report.chunk_number, 0)
            case Undelivered():
                self.stream.skip(report.lineage, report.number, report.count)
            case _:
                assert_never(report)

    def _tell(self, *outcomes: Outcome) -> None:
        if self.client is not None:
            self.client.outcomes.extend(outcomes)

    # What its client says.

    def attach(self, from_seq: int | None, *, acks: bool, now_s: float) -> Client:
        """The new client; whoever was there before is to go."""
        if self.client is not None:
            self.client.end = "replaced"
        self.client = Client(self.stream, from_seq, acks=acks, now_s=now_s)
        self._paused = False
        self._want_s = now_s
        return self.client

    def detach(self, client: Client, now_s: float) -> None:
        if self.client is client:
            self.client, self._absent_since_s = None, now_s
            self.playout.stops()

    def pause(self, *, paused: bool, now_s: float) -> None:
        self._paused, self._want_s = paused, now_s
        self.playout.stops()

    def update(self, prompt: str | None, control: str | None, now_s: float) -> bool:
        """False if too many changes wait."""
        return self.changes.ask(prompt, control, now_s)

    def end(self) -> None:
        self.ending = True

    # What follows.

    def wants(self, now_s: float) -> bool:
        """Whether the session is to be active."""
        present = self.client is not None or now_s < self._absent_since_s + self._limits.grace_s
        return present and not self._paused

    @property
    def is_first_chunk(self) -> bool:
        """Whether the newest chunk is the first that it ever had."""
        return self.is_created_here and self.stream.next_seq == 1

    @property
    def where(self) -> m.Where:
        return "waiting" if self.serving is None else self.serving.where

    @property
    def position(self) -> int:
        """How many wait before it."""
        if self.serving is not None:
            return self.serving.position
        return self.answer.position if isinstance(self.answer, m.Created) else 0

    @property
    def _is_wanted(self) -> bool:
        return self.where in ("waiting", "active")

    def due(self, now_s: float, *, credit: bool = True) -> list[Outgoing]:
        """What is to be said now. `credit`: there is memory for more chunks."""
        if self.ended is not None:
            return []
        self._watch_client(now_s)
        said: list[Outgoing] = []
        if self.answer is None and not self.ending:
            return self._create(now_s)
        if self.ending:
            return self._end(now_s)
        if self._awaited is not None and self.stream.has_come(self._awaited.lineage, self._awaited.up_to):
            asked, self._awaited = self._awaited, None
            said.append(m.Taken(session_id=self.session_id, lineage=asked.lineage, up_to=asked.up_to))
        said += self._want(now_s)
        written = self.changes.to_write(now_s)
        if written is not None:
            said.append(m.Prompt(session_id=self.session_id, serial=written[0], prompt=written[1]))
        if self.serving is not None and owner_of(self.serving) is not None:
            said += self._to_owner(self.serving, now_s, credit=credit)
        return said

    def next_s(self, now_s: float) -> float:
        """When `due` may have something to say although nothing has happened."""
        if self.answer is None and not self.ending:
            return self._create_s
        if self.ending:
            return self._end_s
        times = [self._absent_since_s + self._limits.forget_s] if self.client is None else []
        if self.client is None and now_s < self._absent_since_s + self._limits.grace_s:
            times.append(self._absent_since_s + self._limits.grace_s)
        slow_since_s = None if self.client is None else self.client.slow_since_s()
        if slow_since_s is not None:
            times.append(slow_since_s + self._limits.slow_s)
        if self._is_unsaid(self.wants(now_s)):
            times.append(self._want_s)
        if self._is_in_vain:
            times.append(self._ask_s)
        if self._is_quiet:
            times.append(self._credit_s + CREDIT_AGAIN_S)
        if self._needs_key_frame:
            times.append(self._key_frame_s)
        changes_s = self.changes.next_s()
        return min([*times, changes_s] if changes_s is not None else times, default=now_s + self._limits.forget_s)

    @property
    def _is_quiet(self) -> bool:
        """Whether the next chunk may come, and has not."""
        owner, lineage, number = self._credit
        served = self.serving is not None and self.serving.where == "active" and owner is not None
        return served and lineage == self.stream.lineage and number > self.stream.number

    @property
    def _is_in_vain(self) -> bool:
        """Whether a chunk or a place may come, and has not."""
        return self._is_quiet or (self.serving is not None and self.serving.where == "waiting")

    @property
    def _needs_key_frame(self) -> bool:
        misses = self.client is not None and self.client.misses_key_frame
        return misses and self.stream.begun and self.text.encoding == "h264"

    def _watch_client(self, now_s: float) -> None:
        limits = self._limits
        if self.client is None:
            self.ending = self.ending or now_s >= self._absent_since_s + limits.forget_s
            return
        slow_since_s = self.client.slow_since_s()
        if slow_since_s is not None and now_s >= slow_since_s + limits.slow_s:
            self.client.end = "slow"
            self.detach(self.client, now_s)

    def _create(self, now_s: float) -> list[Outgoing]:
        if now_s < self._create_s:
            return []
        self._create_s = now_s + AGAIN_S
        create = m.Create(
            session_id=self.session_id, tenant=self.tenant, text=self.text, token_sha256=self.token_sha256
        )
        return [create]

    def _end(self, now_s: float) -> list[Outgoing]:
        if now_s < self._end_s:
            return []
        self._end_s = now_s + AGAIN_S
        return [m.End(session_id=self.session_id)]

    def _want(self, now_s: float) -> list[Outgoing]:
        """Said until it is so; and to be told anew where the session is, if what may come does not."""
        wants = self.wants(now_s)
        unsaid = self._is_unsaid(wants) and now_s >= self._want_s
        if not unsaid and not (self._is_in_vain and now_s >= self._ask_s):
            return []
        self._is_answered = self._is_answered and self._said_active == wants
        self._said_active = wants
        self._want_s, self._ask_s = now_s + AGAIN_S, now_s + (QUIET_S if self._is_quiet else WAITING_S)
        return [m.Want(session_id=self.session_id, active=wants)]

    def _is_unsaid(self, wants: bool) -> bool:
        """What was heard before a change of mind was said does not count: it may have been so before that, too."""
        is_so = self.serving is not None and wants == self._is_wanted
        return not is_so or wants != self._said_active or not self._is_answered

    def _to_owner(self, serving: m.Serving, now_s: float, *, credit: bool) -> list[Outgoing]:
        address = owner_of(serving)
        assert address is not None
        fence: dict[str, Any] = {
            "controller_epoch": serving.controller_epoch,
            "incarnation": serving.incarnation,
            "session_id": self.session_id,
        }
        said: list[Outgoing] = []
        if serving.lineage != self.stream.lineage:
            return said  # the worker counts another lineage's chunks and changes
        step = self.changes.to_say(now_s)
        if step is not None:
            prompt, control = step.change.prompt, step.change.control
            steer = Steer(
                **fence,
                lineage=serving.lineage,
                serial=step.serial,
                prompt=prompt,
                control=control,
                asker=self._asker,
            )
            said.append(ToOwner(address=address, message=steer))
        if self._needs_key_frame and now_s >= self._key_frame_s:
            self._key_frame_s = now_s + CREDIT_AGAIN_S
            said.append(ToOwner(address=address, message=WantKeyFrame(**fence)))
        return said + self._give_credit(address, serving.lineage, fence, now_s, credit=credit)

    def _give_credit(
        self, address: Address, lineage: int, fence: dict[str, Any], now_s: float, *, credit: bool
    ) -> list[Outgoing]:
        """Only the highest counts, so that what was given stays given; and it is given again while nothing comes.

        Whoever is handed over answers it with how far it has come, so that nobody waits for chunks that are lost.
        """
        given = self._credit[2] if self._credit[:2] == (address, lineage) else 0
        up_to = max(given, self.stream.credit() if credit else 0)
        again = (self._is_quiet or self._awaited is not None) and now_s >= self._credit_s + CREDIT_AGAIN_S
        if up_to <= given and not again:
            return []
        if up_to > given:
            self._ask_s = max(self._ask_s, now_s + QUIET_S)
        self._credit, self._credit_s = (address, lineage, up_to), now_s
        if self._wanted_s is None and self._is_quiet:
            self._wanted_s = now_s
        return [ToOwner(address=address, message=Credit(**fence, lineage=lineage, up_to=up_to))]


def owner_of(serving: m.Serving) -> Address | None:
    """None if nobody owns the session."""
    return Address(worker=serving.worker, incarnation=serving.incarnation) if serving.worker else None
