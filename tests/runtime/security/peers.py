"""Peers over real sockets: a server that listens as ours do, and clients with whatever keys a test gives them.

Decides how long a test waits for what has to come; must never decide who is let in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from runtime.security.certificates import SUBFOLDERS, client_keys, key_pair, make
from runtime.security.doorkeeper import Doorkeeper
from runtime.security.listening import Guard, endpoint, listen
from runtime.worker.process.addresses import CurveKeys

PATIENCE_S = 60.0
Socket = zmq.Socket[bytes]
REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class Server:
    """A controller's socket for workers, as far as who gets through is concerned."""

    def __init__(self, context: zmq.Context[Socket], keys: Path, door: Doorkeeper | None) -> None:
        guard = None
        if door is not None:
            guard = Guard(keys=key_pair(keys / "controllers/controller.key_secret"), door=door, domain="workers")
        self.door, self.context = door, context
        self._clients: list[Socket] = []
        self.socket: Socket = listen(context, zmq.ROUTER, "--listen", "tcp://127.0.0.1:0", guard=guard)
        self.monitor: Socket = self.socket.get_monitor_socket(REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.address = endpoint(self.socket)

    def client(self, keys: CurveKeys | None) -> Socket:
        """One that connects with these, and stays."""
        self._clients.append(a_client(self.context, self.address, keys))
        return self._clients[-1]

    def hear(self) -> tuple[str | None, bytes]:
        """Who has said what, by its key."""
        assert self.door is not None
        assert self.socket.poll(int(PATIENCE_S * 1000)), "nothing has come"
        _, frame = self.socket.recv_multipart(copy=False)
        return self.door.name_of("workers", frame), frame.bytes

    def event(self, mask: int) -> int:
        """The next of these that has happened to a connection."""
        while self.monitor.poll(int(PATIENCE_S * 1000)):
            event = int(recv_monitor_message(self.monitor)["event"])
            if event & mask:
                return event
        raise AssertionError("nothing has happened")


@contextmanager
def a_server(folder: Path, *, workers: int = 2, **settings: Any) -> Iterator[Server]:
    """With new certificates in `folder`."""
    make(folder, workers)
    context: zmq.Context[Socket] = zmq.Context()
    door = Doorkeeper(context, {"workers": folder / SUBFOLDERS["worker"]}, **settings)
    try:
        yield Server(context, folder, door)
    finally:
        door.close()
        context.destroy(linger=0)


def keys_of(folder: Path, name: str) -> CurveKeys:
    return client_keys(folder / f"workers/{name}.key_secret", folder / "controllers/controller.key")


def a_client(context: zmq.Context[Socket], address: str, keys: CurveKeys | None, kind: int = zmq.DEALER) -> Socket:
    made: Socket = context.socket(kind)
    if keys is not None:
        made.set(zmq.CURVE_PUBLICKEY, keys.public)
        made.set(zmq.CURVE_SECRETKEY, keys.secret)
        made.set(zmq.CURVE_SERVERKEY, keys.server)
    made.set(zmq.LINGER, 0)
    made.set(zmq.RECONNECT_IVL, 20)
    made.connect(address)
    return made


def until(there: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end_s, f"{what} does not come"
        time.sleep(0.005)
