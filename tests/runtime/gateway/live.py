"""The real gateway process, beside a stage of controller and workers, and its clients.

Decides how they are started and how long is waited; must never look into the gateway's memory.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from websockets.sync.client import ClientConnection, connect

from runtime.gateway.framing import Framed, unframed
from tests.e2e.command import EPOCHAL, environment
from tests.runtime.gateway.stage import PATIENCE_S, Stage, a_stage

ADMIN_TOKEN = "an operator's token of many letters"  # noqa: S105 - of a gateway that is gone with its test


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Of HTTP."""

    status: int
    headers: Message
    body: Any

    @property
    def error(self) -> dict[str, Any]:
        found = self.body["error"]
        assert isinstance(found, dict)
        return found


@dataclass(kw_only=True)
class Clients:
    """Whoever speaks with a gateway."""

    host: str
    port: int
    open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        given = dict(headers or {})
        if token:
            given["Authorization"] = f"Bearer {token}"
        data = raw
        if body is not None:
            data, given["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, data, given)
            response = connection.getresponse()
            text = response.read()
            kind = response.headers.get("Content-Type", "")
            found = json.loads(text) if kind.startswith("application/json") else text
            return Answer(status=response.status, headers=response.headers, body=found)
        finally:
            connection.close()

    def create(self, **changes: Any) -> dict[str, str]:
        answer = self.call("POST", "/v1/sessions", {"profile": "a", "prompt": "p", "encoding": "none"} | changes)
        assert answer.status in (201, 202), answer
        assert isinstance(answer.body, dict)
        return answer.body

    def connect(self, **settings: Any) -> ClientConnection:
        address = f"ws://{self.host}:{self.port}/v1/realtime/video"
        opened: ClientConnection = self.open.enter_context(
            connect(address, max_size=1 << 26, close_timeout=0.2, **settings)
        )
        return opened

    def start(self, session: Mapping[str, str], **changes: Any) -> ClientConnection:
        """A client that has been let in."""
        opened = self.connect()
        start = {"type": "session.start", "session_id": session["session_id"], "token": session["token"]}
        opened.send(json.dumps(start | changes))
        return opened


@dataclass(kw_only=True)
class Place(Clients):
    """Where everything is."""

    stage: Stage
    process: subprocess.Popen[str]

    def until(self, there: Callable[[], bool], claim: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not there():
            assert time.monotonic() < end_s, f"not in time: {claim}"
            assert self.stage.failure is None, self.stage.failure
            time.sleep(0.01)


def words_of(chunk: Framed) -> list[str]:
    """Lineage, number, prompt and control, as the stage writes them."""
    return chunk.body.decode().split()


def hear(opened: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of that kind; others are passed over."""
    while True:
        data = opened.recv(timeout=PATIENCE_S)
        if isinstance(data, str):
            message = json.loads(data)
            if message["type"] == kind:
                assert isinstance(message, dict)
                return message
            assert message["type"] != "error", message


def chunks(opened: ClientConnection, count: int) -> list[Framed]:
    """The next so many."""
    found: list[Framed] = []
    while len(found) < count:
        data = opened.recv(timeout=PATIENCE_S)
        if isinstance(data, bytes):
            found.append(unframed(data))
    return found


@contextlib.contextmanager
def a_gateway(stage: Stage, *options: str, workers: str) -> Iterator[Place]:
    """A gateway process for that stage."""
    arguments = ["--http", "127.0.0.1:0", "--workers", workers, "--controller", stage.address, *options]
    process = subprocess.Popen(
        [*EPOCHAL, "gateway", *arguments],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("gateway"), line + process.stderr.read()
        host, _, port = line.partition("://")[2].partition(",")[0].rpartition(":")
        place = Place(stage=stage, process=process, host=host, port=int(port))
        if "http://" in line:
            place.until(lambda: place.call("GET", "/ready").status == 200, "the gateway is ready")
        with place.open:
            yield place
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def a_place(*options: str, **settings: Any) -> Iterator[Place]:
    with a_stage(**settings) as stage, a_gateway(stage, *options, workers=stage.gateway_workers) as place:
        yield place
