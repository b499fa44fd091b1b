"""The gateway in its event loop: what was heard goes to the desk, and what follows goes out.

Decides when the desk is asked and who is woken; must never know HTTP. Used by one thread, that of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator

from runtime.gateway import messages as m
from runtime.gateway.client import Client
from runtime.gateway.config import GatewayConfig
from runtime.gateway.desk import Desk, Turned
from runtime.gateway.link import Batch, Link
from runtime.gateway.metrics import Metrics
from runtime.gateway.pictures import pictures_of
from runtime.gateway.session import Session
from runtime.gateway.tokens import Scope, digest_of, new_token, scopes_of
from runtime.worker.messages import Text
from runtime.worker.process.messages import Delivered

IDLE_S = 0.25  # at most, between two looks at what is due


class Gateway:
    """`async with gateway.running()`: the link is up, and the desk is looked after."""

    def __init__(self, config: GatewayConfig, now_s: Callable[[], float] = time.monotonic) -> None:
        self.config, self.now_s = config, now_s
        self.desk = Desk(config.name, config.since, config.limits)
        self.metrics = Metrics(self._counts, self._wheres)
        self._link = Link(config, self._heard, self._link_ended)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._answered = asyncio.Event()
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        self.closing = False

    @property
    def workers_address(self) -> str:
        return self._link.workers_address

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._link.start()
        looking = asyncio.create_task(self._look_after())
        try:
            yield
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
            await asyncio.to_thread(self._link.stop)

    def close_clients(self) -> None:
        """Every client is told that the gateway goes."""
        self.closing = True
        for session_id in list(self._waiters):
            self._touch(session_id)

    # What the app does.

    def turned(self) -> Turned | None:
        return self.desk.turned(self.now_s())

    async def create(self, tenant: str, text: Text) -> tuple[Session, str] | Turned:
        """A session that is promised, and the token that opens it."""
        turned = self.turned()
        if turned is not None:
            return self.count(turned)
        token = new_token()
        session = self.desk.create(tenant, text, digest_of(token), self.now_s())
        self._news.set()
        try:
            async with asyncio.timeout(self.config.limits.create_wait_s):
                with self.waiting(session.session_id) as touched:
                    while session.answer is None:
                        await touched.wait()
                        touched.clear()
        except TimeoutError:
            session.end()  # nobody has its token
            self.changed(session)
            return self.count(Turned(refusal="not now", reason="the controller does not answer", retry_after_s=1.0))
        except asyncio.CancelledError:
            session.end()
            self.changed(session)
            raise
        if isinstance(session.answer, m.Refused):
            answer = session.answer
            return self.count(Turned(refusal=answer.refusal, reason=answer.reason, retry_after_s=answer.retry_after_s))
        self.metrics.creates.labels("created").inc()
        return session, token

    def count(self, turned: Turned) -> Turned:
        """Somebody is turned away."""
        self.metrics.creates.labels(turned.refusal.replace(" ", "_")).inc()
        return turned

    def found(self, session_id: str, token: str | None, scope: Scope) -> Session | None:
        """None where there is no such session, and where the token does not open it: nobody learns which."""
        session = self.desk.sessions.get(session_id)
        digest = None if session is None else session.token_sha256
        allowed = scope in scopes_of(token, digest, self.config.admin_sha256)
        return session if allowed and session is not None and not session.ending else None

    def is_admin(self, token: str | None) -> bool:
        return "admin" in scopes_of(token, None, self.config.admin_sha256)

    async def ask(
        self, about: m.About, version: int | None = None, *, session_id: str | None = None, gpu_id: str | None = None
    ) -> m.Answer | Turned:
        """What the controller answers to an operator."""
        here = self.desk.controller_is_here(self.now_s())
        question = self.desk.ask(about, version, session_id, gpu_id) if here else None
        if question is None:
            reason = "too many questions wait" if here else "the controller is away"
            return Turned(refusal="not now", reason=reason, retry_after_s=1.0)
        self._news.set()
        try:
            async with asyncio.timeout(self.config.limits.ask_wait_s):
                while question not in self.desk.answers:
                    self._answered.clear()
                    await self._answered.wait()
            return self.desk.answers[question]
        except TimeoutError:
            return Turned(refusal="not now", reason="the controller does not answer", retry_after_s=1.0)
        finally:
            self.desk.asked(question)

    @contextlib.contextmanager
    def waiting(self, session_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something about the session may have changed."""
        event = asyncio.Event()
        waiters = self._waiters.setdefault(session_id, set())
        waiters.add(event)
        try:
            yield event
        finally:
            waiters.discard(event)
            if not waiters:
                self._waiters.pop(session_id, None)

    @contextlib.contextmanager
    def attached(self, session: Session, from_seq: int | None, *, acks: bool) -> Iterator[Client]:
        """A client of the session; whoever was there before is told to go."""
        client = session.attach(from_seq, acks=acks, now_s=self.now_s())
        self.changed(session)
        self._touch(session.session_id)
        try:
            yield client
        finally:
            if client.end == "slow":
                self.metrics.cut.inc()
            session.detach(client, self.now_s())
            self.changed(session)

    def changed(self, session: Session) -> None:
        """Its client has said or taken something."""
        if session.ended is None:
            self.desk.changed(session.session_id, self.now_s())
            self._news.set()

    def scrape(self) -> bytes:
        self.metrics.clients.set(self.desk.clients)
        self.metrics.ring_bytes.set(self.desk.ring_bytes)
        self.metrics.dropped.set(self._link.dropped)
        return self.metrics.text()

    # What the link says, and what follows.

    def _heard(self, batch: Batch) -> None:
        """In the link's thread."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._take, batch)

    def _link_ended(self, failure: BaseException | None) -> None:
        """In the link's thread."""
        assert self._loop is not None
        if failure is not None:
            self.failure = failure
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.failed.set)

    def _take(self, batch: Batch) -> None:
        now_s = self.now_s()
        if batch.reconnected:
            self.desk.reconnected()
        for message in batch.from_controller:
            self.desk.heard(message, now_s)
        for heard in batch.from_workers:
            verdict = self.desk.heard_from_worker(heard, now_s)
            if isinstance(heard, Delivered):
                self.metrics.chunks.labels(verdict).inc()
                if verdict == "taken":
                    self._measure(self.desk.sessions[heard.session_id], now_s)
        if self.desk.answers:
            self._answered.set()
        self._link.taken(batch, hears_workers=self.desk.is_complete)
        self._news.set()

    def _measure(self, session: Session, now_s: float) -> None:
        if session.is_first_chunk:
            self.metrics.first_chunk.observe(now_s - session.created_s)
        newest = session.stream.chunk(session.stream.next_seq - 1)
        play_s = None if newest is None else pictures_of(newest).play_s
        if play_s is not None and session.client is not None:
            self.metrics.played(play_s, session.playout.came(play_s, now_s))
        if session.chunk_s is None:
            return
        self.metrics.chunk_latency.observe(session.chunk_s)
        if play_s is not None:
            self.metrics.deadlines.labels("met" if session.chunk_s <= play_s else "late").inc()

    async def _look_after(self) -> None:
        while True:
            messages = self.desk.due(self.now_s())
            if messages:
                self._link.say(messages)
            touched, self.desk.touched = self.desk.touched, set()
            for session_id in touched:
                self._touch(session_id)
            wait_s = min(IDLE_S, max(0.0, self.desk.next_s() - self.now_s()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            self._news.clear()
            await asyncio.sleep(0)  # the loop's other work has its turn, however much there is to say

    def _touch(self, session_id: str) -> None:
        for event in self._waiters.get(session_id, ()):
            event.set()

    def _counts(self) -> dict[str, float]:
        return {} if self.desk.status is None else self.desk.status.counts

    def _wheres(self) -> Iterator[m.Where]:
        return (session.where for session in self.desk.sessions.values())
