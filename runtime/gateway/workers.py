"""What the gateway and the workers say to each other, as the gateway reads and writes it.

Decides which bytes of a worker are one of its messages; must never know what follows from one.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.transfer.messages import UNREADABLE
from runtime.worker.process.messages import FromGateway, ToGateway, encoded, to_gateway

CHUNK_BYTES_MAX = 1 << 25  # of one frame from a worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One incarnation of a worker. Messages to another one never reach it."""

    worker: str
    incarnation: int

    @property
    def routing_id(self) -> bytes:
        return f"{self.worker}/{self.incarnation}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToOwner:
    """A message to whoever serves a session."""

    address: Address
    message: FromGateway

    @property
    def frame(self) -> bytes:
        return encoded(self.message)


def from_worker(routing_id: bytes, frame: bytes) -> ToGateway | None:
    """None if it is no message, or that of another worker than the one which is connected."""
    try:
        message = to_gateway(frame)
    except UNREADABLE:
        return None
    sender = Address(worker=message.worker, incarnation=message.incarnation)
    return message if sender.routing_id == routing_id else None
