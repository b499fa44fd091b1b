"""Times of migrations between two processes, and of a flat send between the same two.

Decides what is timed and between which moments; must never know what a good time is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch._C._distributed_c10d import TCPStore

from runtime.measure.peer_messages import ANSWERED, Answered, Flat, Mark, Order, Said, Setup, read, write
from runtime.transfer import messages as m
from runtime.transfer.messages import Route, Way
from runtime.transfer.quiet import quiet_environment
from runtime.worker.messages import Close, Closed, Command, Desired, Moved, Open
from scheduler.cluster import SessionId

ANSWER_S = 180.0  # for the slowest answer
SESSION = SessionId("measured")


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


class _Peer:
    """A worker process, and what it has answered."""

    def __init__(self, setup: Setup) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths, "TORCH_CPP_LOG_LEVEL": "ERROR", "NCCL_HOSTID": setup.name}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runtime.measure.peer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | dict(quiet_environment()),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asks, self._answers = self._process.stdin, self._process.stdout
        self._heard: list[Answered] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        write(self._asks, setup)

    def flat(self, flat: Flat) -> None:
        write(self._asks, flat)

    def command(self, body: Desired | m.Migrating) -> None:
        command = Command(controller_epoch=1, incarnation=1, version=1, body=body)
        write(self._asks, Order(command=command))

    def mark(self, what: str) -> float:
        """When it happened; the answer is used up."""
        return self._wait(lambda answer: isinstance(answer, Mark) and answer.what == what).at_s

    def said(self, kind: type[Any]) -> tuple[float, Any]:
        """When it was said, and what."""
        said = self._wait(lambda answer: isinstance(answer, Said) and isinstance(answer.report, kind))
        assert isinstance(said, Said)
        return said.at_s, said.report

    def close(self) -> None:
        self._asks.close()
        self._process.wait(ANSWER_S)
        self._thread.join(ANSWER_S)
        self._answers.close()

    def _listen(self) -> None:
        while (body := read(self._answers)) is not None:
            with self._news:
                self._heard.append(ANSWERED.decode(body))
                self._news.notify()

    def _wait(self, wanted: Any) -> Answered:
        end_s = time.monotonic() + ANSWER_S
        with self._news:
            while True:
                for at, answer in enumerate(self._heard):
                    if wanted(answer):
                        del self._heard[at]
                        return answer
                left_s = end_s - time.monotonic()
                assert left_s > 0, f"no answer in {ANSWER_S:g} s; heard: {self._heard}"
                assert self._process.poll() is None, f"the worker has ended with {self._process.returncode}"
                self._news.wait(min(1.0, left_s))


class TwoPeers:
    """Two workers; the state is on the first before each measurement."""

    def __init__(self, peers: Mapping[str, _Peer], on: str) -> None:
        self._source, self._target = peers["a"], peers["b"]
        self._on, self._attempt = on, 0

    def flat_seconds(self, size_bytes: int) -> float:
        """One send of all bytes in one piece over a pair that is made."""
        way: Way = "nccl" if self._on == "cuda" else "gloo"
        flat: dict[str, Any] = {"way": way, "incarnation": 0, "size_bytes": size_bytes}
        self._target.flat(Flat(peer="a", sends=False, **flat))
        self._source.flat(Flat(peer="b", sends=True, **flat))
        begun_s = max(self._target.mark("posted"), self._source.mark("flat begun"))
        ended_s = self._target.mark("flat ended")
        self._source.mark("flat ended")
        return ended_s - begun_s

    def migration(self, size_bytes: int, way: Way, *, precopy: bool) -> Migration:
        """A new session of that size, from its first chunk to its first at the target."""
        self._source.command(Open(session_id=SESSION, state_bytes=size_bytes, ownership=1))
        self._source.said(Moved)
        self._attempt += 1
        names: dict[str, Any] = {"session_id": SESSION, "attempt": self._attempt}
        route = Route(way=way, peer="a", incarnation=0)
        self._target.command(
            m.Prepare(**names, state_bytes=size_bytes, route=route, active=True, deadline_s=ANSWER_S, horizon=0)
        )
        ready = self._target.said(m.Ready)[1].route
        back = Route(way=way, peer="b", incarnation=0, address=ready.address, token=ready.token)
        self._source.command(m.Start(**names, route=back, deadline_s=ANSWER_S, precopy=precopy))
        sent, staged = self._source.said(m.Sent)[1], self._target.said(m.Staged)
        self._target.command(m.Activate(**names, ownership=2))
        active_s = self._target.said(m.Activated)[0]
        self._source.command(m.Release(**names))
        self._source.said(m.Released)
        assert sent.digest == staged[1].digest
        self._target.command(Close(session_id=SESSION))
        self._target.said(Closed)
        begun_s, frozen_s = self._source.mark("begun"), self._source.mark("frozen")
        return Migration(
            seconds=staged[0] - begun_s,
            frozen_s=active_s - frozen_s,
            moved_bytes=sent.moved_bytes,
            frozen_bytes=sent.frozen_bytes,
        )


@contextmanager
def two_peers(size_bytes: int, *, chunk_s: float, dirty_share: float) -> Iterator[TwoPeers]:
    """Workers with room for one state of that size."""
    on = device()
    store = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=ANSWER_S), False)
    peers: dict[str, _Peer] = {}
    try:
        for name in "ab":
            setup = Setup(
                name=name,
                device=on,
                arena_bytes=size_bytes,
                store_port=store.port,
                chunk_s=chunk_s,
                dirty_share=dirty_share,
            )
            peers[name] = _Peer(setup)
        for peer in peers.values():
            peer.mark("up")
        yield TwoPeers(peers, on)
    finally:
        for peer in peers.values():
            peer.close()
