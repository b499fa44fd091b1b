"""One request over HTTP and its answer.

Decides where a gateway is, how long an answer may be and take, and which error it means; must never know what is asked.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from runtime.client.errors import (
    BrokenStreamError,
    BusyError,
    ClientError,
    Fault,
    NoSessionError,
    RefusedError,
    UnreachableError,
)
from runtime.client.messages import ErrorAnswer
from runtime.worker.process.addresses import is_loopback
from traces.errors import BadInputError

ANSWER_BYTES_MAX = 1 << 20
WAIT_S = 10.0  # for an answer
Answer = TypeVar("Answer")
_BUSY = (408, 429, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a gateway is. `tls`: whom to believe; None over plain HTTP."""

    host: str
    port: int
    path: str  # before the gateway's own, where it is behind a proxy
    tls: ssl.SSLContext | None

    @property
    def url(self) -> str:
        return f"http{self._secure}://{self._netloc}{self.path}"

    @property
    def video_url(self) -> str:
        return f"ws{self._secure}://{self._netloc}{self.path}/v1/realtime/video"

    @property
    def _secure(self) -> str:
        return "" if self.tls is None else "s"

    @property
    def _netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place_of(url: str, ca_file: Path | None) -> Place:
    """Raises `BadInputError` for what is no address, and for one over which tokens would travel in the clear."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.username or parts.query or parts.fragment:
        raise BadInputError.of("URL", f"{url!r} must be http://HOST:PORT or https://HOST:PORT")
    if parts.scheme == "http" and not is_loopback(host):
        raise BadInputError.of("URL", f"{url} leaves this machine, and tokens would travel in the clear: use https")
    tls = None
    if parts.scheme == "https":
        try:
            tls = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BadInputError.of(str(ca_file), f"must be a readable PEM file: {error}") from None
    return Place(host=host, port=port or (80 if tls is None else 443), path=parts.path.rstrip("/"), tls=tls)


async def call(
    place: Place, method: str, path: str, *, token: str = "", body: Mapping[str, Any] | None = None
) -> bytes:
    """The body of an answer that is a success. Raises `ClientError`."""
    return await asyncio.to_thread(_call, place, method, path, token, body)


def _call(place: Place, method: str, path: str, token: str, body: Mapping[str, Any] | None) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None
    if body is not None:
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    if place.tls is None:
        connection = http.client.HTTPConnection(place.host, place.port, timeout=WAIT_S)
    else:
        connection = http.client.HTTPSConnection(place.host, place.port, timeout=WAIT_S, context=place.tls)
    try:
        connection.request(method, place.path + path, data, headers)
        response = connection.getresponse()
        text = response.read(ANSWER_BYTES_MAX)
        if 200 <= response.status < 300:
            return text
        raise error_of(response.status, text, response.headers.get("Retry-After"))
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(place, error) from error
    finally:
        connection.close()


def answer_as(form: type[Answer], body: bytes) -> Answer:
    """Raises `BrokenStreamError`."""
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.DecodeError as error:
        raise unreadable(error) from error


def error_of(status: int, body: bytes, retry_after: str | None) -> ClientError:
    """What an answer means that is no success, whoever has given it."""
    try:
        fault = msgspec.json.decode(body, type=ErrorAnswer).error
    except msgspec.DecodeError:
        fault = Fault(code="failed", message=f"the answer is {status}", fix="look whether a gateway is at this address")
    if retry_after is not None and retry_after.isdecimal() and len(retry_after) < 10:
        fault = msgspec.structs.replace(fault, retry_after_s=max(fault.retry_after_s or 0.0, float(retry_after)))
    if status in _BUSY:
        return BusyError(fault)
    return NoSessionError(fault) if status == 404 else RefusedError(fault)


def unreadable(error: Exception) -> BrokenStreamError:
    fix = "use a client of the gateway's version"
    return BrokenStreamError(Fault(code="unreadable", message=f"what the gateway says is not read: {error}", fix=fix))


def unreachable(place: Place, error: Exception) -> UnreachableError | RefusedError:
    if isinstance(error, ssl.SSLCertVerificationError):
        fix = "give the certificate of whoever has signed it as ca_file (--ca-file)"
        return RefusedError(Fault(code="untrusted", message=f"{place.url}: {error.verify_message}", fix=fix))
    why = str(error) or type(error).__name__
    return UnreachableError(
        Fault(code="unreachable", message=f"no answer from {place.url}: {why}", fix="look whether a gateway runs there")
    )
