"""What the gateway and the workers say to each other, as the gateway reads and writes it.

Decides which bytes of a worker are one of its messages; must never know what follows from one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from runtime.transfer.messages import UNREADABLE, Reason
from runtime.worker.messages import Undelivered
from runtime.worker.process.messages import Delivered, WantKeyFrame

CHUNK_BYTES_MAX = 1 << 25  # of one frame from a worker

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Steer(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """From this chunk on (or the next that begins, if later) the session shows this; `None` leaves it as it is."""

    controller_epoch: _Count
    incarnation: _Count
    session_id: _Name
    lineage: _Count  # of another one it has no effect
    serial: _Count
    from_chunk: _Count = 0
    prompt: Annotated[str, Meta(max_length=4096)] | None = None
    control: Annotated[str, Meta(max_length=64)] | None = None


class Credit(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The session's client takes chunks with numbers below this; no others are computed. Only the highest counts."""

    controller_epoch: _Count
    incarnation: _Count
    session_id: _Name
    lineage: _Count  # as in `Steer`
    up_to: _Count


class Steered(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Changes up to this serial are part of the session from now on, wherever it goes."""

    session_id: _Name
    lineage: _Count
    serial: _Count


class Unsteered(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A change that has no effect, and why. Its serial is free for another."""

    session_id: _Name
    lineage: _Count
    serial: _Count
    reason: Reason
    prompt: Annotated[str, Meta(max_length=4096)] | None = None
    control: Annotated[str, Meta(max_length=64)] | None = None


class Uncredited(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The answer to a `Credit` that does not reach the session's next chunk, this one; no earlier one will come now."""

    session_id: _Name
    lineage: _Count
    chunk_number: _Count


StreamReport = Steered | Unsteered | Uncredited | Undelivered


class Told(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """What became of a change or of chunks; in one order with the chunks."""

    worker: str
    incarnation: int
    controller_epoch: int
    report: StreamReport


FromWorker = Delivered | Told
ToWorker = Steer | Credit | WantKeyFrame

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


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
    message: ToWorker

    @property
    def frame(self) -> bytes:
        return _ENCODER.encode(self.message)


def from_worker(routing_id: bytes, frame: bytes) -> FromWorker | None:
    """None if it is no message, or that of another worker than the one which is connected."""
    try:
        message = _DECODER.decode(frame)
    except UNREADABLE:
        return None
    sender = Address(worker=message.worker, incarnation=message.incarnation)
    return message if sender.routing_id == routing_id else None
