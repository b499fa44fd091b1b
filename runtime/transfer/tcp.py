"""States over TCP, staged through host memory: works between any two workers, and the others fall back on it.

Decides who listens and who connects; must never know a controller. It listens on the loopback address unless it is
given another one.
"""

from __future__ import annotations

from torch import Tensor

from runtime.state.ranges import Ranges
from runtime.transfer.greeting import Listener, connect
from runtime.transfer.messages import Route
from runtime.transfer.staging import Staging
from runtime.transfer.transport import PartDone, Transport
from runtime.transfer.wire import DATA, NOTE, Patience, Wire

PART_BYTES = 4 << 20  # small enough that a checksum still finds the bytes in a cache


class TcpTransport:
    """Each part is one frame."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._staging = Staging(PART_BYTES)

    def send_note(self, note: bytes, end_s: float) -> None:
        self._wire.send_frame(NOTE, note, end_s)

    def receive_note(self, end_s: float) -> bytes:
        return self._wire.receive_frame(NOTE, end_s)

    def send(self, memory: Tensor, ranges: Ranges, part_done: PartDone, end_s: float) -> None:
        for span, body in self._staging.out(memory, ranges):
            part_done(span)
            self._wire.send_frame(DATA, body, end_s)

    def receive(self, memory: Tensor, ranges: Ranges, part_done: PartDone, end_s: float) -> None:
        late = memory.is_cuda  # parts are in the block when all have been received
        spans = []
        for span, body in self._staging.into(memory, ranges):
            self._wire.receive_frame_into(DATA, body, end_s)
            if late:
                spans.append(span)
            else:
                part_done(span)
        for span in spans:
            part_done(span)

    def close(self, *, finished: bool) -> None:  # noqa: ARG002 - a connection is good for one transfer
        self._wire.close()


class TcpPosted:
    """A target that waits."""

    def __init__(self, route: Route, host: str, patience: Patience) -> None:
        self._listener = Listener(host, patience)
        self.route = Route(
            way=route.way,
            peer=route.peer,
            incarnation=route.incarnation,
            address=self._listener.address,
            token=self._listener.token,
        )

    def accept(self, end_s: float) -> Transport:
        return TcpTransport(self._listener.accept(end_s))

    def close(self) -> None:
        self._listener.close()


class TcpWay:
    """How a worker reaches others over TCP."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host

    def post(self, route: Route, patience: Patience) -> TcpPosted:
        return TcpPosted(route, self._host, patience)

    def connect(self, route: Route, patience: Patience, end_s: float) -> Transport:
        return TcpTransport(connect(route.address, route.token, patience, end_s))
