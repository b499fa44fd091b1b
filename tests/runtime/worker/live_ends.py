"""The ends of the connections that workers make: the controller's and the gateway's.

Decides when an end is there and when it reads; must never know what a message says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import zmq

BIND_S = 30.0  # at most, for an address that was in use
Socket = zmq.Socket[bytes]


class End:
    """It can go, come back at the same address, and stop reading."""

    def __init__(self, context: zmq.Context[Socket], poller: zmq.Poller, frame_bytes_max: int) -> None:
        self._context, self._poller, self._frame_bytes_max = context, poller, frame_bytes_max
        self._socket = self._made()
        self.address = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"

    def close(self) -> None:
        """As if its process were gone, with all that it has not read."""
        self.read(reads=False)
        self._socket.close(linger=0)

    def open(self) -> None:
        """Another one, at the same address, as soon as the old one has let it go."""
        self._socket = self._made()
        end_s = time.monotonic() + BIND_S
        while True:
            try:
                self._socket.bind(self.address)
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or time.monotonic() >= end_s:
                    raise
                time.sleep(0.01)
            else:
                return

    def read(self, *, reads: bool) -> None:
        """Whether it reads from now on; what comes meanwhile waits."""
        if reads:
            self._poller.register(self._socket, zmq.POLLIN)
        elif self._socket in self._poller:
            self._poller.unregister(self._socket)

    def send(self, identity: str, *frames: bytes) -> None:
        """What nobody is there to hear is lost, as over any network."""
        with contextlib.suppress(zmq.ZMQError):
            self._socket.send_multipart([identity.encode(), *frames], zmq.NOBLOCK)

    def frames(self, ready: dict[Any, int]) -> Iterator[bytes]:
        """All that has come so far."""
        while self._socket in ready:
            try:
                _, frame = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield frame

    def _made(self) -> Socket:
        made: Socket = self._context.socket(zmq.ROUTER)
        made.set(zmq.ROUTER_MANDATORY, 1)
        made.set(zmq.ROUTER_HANDOVER, 1)
        made.set(zmq.MAXMSGSIZE, self._frame_bytes_max)
        self._poller.register(made, zmq.POLLIN)
        return made
