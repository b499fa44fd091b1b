"""The stream of one session over a WebSocket: JSON about it, and its chunks as binary messages.

Decides the order of what a client hears and when it is closed; must never know how chunks come.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, assert_never

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from runtime.gateway import bodies
from runtime.gateway.bodies import ErrorFact, client_message
from runtime.gateway.client import Client, Outcome
from runtime.gateway.doorway import FOREIGN, admits
from runtime.gateway.framing import Framed, framed
from runtime.gateway.gateway import Gateway
from runtime.gateway.pictures import Pictures, pictures_of
from runtime.gateway.session import Session
from runtime.gateway.stream import Kept

DONE, GOING = 1000, 1012
MALFORMED, NOT_FOUND, TOO_SLOW, REPLACED, BUSY = 4400, 4404, 4408, 4409, 4429
MALFORMED_MAX = 8  # messages of one client that are answered; after that it is closed
GOODBYE_S = 1.0  # for the last words


class _Over(Exception):  # noqa: N818 - how a conversation ends is no error
    """The client is told this, and closed."""

    def __init__(self, code: int, last: dict[str, Any]) -> None:
        super().__init__(last)
        self.code, self.last = code, last


async def serve(websocket: WebSocket, gateway: Gateway) -> None:
    """One client, from its handshake until it is gone."""
    headers = websocket.headers
    if not admits(gateway, headers.get("origin"), headers.get("host")):
        await _deny(websocket, 403, FOREIGN)
        return
    if not gateway.desk.has_room_for_a_client():
        message = f"there are clients_max={gateway.config.limits.clients_max} clients"
        await _deny(websocket, 503, ErrorFact(code="full", message=message, fix="try again", retry_after_s=1.0))
        return
    await websocket.accept()
    gateway.desk.client_came()
    try:
        await _converse(websocket, gateway)
    except _Over as over:
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(GOODBYE_S):
                await websocket.send_json(over.last)
                await websocket.close(over.code)
    except WebSocketDisconnect:
        pass
    finally:
        gateway.desk.client_went()


async def _deny(websocket: WebSocket, status: int, fact: ErrorFact) -> None:
    body = {"error": fact.model_dump(exclude_none=True)}
    await websocket.send_denial_response(JSONResponse(body, status_code=status))


async def _converse(websocket: WebSocket, gateway: Gateway) -> None:
    session, start = await _started(websocket, gateway)
    with (
        gateway.waiting(session.session_id) as touched,
        gateway.waiting(session.session_id) as watched,
        gateway.attached(session, start.from_seq, acks=start.acks) as client,
    ):
        conversation = _Conversation(websocket, gateway, session, client)
        tasks = [
            asyncio.create_task(conversation.listen()),
            asyncio.create_task(conversation.speak(touched)),
            asyncio.create_task(conversation.watch(watched)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in sorted(done, key=tasks.index, reverse=True):
            task.result()


async def _started(websocket: WebSocket, gateway: Gateway) -> tuple[Session, bodies.SessionStart]:
    """What the client wants, and the session that its token opens."""
    try:
        async with asyncio.timeout(gateway.config.limits.start_wait_s):
            start = client_message(await _text(websocket))
    except TimeoutError:
        raise _Over(MALFORMED, _error("no_start", "no session.start has come", fix="send it first")) from None
    if isinstance(start, ErrorFact):
        raise _Over(MALFORMED, _said(start))
    if not isinstance(start, bodies.SessionStart):
        raise _Over(MALFORMED, _error("no_start", f"{start.type} has come first", fix="send session.start first"))
    session = gateway.found(start.session_id, start.token, "attach")
    if session is None and not gateway.desk.is_complete:
        raise _Over(BUSY, _error("unavailable", "the gateway has just begun", fix="try again", retry_after_s=1.0))
    if session is None:
        raise _Over(NOT_FOUND, _said(NO_SESSION))
    return session, start


NO_SESSION = ErrorFact(
    code="not_found",
    message="there is no such session, or the token does not open it",
    fix="use session_id and token as POST /v1/sessions has answered them",
)


class _Conversation:
    """With one client."""

    def __init__(self, websocket: WebSocket, gateway: Gateway, session: Session, client: Client) -> None:
        self._websocket, self._gateway, self._session, self._client = websocket, gateway, session, client
        self._shown: Pictures | None = None
        self._told: tuple[str, int] | None = None
        self._has_init: bytes | None = None

    async def listen(self) -> None:
        """Hear the client, as fast as it may speak."""
        limits, now_s = self._gateway.config.limits, self._gateway.now_s
        allowance, filled_s, malformed = float(limits.updates_burst), now_s(), 0
        while True:
            message = client_message(await _text(self._websocket))
            if isinstance(message, ErrorFact):
                malformed += 1
                if malformed > MALFORMED_MAX:
                    raise _Over(MALFORMED, _said(message))
                await self._websocket.send_json(_said(message))
                continue
            await self._hear(message)
            allowance = min(limits.updates_burst, allowance + (now_s() - filled_s) * limits.updates_per_s) - 1
            filled_s = now_s()
            if allowance < 0:
                await asyncio.sleep(-allowance / limits.updates_per_s)

    async def _hear(self, message: Any) -> None:
        session, now_s = self._session, self._gateway.now_s()
        match message:
            case bodies.SessionStart():
                await self._websocket.send_json(_error("started", "the session has started already", field="type"))
            case bodies.SessionUpdate(prompt=None, control=None):
                fact = _error("invalid", "nothing is to change", field="prompt", fix="give prompt or control, or both")
                await self._websocket.send_json(fact)
            case bodies.SessionUpdate():
                if not session.update(message.prompt, message.control, now_s):
                    waiting = f"{session.changes.waiting} changes wait for the worker"
                    await self._websocket.send_json(_error("full", waiting, fix="wait for session.updated"))
                elif message.control is not None:
                    self._gateway.desk.controlled(session.session_id)
            case bodies.SessionPause():
                session.pause(paused=True, now_s=now_s)
            case bodies.SessionResume():
                session.pause(paused=False, now_s=now_s)
            case bodies.SessionStop():
                session.end()
            case bodies.SessionAck():
                self._client.acked(message.seq, now_s)
            case _:
                assert_never(message)
        self._gateway.changed(session)

    async def speak(self, touched: asyncio.Event) -> None:
        """Tell the client what is new, and send it what has come."""
        await self._websocket.send_json(
            {
                "type": "session.started",
                "session_id": self._session.session_id,
                "from_seq": self._client.position,
                "ahead": self._gateway.config.limits.ahead,
            }
        )
        while True:
            touched.clear()
            await self._tell_news()
            found = self._client.next_chunk()
            if found is None:
                if self._session.ended is not None:
                    raise _Over(DONE, {"type": "session.done", "reason": self._session.ended})
                await touched.wait()
                continue
            seq, kept = found
            await self._show(kept, seq)
            await self._websocket.send_bytes(self._framed(seq, kept))
            self._client.sent(seq, self._gateway.now_s())
            self._gateway.changed(self._session)

    async def watch(self, touched: asyncio.Event) -> None:
        """Notice that the client has to go, even while it does not take what it is sent."""
        while True:
            touched.clear()
            if self._client.end == "replaced":
                raise _Over(REPLACED, _error("replaced", "another client has started this session"))
            if self._client.end == "slow":
                fix = "take chunks faster, or send session.pause; then start again with from_seq"
                slow_s = self._gateway.config.limits.slow_s
                raise _Over(TOO_SLOW, _error("slow", f"no chunk was taken for {slow_s:g} s", fix=fix))
            if self._gateway.closing:
                fix = "start again with from_seq"
                raise _Over(GOING, _error("going", "the gateway stops", fix=fix, retry_after_s=1.0))
            await touched.wait()

    async def _tell_news(self) -> None:
        session = self._session
        state = (session.where, session.position)
        if state != self._told:
            self._told = state
            await self._websocket.send_json({"type": "session.state", "state": state[0], "position": state[1]})
        while self._client.outcomes:
            await self._websocket.send_json(_outcome(self._client.outcomes.pop(0)))

    async def _show(self, kept: Kept, seq: int) -> None:
        """What a player has to know, before the first chunk and whenever it changes."""
        shown = pictures_of(kept)
        if shown == self._shown:
            return
        self._shown = shown
        await self._websocket.send_json(
            {
                "type": "video.start",
                "seq": seq,
                "codec": shown.codec,
                "mime": shown.mime,
                "width": shown.width,
                "height": shown.height,
                "frames": shown.frames,
                "fps": shown.fps,
            }
        )

    def _framed(self, seq: int, kept: Kept) -> bytes:
        """The init segment comes where an encoder begins, and with the first chunk of a client."""
        init = kept.init or b""
        if init and not kept.opens and self._has_init == init:
            init = b""
        self._has_init = kept.init
        return framed(
            Framed(
                key_frame=kept.key_frame,
                discontinuity=kept.discontinuity,
                gap=kept.gap or self._client.gap,
                lineage=kept.lineage,
                seq=seq,
                init=init,
                body=kept.body,
            )
        )


async def _text(websocket: WebSocket) -> str:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text = message.get("text")
    return text if isinstance(text, str) else ""


def _outcome(outcome: Outcome) -> dict[str, Any]:
    changed = {"prompt": outcome.change.prompt, "control": outcome.change.control}
    named = {name: value for name, value in changed.items() if value is not None}
    if outcome.refused is None:
        return {"type": "session.updated", **named}
    return _error("refused", outcome.refused, field=next(iter(named), None), fix="ask for something else")


def _said(fact: ErrorFact) -> dict[str, Any]:
    return {"type": "error", **fact.model_dump(exclude_none=True)}


def _error(code: str, message: str, **more: Any) -> dict[str, Any]:
    return _said(ErrorFact(code=code, message=message, **more))
