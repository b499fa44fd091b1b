"""The stream of one session, over as many connections as it takes.

Decides when a connection is opened again, where it goes on, and what is said again; must never know what is done with
chunks.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from types import TracebackType
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from runtime.client.calls import Place, error_of, unreachable, unreadable
from runtime.client.errors import (
    BusyError,
    ClientError,
    Fault,
    NoSessionError,
    RefusedError,
    ReplacedError,
    UnreachableError,
)
from runtime.client.messages import Chunk, Done, Event, Lost, Picture, Started, Ticket, Updated, message_of
from runtime.client.order import Order
from runtime.client.retries import Retries, draw
from runtime.gateway.framing import BadFramingError, unframed

MESSAGE_BYTES_MAX = (32 << 20) + (1 << 20)  # the largest chunk, and its head
OPEN_S, CLOSE_S, PING_S = 10.0, 1.0, 10.0
STEADY_S = 30.0  # a connection that has lived so long begins no row of failures

_FINAL = {1009: RefusedError, 4400: RefusedError, 4404: NoSessionError, 4409: ReplacedError}
_NOT_DONE = frozenset(("refused", "invalid", "full", "started"))  # errors after which the stream goes on


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """A token goes to the gateway that was named, and nowhere else."""
        return exc


class Video:
    """Read by one task, steered by any task of the same event loop.

    `async for chunk in video` acknowledges each chunk when the next one is asked for, so that no more is computed than
    is taken. A player that reads ahead calls `next_event` and `ack` instead. A connection that is lost is opened again,
    and goes on with the next chunk; what was asked for meanwhile is said then. Raises `ClientError`s.
    """

    def __init__(self, place: Place, ticket: Ticket, from_seq: int | None, retries: Retries) -> None:
        self._place, self._ticket, self._retries = place, ticket, retries
        self._order = Order(from_seq)
        self._connection: ClientConnection | None = None
        self._picture: Picture | None = None
        self._last_words: Fault | None = None  # of the gateway, on this connection
        self._asked: dict[str, str] = {}  # changes that nobody has confirmed
        self._paused = self._stopping = False
        self._failures, self._opened_s, self._again_s = 0, 0.0, 0.0
        self.done: Done | None = None

    async def __aenter__(self) -> Video:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Video:
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk; all before it have been taken."""
        if self._order.next_seq is not None and self._order.lineage is not None:
            await self.ack(self._order.next_seq - 1)
        while (event := await self.next_event()) is not None:
            if isinstance(event, Chunk):
                return event
            if isinstance(event, Fault):
                raise RefusedError(event)
        raise StopAsyncIteration

    @property
    def next_seq(self) -> int | None:
        """Where another client would go on; None before it has begun."""
        return self._order.next_seq

    async def next_event(self) -> Event | None:
        """What comes next; None when the session is done. A `Fault` says that something asked for was not done."""
        while self.done is None:
            try:
                connection = self._connection or await self._open()
                data = await connection.recv()
            except (WebSocketException, OSError, TimeoutError) as error:
                self._connection = None
                return self._lost(error)
            try:
                event = self._heard(data)
            except (msgspec.DecodeError, UnicodeEncodeError, BadFramingError) as error:
                raise unreadable(error) from error
            if event is not None:
                return event
        return None

    async def ack(self, seq: int) -> None:
        """All chunks up to this one have been taken: others may come."""
        await self._say("session.ack", seq=seq + 1)

    async def update(self, *, prompt: str | None = None, control: str | None = None) -> None:
        """Ask for another prompt, another control, or both. `Updated` says when chunks show it."""
        changes = {name: text for name, text in (("prompt", prompt), ("control", control)) if text is not None}
        if not changes:
            raise ValueError("update: give prompt, control or both")
        self._asked |= changes
        await self._say("session.update", **changes)

    async def pause(self) -> None:
        """No more chunks; those on their way still come."""
        self._paused = True
        await self._say("session.pause")

    async def resume(self) -> None:
        self._paused = False
        await self._say("session.resume")

    async def end(self) -> None:
        """The session is to end; chunks on their way still come, and then `Done`."""
        self._stopping = True
        await self._say("session.stop")

    async def close(self) -> None:
        """Leave; the session stays, and goes idle when nobody comes back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _open(self) -> ClientConnection:
        clock_s = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._again_s - clock_s()))
        connection = await _Connect(
            self._place.video_url,
            ssl=self._place.tls,
            max_size=MESSAGE_BYTES_MAX,
            compression=None,
            proxy=None,
            open_timeout=OPEN_S,
            close_timeout=CLOSE_S,
            ping_interval=PING_S,
            ping_timeout=PING_S,
        )
        self._connection, self._last_words, self._opened_s = connection, None, clock_s()
        names = {"session_id": self._ticket.session_id, "token": self._ticket.token}
        await self._say("session.start", **names, from_seq=self._order.next_seq, acks=True)
        if self._asked:
            await self._say("session.update", **self._asked)
        if self._paused:
            await self._say("session.pause")
        if self._stopping:
            await self._say("session.stop")
        return connection

    async def _say(self, kind: str, **fields: Any) -> None:
        """Dropped without a connection: what counts is said again by the next one."""
        if self._connection is not None:
            with suppress(ConnectionClosed):
                await self._connection.send(json.dumps({"type": kind, **fields}))

    def _heard(self, data: str | bytes) -> Event | None:
        if isinstance(data, bytes):
            return self._chunk(data)
        message = message_of(data)
        match message:
            case Started():
                self._order.started(message.from_seq)
            case Picture():
                self._picture = message
                return None
            case Updated():
                said = {"prompt": message.prompt, "control": message.control}
                self._asked = {name: text for name, text in self._asked.items() if said[name] != text}
            case Fault(code=code) if code not in _NOT_DONE:
                self._last_words = message
                return None
            case Fault():
                self._asked = {}
            case Done():
                self.done = message
        return message

    def _chunk(self, data: bytes) -> Chunk:
        framed = unframed(data)
        discontinuity = self._order.came(framed)
        if self._picture is None:
            raise BadFramingError(f"chunk {framed.seq} has come before video.start")
        self._failures = 0
        return Chunk(
            seq=framed.seq,
            lineage=framed.lineage,
            discontinuity=discontinuity,
            gap=framed.gap,
            key_frame=framed.key_frame,
            init=framed.init,
            body=framed.body,
            picture=self._picture,
        )

    def _lost(self, error: Exception) -> Lost | Done:
        """When it is tried again. Raises what does not pass by itself."""
        trouble = self._trouble(error)
        if self._stopping and isinstance(trouble, NoSessionError):
            self.done = Done(reason="ended")
            return self.done
        if not isinstance(trouble, BusyError | UnreachableError):
            raise trouble from error
        now_s = asyncio.get_running_loop().time()
        steady = self._opened_s and now_s - self._opened_s >= STEADY_S
        self._failures, self._opened_s = 1 if steady else self._failures + 1, 0.0
        if self._failures > self._retries.attempts_max:
            raise trouble from error
        pause_s = self._retries.pause_s_of(self._failures, trouble.fault.retry_after_s, draw())
        self._again_s = now_s + pause_s
        return Lost(fault=trouble.fault, pause_s=pause_s)

    def _trouble(self, error: Exception) -> ClientError:
        if isinstance(error, InvalidStatus):
            answer = error.response
            return error_of(answer.status_code, bytes(answer.body or b""), answer.headers.get("Retry-After"))
        if isinstance(error, ConnectionClosed) and error.rcvd is not None:
            code, fault = error.rcvd.code, self._last_words
            fault = fault or Fault(code="closed", message=f"the gateway has closed the connection with {code}")
            return _FINAL.get(code, UnreachableError)(fault)
        return unreachable(self._place, error)
