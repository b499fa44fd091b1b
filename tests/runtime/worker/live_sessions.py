"""Sessions of a test, what each of their chunks must be, and the sink that takes them.

Decides what a chunk's bytes are from the ChunkModel alone, one session at a time; must never know a worker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from torch import Tensor

from runtime.chunk_models.chunk_model import Head
from runtime.worker.messages import Encoding, Text
from runtime.worker.process.messages import Delivered
from scheduler.cluster import SessionId
from tests.runtime.chunk_models.hosts import Host
from tests.runtime.worker.live_models import REFERENCES

AT_ONCE = 4  # chunks of a reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """All that is asked of one session."""

    model: str
    profile: str = "a"
    seed: int = 1
    prompt: str = "red circle"
    changes: tuple[tuple[int, str | None, str | None], ...] = ()  # from which chunk: prompt, control

    def text(self, lineage: int, encoding: Encoding) -> Text:
        return Text(profile=self.profile, seed=self.seed, prompt=self.prompt, lineage=lineage, encoding=encoding)


@cache
def _host(model: str) -> Host:
    return Host(REFERENCES[model]())


@cache
def state_bytes(model: str, profile: str) -> int:
    return _host(model).model.profiles[profile].state_bytes


class Reference:
    """A session that has the ChunkModel for itself. Chunks are made as far as somebody asks for them."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._digests: list[bytes] = []
        self._left: tuple[Head, Tensor] | None = None  # the session after those chunks

    def digest(self, number: int) -> bytes:
        while number >= len(self._digests):
            self._compute(AT_ONCE)
        return self._digests[number]

    def _compute(self, count: int) -> None:
        script, host = self._script, _host(self._script.model)
        if self._left is None:
            host.open(host.head("s", script.profile, script.seed, script.prompt))
        else:
            host.put_in(*self._left)
        for number in range(len(self._digests), len(self._digests) + count):
            for from_chunk, prompt, control in script.changes:
                if from_chunk == number:
                    host.ask("s", prompt=prompt, control=control)
            host.run_chunks(1, "s")
            self._digests.append(hashlib.sha256(host.chunks.pop(("s", number)).tobytes()).digest())
        self._left = host.take_out("s")


@cache
def reference(script: Script) -> Reference:
    return Reference(script)


@dataclass
class Sink:
    """What the gateway will do: each chunk once, in order, and never from a lower ownership epoch."""

    scripts: dict[SessionId, Script] = field(default_factory=dict)
    lineages: dict[SessionId, int] = field(default_factory=dict)
    taken: dict[SessionId, int] = field(default_factory=dict)  # chunks of the lineage
    ownerships: dict[SessionId, int] = field(default_factory=dict)  # the highest that has come
    makers: dict[SessionId, list[str]] = field(default_factory=dict)  # workers, by chunk
    encoded: dict[SessionId, list[Delivered]] = field(default_factory=dict)
    refused: int = 0
    holes: dict[SessionId, int] = field(default_factory=dict)  # the most that may be missing at its next chunk
    lost: dict[SessionId, int] = field(default_factory=dict)  # chunks in such holes

    def open(self, session_id: SessionId, script: Script, lineage: int) -> None:
        self.scripts[session_id], self.lineages[session_id] = script, lineage
        self.taken[session_id], self.ownerships[session_id], self.makers[session_id] = 0, 0, []
        self.encoded[session_id], self.lost[session_id] = [], 0

    def take(self, chunk: Delivered) -> None:
        session_id = SessionId(chunk.session_id)
        expected = self.taken.get(session_id)
        if (
            expected is None
            or chunk.lineage != self.lineages[session_id]
            or chunk.ownership < self.ownerships[session_id]
            or chunk.number < expected
        ):
            self.refused += 1
            return
        self.go_on(session_id, chunk.number)
        self.ownerships[session_id], self.taken[session_id] = chunk.ownership, chunk.number + 1
        self.makers[session_id].append(chunk.worker)
        if chunk.encoding != "none":
            self.encoded[session_id].append(chunk)
            return
        wanted = reference(self.scripts[session_id]).digest(chunk.number)
        found = hashlib.sha256(chunk.body).digest()
        assert found == wanted, f"chunk {chunk.number} of {session_id}, made by {chunk.worker}, is not what it must be"

    def go_on(self, session_id: SessionId, number: int) -> None:
        """With this chunk: those before it have come, or were lost with a gateway."""
        missing, allowed = number - self.taken[session_id], self.holes.pop(session_id, 0)
        assert missing <= allowed, f"chunk {number} of {session_id}: {missing} before it are missing"
        self.lost[session_id] += max(0, missing)
        self.taken[session_id] = max(number, self.taken[session_id])


def makers_of(makers: Sequence[str]) -> list[str]:
    """Workers in turn, without repetitions."""
    return [name for at, name in enumerate(makers) if at == 0 or makers[at - 1] != name]
