"""What is turned away before anything is looked at: floods, pages from elsewhere, bodies that are too long or too slow.

Decides the first two from the head of a request alone, so that they cost next to nothing; must never know what a body
means.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.gateway.bodies import ErrorFact
from runtime.gateway.desk import Turned
from runtime.gateway.gateway import Gateway
from runtime.gateway.origins import may_speak

CREATE_PATH = "/v1/sessions"
_STATUS: Mapping[str, int] = {"full": 429, "unusable": 400, "not now": 503}
_CODES: Mapping[str, str] = {"full": "full", "unusable": "unusable", "not now": "unavailable"}


class Doorway:
    """Around the app."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app, self._gateway, self._limits = app, gateway, gateway.config.limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin, host = (headers.get(name, b"").decode("latin-1") or None for name in (b"origin", b"host"))
        if scope["method"] not in ("GET", "HEAD") and not admits(self._gateway, origin, host):
            await _answer(send, 403, FOREIGN)
            return
        if scope["method"] == "POST" and scope["path"] == CREATE_PATH:
            turned = self._gateway.turned()
            if turned is not None:
                self._gateway.count(turned)
                await _answer(send, *answer_of(turned))
                return
        said = headers.get(b"content-length", b"0")
        body = await self._body(receive) if said.isdigit() and int(said) <= self._limits.body_bytes_max else TOO_LONG
        if isinstance(body, ErrorFact):
            await _answer(send, 408 if body is TOO_SLOW else 413, body)
            return
        first: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def replayed() -> Message:
            nonlocal first
            message, first = first, None
            return await receive() if message is None else message

        await self._app(scope, replayed, send)

    async def _body(self, receive: Receive) -> bytes | ErrorFact:
        """All of it: it is short, and comes soon."""
        found = bytearray()
        try:
            async with asyncio.timeout(self._limits.start_wait_s):
                while True:
                    message = await receive()
                    found += message.get("body", b"")
                    if len(found) > self._limits.body_bytes_max:
                        return TOO_LONG
                    if not message.get("more_body", False):
                        return bytes(found)
        except TimeoutError:
            return TOO_SLOW


def admits(gateway: Gateway, origin: str | None, host: str | None) -> bool:
    return may_speak(origin, host, gateway.config.origins, bound_to=gateway.config.http[0])


FOREIGN = ErrorFact(
    code="foreign_origin",
    message="pages of this origin may not speak with the gateway",
    field="Origin",
    fix="start the gateway with --origin and this origin",
)

TOO_LONG = ErrorFact(code="too_long", message="the body has more bytes than a body may have", fix="send less")
TOO_SLOW = ErrorFact(code="too_slow", message="the body did not come in time", fix="send it at once")


def answer_of(turned: Turned) -> tuple[int, ErrorFact]:
    retry_after_s = None if turned.refusal == "unusable" else max(1.0, turned.retry_after_s)
    fix = "change what the message names" if turned.refusal == "unusable" else "try again after retry_after_s"
    fact = ErrorFact(code=_CODES[turned.refusal], message=turned.reason, fix=fix, retry_after_s=retry_after_s)
    return _STATUS[turned.refusal], fact


def headers_of(fact: ErrorFact) -> dict[str, str]:
    return {} if fact.retry_after_s is None else {"Retry-After": str(math.ceil(fact.retry_after_s))}


async def _answer(send: Send, status: int, fact: ErrorFact) -> None:
    body = json.dumps({"error": fact.model_dump(exclude_none=True)}).encode()
    headers: dict[str, Any] = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers_of(fact)}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
