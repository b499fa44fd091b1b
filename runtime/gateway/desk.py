"""All sessions of a gateway, and what is said to the controller and to workers about them.

Decides who may have another session, whom a message is for, and which rings give way when memory is short; must never
know a socket or a client's connection. Time is an argument, in seconds of any clock that only grows.
"""

from __future__ import annotations

import heapq
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, assert_never

from runtime.gateway import messages as m
from runtime.gateway.changes import AGAIN_S
from runtime.gateway.limits import Limits
from runtime.gateway.session import Outgoing, Session
from runtime.gateway.workers import Address
from runtime.worker.messages import Text
from runtime.worker.process.messages import Delivered, ToGateway, Told

HERE_S = 0.5
CONTROLLED_S = 1.0
ANSWERS_MAX = 64  # questions of operators that wait

Verdict = Literal["taken", "refused", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """Somebody is turned away, and when it may be worth another try."""

    refusal: m.Refusal
    reason: str
    retry_after_s: float


class Desk:
    """`since` grows with every start of the gateway."""

    def __init__(
        self, gateway: str, since: int, limits: Limits, new_name: Callable[[], str] = lambda: secrets.token_hex(12)
    ) -> None:
        self._gateway, self._since, self._limits, self._new_name = gateway, since, limits, new_name
        self._asker = since  # `_since` grows with each connection
        self.sessions: dict[str, Session] = {}
        self._unseen: set[str] = set()  # not said again since `since` has grown
        self.status: m.Status | None = None
        self._status_s = 0.0
        self.is_complete = False  # it has been told of every session that there is
        self._here_s = self._controlled_s = 0.0
        self._controls: Counter[str] = Counter()  # of each session, that the controller has not been told
        self._heap: list[tuple[float, str]] = []
        self._due_s: dict[str, float] = {}
        self._fed: OrderedDict[str, None] = OrderedDict()  # sessions with chunks, the longest without one first
        self.ring_bytes = 0
        self._waiting: set[str] = set()  # creates without an answer
        self._clients = 0
        self._question = 0
        self._questions: dict[int, m.Ask] = {}
        self._ask_s: dict[int, float] = {}
        self.answers: dict[int, m.Answer] = {}
        self.touched: set[str] = set()  # sessions whose clients may have something to hear

    # What clients say.

    def turned(self, now_s: float) -> Turned | None:
        """Why nobody gets a session now; None if somebody may."""
        limits, status = self._limits, self.status
        if status is None or not self.controller_is_here(now_s):
            return Turned(refusal="not now", reason="the controller is away", retry_after_s=limits.silent_s)
        if not status.accepts:
            reason = "no new sessions are taken at the moment"
            return Turned(refusal="not now", reason=reason, retry_after_s=status.retry_after_s)
        if len(self._waiting) >= limits.creates_max:
            reason = f"creates_max={limits.creates_max} creates wait for an answer"
            return Turned(refusal="full", reason=reason, retry_after_s=1.0)
        if len(self.sessions) >= limits.sessions_max:
            reason = f"there are sessions_max={limits.sessions_max} sessions"
            return Turned(refusal="full", reason=reason, retry_after_s=limits.grace_s)
        return None

    def create(self, tenant: str, text: Text, token_sha256: bytes, now_s: float) -> Session:
        """A session that waits for the controller's answer."""
        assert self.turned(now_s) is None
        session_id = self._new_name()
        assert session_id not in self.sessions
        session = Session(session_id, tenant, text, token_sha256, self._limits, now_s, asker=self._asker)
        session.is_created_here = True
        if text.control:
            session.update(None, text.control, now_s)
        self.sessions[session_id] = session
        self._waiting.add(session_id)
        self._soon(session_id, now_s)
        return session

    def has_room_for_a_client(self) -> bool:
        return self._clients < self._limits.clients_max

    def client_came(self) -> None:
        self._clients += 1

    def client_went(self) -> None:
        self._clients -= 1

    @property
    def clients(self) -> int:
        return self._clients

    def page(self, after: str, limit: int) -> list[Session]:
        """The next sessions in the order of their names."""
        names = heapq.nsmallest(limit, (name for name in self.sessions if name > after))
        return [self.sessions[name] for name in names]

    def changed(self, session_id: str, now_s: float) -> None:
        """Its client has said or taken something."""
        self._soon(session_id, now_s)

    def controlled(self, session_id: str) -> None:
        """A live control was taken."""
        self._controls[session_id] += 1

    def ask(
        self, about: m.About, version: int | None = None, session_id: str | None = None, gpu_id: str | None = None
    ) -> int | None:
        """The number of a question, whose answer will be in `answers`; None if too many wait."""
        if len(self._questions) >= ANSWERS_MAX:
            return None
        self._question += 1
        self._questions[self._question] = m.Ask(
            question=self._question, about=about, version=version, session_id=session_id, gpu_id=gpu_id
        )
        self._ask_s[self._question] = 0.0
        return self._question

    def asked(self, question: int) -> None:
        """Nobody waits for the answer any more."""
        self._questions.pop(question, None)
        self._ask_s.pop(question, None)
        self.answers.pop(question, None)

    # What the controller says.

    def controller_is_here(self, now_s: float) -> bool:
        return self.status is not None and now_s < self._status_s + self._limits.silent_s

    def is_ready(self, now_s: float) -> bool:
        return self.controller_is_here(now_s) and self.is_complete and self.status is not None and self.status.ready

    def reconnected(self) -> None:
        """What was on its way from the controller may be lost: it is to say everything again."""
        self._since += 1
        self._unseen = set(self.sessions) - self._waiting
        self._here_s = 0.0

    def heard(self, message: m.ToGateway, now_s: float) -> None:
        match message:
            case m.Status():
                self._status(message, now_s)
            case m.Answer():
                if message.question in self._questions:
                    self.answers[message.question] = message
            case m.Serving():
                self._serving(message, now_s)
            case m.Created() | m.Refused() | m.Prompted() | m.Ended() | m.AwaitTaken():
                self._about(message, now_s)
            case _:
                assert_never(message)

    def _status(self, status: m.Status, now_s: float) -> None:
        if self.status is not None and status.controller_epoch < self.status.controller_epoch:
            return
        self.status, self._status_s = status, now_s
        if status.told != self._since:
            return
        self.is_complete = True
        for session_id in self._unseen & self.sessions.keys():
            self._over(session_id, "the session is no more")
        self._unseen.clear()

    def _serving(self, serving: m.Serving, now_s: float) -> None:
        session_id = serving.session_id
        session = self.sessions.get(session_id)
        if session is None:
            session = Session(
                session_id, "", serving.text, serving.token_sha256, self._limits, now_s, asker=self._asker
            )
            self.sessions[session_id] = session
        session.served(serving, now_s)
        self._waiting.discard(session_id)
        self._unseen.discard(session_id)
        self._soon(session_id, now_s)

    def _about(self, message: m.Created | m.Refused | m.Prompted | m.Ended | m.AwaitTaken, now_s: float) -> None:
        session = self.sessions.get(message.session_id)
        if session is None:
            return
        match message:
            case m.Created():
                session.created(message)
                self._waiting.discard(message.session_id)
                self._unseen.discard(message.session_id)
            case m.Refused():
                session.refused(message)
                self._over(message.session_id, message.reason)
                return
            case m.Ended():
                self._over(message.session_id, message.reason)
                return
            case m.Prompted():
                session.prompted(message)
            case m.AwaitTaken():
                session.awaited(message)
            case _:
                assert_never(message)
        self._soon(message.session_id, now_s)

    # What workers say.

    def heard_from_worker(self, message: ToGateway, now_s: float) -> Verdict:
        session_id = message.report.session_id if isinstance(message, Told) else message.session_id
        session = self.sessions.get(session_id)
        if session is None:
            return "unknown"
        if isinstance(message, Delivered):
            if not self._delivered(session, message, now_s):
                return "refused"
        else:
            session.told(Address(worker=message.worker, incarnation=message.incarnation), message.report, now_s)
        self._soon(session_id, now_s)
        return "taken"

    def _delivered(self, session: Session, chunk: Delivered, now_s: float) -> bool:
        before = session.stream.ring_bytes
        taken = session.delivered(chunk, now_s)
        self.ring_bytes += session.stream.ring_bytes - before
        if taken:
            self._fed[session.session_id] = None
            self._fed.move_to_end(session.session_id)
            self._make_room()
        return taken

    def _make_room(self) -> None:
        """Rings that nothing was added to for longest give way first."""
        for session_id in list(self._fed) if self.ring_bytes > self._limits.memory_bytes_max else ():
            self._shed(self.sessions[session_id])
            if self.ring_bytes <= self._limits.memory_bytes_max:
                return

    def _shed(self, session: Session) -> None:
        """Its ring keeps only what a client that is there has still to take."""
        self.ring_bytes -= session.stream.shed(present=session.client is not None)
        if not session.stream.ring_bytes:
            self._fed.pop(session.session_id, None)

    # What follows.

    def due(self, now_s: float) -> list[Outgoing]:
        """All that is to be said now."""
        said: list[Outgoing] = []
        if now_s >= self._here_s:
            self._here_s = now_s + HERE_S
            said.append(m.Here(gateway=self._gateway, since=self._since, protocol=m.PROTOCOL, sent_s=now_s))
        if self._controls and now_s >= self._controlled_s:
            self._controlled_s = now_s + CONTROLLED_S
            told = tuple(self._controls.items())[: m.CONTROLLED_MAX]
            self._controls -= Counter(dict(told))
            said.append(m.Controlled(counts=told))
        for question, ask in self._questions.items():
            if question not in self.answers and now_s >= self._ask_s[question]:
                self._ask_s[question] = now_s + AGAIN_S
                said.append(ask)
        has_memory = self.ring_bytes < self._limits.memory_bytes_max
        while self._heap and self._heap[0][0] <= now_s:
            at_s, session_id = heapq.heappop(self._heap)
            session = self.sessions.get(session_id)
            if session is None or self._due_s.get(session_id) != at_s:
                continue  # it has been put off, or is no more
            if not has_memory:
                self._shed(session)
                has_memory = self.ring_bytes < self._limits.memory_bytes_max
            said += session.due(now_s, credit=has_memory)
            self.touched.add(session_id)
            next_s = session.next_s(now_s) if has_memory else min(session.next_s(now_s), now_s + AGAIN_S)
            self._soon(session_id, max(next_s, now_s + AGAIN_S / 10), anew=True)
        return said

    def next_s(self) -> float:
        """When `due` has something to say, if nothing happens before."""
        controls = [self._controlled_s] if self._controls else []
        times = [self._here_s, *controls, *(self._ask_s[at] for at in self._questions if at not in self.answers)]
        return min([*times, self._heap[0][0]] if self._heap else times)

    def _over(self, session_id: str, reason: str) -> None:
        session = self.sessions.pop(session_id)
        session.over(reason)
        self.ring_bytes -= session.stream.ring_bytes
        self._due_s.pop(session_id, None)
        self._fed.pop(session_id, None)
        self._waiting.discard(session_id)
        self._unseen.discard(session_id)
        self.touched.add(session_id)

    def _soon(self, session_id: str, at_s: float, *, anew: bool = False) -> None:
        """Look at the session then, or earlier."""
        before = self._due_s.get(session_id)
        if anew or before is None or at_s < before:
            self._due_s[session_id] = at_s
            heapq.heappush(self._heap, (at_s, session_id))
        if len(self._heap) > 4 * len(self._due_s) + ANSWERS_MAX:  # most of it has been put off since
            self._heap = [(at_s, session_id) for session_id, at_s in self._due_s.items()]
            heapq.heapify(self._heap)
