"""Times of migrations between two processes, and of a flat send between the same two.

Decides what is timed and between which moments; must never know what a good time is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch._C._distributed_c10d import TCPStore

from runtime.measure.peer_messages import Flat, Made, Setup, Watch, Watched
from runtime.measure.peer_process import ANSWER_S, PeerProcess
from runtime.transfer import messages as m
from runtime.transfer.messages import Route, Side, Way
from runtime.worker.messages import Close, Closed, Moved, Open, Refused
from scheduler.cluster import SessionId

SESSION = SessionId("measured")
_AGAIN_S = 0.01  # before a state is opened again where there was no room yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One migration of one state."""

    seconds: float  # from the begin of the transfer until the target has staged the state
    frozen_s: float  # from the freeze until the target serves
    moved_bytes: int
    frozen_bytes: int  # that were moved while the session stood still


def device() -> str:
    """CUDA where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def ways(on: str) -> tuple[Way, ...]:
    """That work there between two workers of one node."""
    return ("nccl", "cuda-ipc", "tcp") if on == "cuda" else ("gloo", "tcp")


class TwoPeers:
    """Two workers; the state is on the first before each measurement."""

    def __init__(self, peers: Mapping[Side, PeerProcess], on: str, setup: Setup) -> None:
        self._peers, self._on, self._setup = peers, on, setup
        self._source, self._target = peers["source"], peers["target"]
        self._attempt = 0
        self._opened_bytes: int | None = None

    def flat_seconds(self, size_bytes: int) -> float:
        """One send of all bytes in one piece over a pair that is made."""
        assert not self._setup.neighbours, "a flat send overwrites neighbours"
        way: Way = "nccl" if self._on == "cuda" else "gloo"
        flat: dict[str, Any] = {"way": way, "incarnation": 0, "size_bytes": size_bytes}
        self._target.ask(Flat(peer="source", sends=False, **flat))
        self._source.ask(Flat(peer="target", sends=True, **flat))
        begun_s = max(self._target.mark("posted"), self._source.mark("flat begun"))
        ended_s = self._target.mark("flat ended")
        self._source.mark("flat ended")
        return ended_s - begun_s

    def open(self, size_bytes: int) -> None:
        """A new session at the source, where it stays and computes until it is migrated."""
        assert self._opened_bytes is None, "one session at a time"
        command = Open(session_id=SESSION, state_bytes=size_bytes, ownership=1)
        self._source.command(command)
        while isinstance(answer := self._source.said(Moved, Refused)[1], Refused):
            _wait_for_room(answer.reason)
            self._source.command(command)
        self._opened_bytes = size_bytes

    def migrate(self, way: Way, *, precopy: bool) -> Migration:
        """The session that is open, until the target serves it and the source has forgotten it."""
        assert self._opened_bytes is not None, "open comes first"
        ready = self._prepared(way, self._opened_bytes).route
        names: dict[str, Any] = {"session_id": SESSION, "attempt": self._attempt}
        back = Route(way=way, peer="target", incarnation=0, address=ready.address, token=ready.token)
        self._source.command(m.Start(**names, route=back, precopy=precopy, deadline_s=ANSWER_S))
        sent, staged = self._source.said(m.Sent)[1], self._target.said(m.Staged)
        self._target.command(m.Activate(**names, ownership=2))
        active_s = self._target.said(m.Activated)[0]
        self._source.command(m.Release(**names))
        self._source.said(m.Released)
        assert sent.digest == staged[1].digest
        begun_s, frozen_s = self._source.mark("begun"), self._source.mark("frozen")
        return Migration(
            seconds=staged[0] - begun_s,
            frozen_s=active_s - frozen_s,
            moved_bytes=sent.moved_bytes,
            frozen_bytes=sent.frozen_bytes,
        )

    def _prepared(self, way: Way, size_bytes: int) -> m.Ready:
        """A new attempt for which the target has room."""
        while True:
            self._attempt += 1
            prepare = m.Prepare(
                session_id=SESSION,
                attempt=self._attempt,
                state_bytes=size_bytes,
                route=Route(way=way, peer="source", incarnation=0),
                active=True,
                deadline_s=ANSWER_S,
                horizon=0,
            )
            self._target.command(prepare)
            answer = self._target.said(m.Ready, m.Nack)[1]
            if isinstance(answer, m.Ready):
                return answer
            _wait_for_room(answer.reason)

    def close(self) -> None:
        """The session ends where it has arrived."""
        self._target.command(Close(session_id=SESSION))
        self._target.said(Closed)
        self._opened_bytes = None

    def migration(self, size_bytes: int, way: Way, *, precopy: bool) -> Migration:
        """A new session of that size, from its first chunk to its first at the target."""
        self.open(size_bytes)
        measured = self.migrate(way, precopy=precopy)
        self.close()
        return measured

    def made(self, side: Side) -> Made:
        """The next chunk of the session there."""
        return self._peers[side].heard(Made)

    def forget_made(self) -> None:
        """Chunks that nobody has asked for."""
        for peer in self._peers.values():
            peer.drop(Made)

    def watched(self) -> dict[Side, list[float]]:
        """What the neighbours' chunks took since the last time, in seconds."""
        for peer in self._peers.values():
            peer.ask(Watch())
        return {side: peer.heard(Watched).chunks_s for side, peer in self._peers.items()}


def _wait_for_room(reason: str) -> None:
    """The lane of the migration before still holds its block for a moment."""
    assert "largest free run" in reason, reason
    time.sleep(_AGAIN_S)


@contextmanager
def two_peers(
    size_bytes: int, *, chunk_s: float, dirty_share: float = 0.0, layer_of: str = "", neighbours: int = 0
) -> Iterator[TwoPeers]:
    """Workers with room for one state of that size, and for neighbours."""
    on = device()
    store = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=ANSWER_S), False)
    sides: tuple[Side, ...] = ("source", "target")
    setups = {
        side: Setup(
            name=side,
            device=on,
            arena_bytes=size_bytes,
            store_port=store.port,
            chunk_s=chunk_s,
            dirty_share=dirty_share,
            layer_of=layer_of,
            neighbours=neighbours,
        )
        for side in sides
    }
    peers: dict[Side, PeerProcess] = {}
    try:
        for side, setup in setups.items():
            peers[side] = PeerProcess(setup)
        for peer in peers.values():
            peer.mark("up")
        yield TwoPeers(peers, on, setups["source"])
    finally:
        for peer in peers.values():
            peer.close()
