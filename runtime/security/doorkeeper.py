"""The thread that libzmq asks about everybody who connects, and who keeps its lists as new as the folders are.

Decides when lists are read again; must never know what those who are let in say.

A key is asked about once, when its connection begins. Whoever is taken off the list while connected stays connected,
so that every message is to be looked at: `name_of` knows nobody who is not on the list any more.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from runtime.security.allow_list import AllowList, judge, read_allow_list
from traces.errors import BadInputError, Finding

LOOK_S = 1.0
_PLACE = "inproc://zeromq.zap.01"  # as the protocol has it: one for each context


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """What is new in the lists."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


class Doorkeeper:
    """For the sockets of one context, made before them. `folders`: ZAP domain -> certificates that are let in there."""

    def __init__(self, context: zmq.Context[Any], folders: Mapping[str, Path], *, look_s: float = LOOK_S) -> None:
        """Raises `BadInputError` for folders and files that cannot be used."""
        self.context, self._folders, self._look_s = context, dict(folders), look_s
        self._reading = threading.Lock()
        self._seen = self._signature()
        self._lists = {domain: read_allow_list(folder) for domain, folder in self._folders.items()}
        findings = [finding for found in self._lists.values() for finding in found.findings]
        if findings:
            raise BadInputError(findings)
        self.let_in = self.refused = 0  # connections
        self.findings: tuple[Finding, ...] = ()  # what is wrong with the folders now
        self._socket: zmq.Socket[bytes] = context.socket(zmq.REP, socket_class=zmq.Socket)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind(_PLACE)
        self._ours, self._theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="doorkeeper", daemon=True)
        self._thread.start()

    @property
    def domains(self) -> frozenset[str]:
        return frozenset(self._folders)

    def name_of(self, domain: str, frame: zmq.Frame) -> str | None:
        """Who has sent it (received with `copy=False`); None if nobody on the list of that domain has."""
        try:
            key = str(frame.get("User-Id"))
        except zmq.ZMQError:  # its connection has no user: no CURVE
            return None
        return self._lists[domain].names.get(key.encode())

    def reread(self) -> Reread:
        """Any thread. Who is on the lists then is let in from now on, and nobody else."""
        with self._reading:
            self._seen = self._signature()
            found = {domain: read_allow_list(folder) for domain, folder in self._folders.items()}
            before, after = _members(self._lists), _members(found)
            self._lists = found
            self.findings = tuple(finding for one in found.values() for finding in one.findings)
            return Reread(
                added=tuple(sorted(name for _, name in after - before)),
                removed=tuple(sorted(name for _, name in before - after)),
                findings=self.findings,
            )

    def close(self) -> None:
        """Nobody is let in any more. Before the context ends, which would wait for it."""
        self._theirs.close()
        self._thread.join()

    def _run(self) -> None:
        """Ends with `close`; if it ever fails, nobody is let in."""
        poller = zmq.Poller()
        for watched in (self._socket, self._ours.fileno()):
            poller.register(watched, zmq.POLLIN)
        look_s = time.monotonic() + self._look_s
        with contextlib.closing(self._socket), self._ours:
            while True:
                ready = dict(poller.poll(math.ceil(max(0.0, look_s - time.monotonic()) * 1000)))
                if self._ours.fileno() in ready:
                    return
                if self._socket in ready:
                    verdict = judge(self._socket.recv_multipart(), self._lists)
                    self.let_in, self.refused = self.let_in + verdict.let_in, self.refused + (not verdict.let_in)
                    self._socket.send_multipart(verdict.reply)
                if time.monotonic() >= look_s:
                    if self._signature() != self._seen:
                        self.reread()
                    look_s = time.monotonic() + self._look_s

    def _signature(self) -> tuple[object, ...]:
        """What changes when a file is added, removed or written, or its folder's mode."""
        found: list[object] = []
        for folder in self._folders.values():
            with contextlib.suppress(OSError):
                found.append((folder, folder.stat().st_mode))
                found += [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.glob("*.key"))]
        return tuple(found)


def _members(lists: Mapping[str, AllowList]) -> set[tuple[tuple[str, bytes], str]]:
    return {((domain, key), name) for domain, found in lists.items() for key, name in found.names.items()}
