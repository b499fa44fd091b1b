"""One TCP connection between two workers: frames of bounded length, each call with a deadline.

Decides what a frame is and when a peer counts as lost; must never know what a frame is for.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from runtime.transfer.transport import NOTE_BYTES_MAX, PART_BYTES, STALL_S, TransferError

NOTE, DATA, DONE = 1, 2, 3
_LONGEST = {NOTE: NOTE_BYTES_MAX, DATA: PART_BYTES, DONE: 0}
_MAGIC = b"EPO1"
_HEADER = struct.Struct("<4sBxxxQ")
_LOOK_S = 0.05  # how long an abort may go unnoticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a connection waits for its peer, by which clock, and how it hears that nobody waits for it any more."""

    clock: Callable[[], float]
    stopped: Callable[[], bool]
    stall_s: float = STALL_S

    def until(self, end_s: float) -> float:
        """The end of a wait for bytes that should come at once."""
        return min(end_s, self.clock() + self.stall_s)

    def check(self) -> None:
        if self.stopped():
            raise TransferError("aborted", "this side has given up")


class Wire:
    """Frames over a connected socket, which it owns."""

    def __init__(self, connected: socket.socket, patience: Patience) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self.patience = connected, patience

    def send_frame(self, kind: int, body: bytes | memoryview, end_s: float) -> None:
        """All of it, unless the peer stops reading."""
        assert len(body) <= _LONGEST[kind], f"a frame of kind {kind} may have {_LONGEST[kind]} bytes, not {len(body)}"
        self.send_bytes(_HEADER.pack(_MAGIC, kind, len(body)), end_s)
        if len(body):
            self.send_bytes(body, end_s)

    def receive_frame(self, kind: int, end_s: float) -> bytes:
        """The next frame, which must be of that kind."""
        body = bytearray(self._header(kind, end_s))
        self.receive_into(memoryview(body), end_s)
        return bytes(body)

    def receive_frame_into(self, kind: int, body: memoryview, end_s: float) -> None:
        """The next frame, which must be of that kind and length."""
        length = self._header(kind, end_s)
        if length != len(body):
            raise TransferError("malformed", f"a frame of {length} bytes where {len(body)} belong")
        self.receive_into(body, end_s)

    def send_bytes(self, body: bytes | memoryview, end_s: float) -> None:
        rest = memoryview(body)
        while rest:
            self._wait(end_s, writable=True)
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise TransferError("lost", f"the peer does not read any more: {error}") from error

    def receive_into(self, body: memoryview, end_s: float) -> None:
        rest = body
        while rest:
            self._wait(end_s, writable=False)
            try:
                count = self._socket.recv_into(rest)
            except BlockingIOError:
                continue
            except OSError as error:
                raise TransferError("lost", f"the peer does not send any more: {error}") from error
            if count == 0:
                raise TransferError("lost", "the peer has closed the connection")
            rest = rest[count:]

    def close(self) -> None:
        self._socket.close()

    def _header(self, kind: int, end_s: float) -> int:
        header = bytearray(_HEADER.size)
        self.receive_into(memoryview(header), end_s)
        magic, found, length = _HEADER.unpack(header)
        if magic != _MAGIC or found != kind or length > _LONGEST[kind]:
            raise TransferError("malformed", f"no frame of kind {kind} with at most {_LONGEST[kind]} bytes")
        return int(length)

    def _wait(self, end_s: float, *, writable: bool) -> None:
        self.patience.check()
        if wait_for(self._socket, self.patience, self.patience.until(end_s), writable=writable):
            return
        late = self.patience.clock() >= end_s
        what = "the deadline has passed" if late else f"not a byte for {self.patience.stall_s:g} s"
        raise TransferError("late" if late else "lost", what)


def wait_for(waited: socket.socket, patience: Patience, end_s: float, *, writable: bool) -> bool:
    """Until the socket is ready; False at `end_s`. An abort is noticed soon."""
    watched: list[socket.socket] = [waited]
    while True:
        left_s = end_s - patience.clock()
        look_s = max(0.0, min(_LOOK_S, left_s))
        ready = select.select([], watched, [], look_s)[1] if writable else select.select(watched, [], [], look_s)[0]
        if ready:
            return True
        if left_s <= 0:
            return False
        patience.check()
