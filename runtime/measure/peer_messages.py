"""What the measuring process and its two workers say to each other, over pipes.

Decides frames and fields; must never know what is measured.
"""

from __future__ import annotations

import struct
from typing import IO, Annotated

import msgspec

from runtime.transfer.messages import Way
from runtime.worker.messages import Command, Report

FRAME_BYTES_MAX = 1 << 20
_LENGTH = struct.Struct("<I")

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Setup(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a worker is made of; the first message to it."""

    name: str
    device: str
    arena_bytes: _Count
    store_port: _Count
    chunk_s: float  # from the begin of a chunk to that of the next; 0: no chunks
    dirty_share: float  # of the state, that a chunk writes
    layer_of: str = ""  # a Wan size: chunks write one layer's cache of it instead
    neighbours: _Count = 0  # sessions of the bundled network that want chunks all the time


class Watch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Tell what the neighbours' chunks took since the last time."""


class Flat(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Send or receive bytes in one piece over a pair, as plainly as torch can."""

    way: Way
    peer: str
    incarnation: _Count
    sends: bool
    size_bytes: _Count


class Order(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A command as a controller would give it."""

    command: Command


Asked = Setup | Flat | Order | Watch


class Said(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A report, and when it was made."""

    at_s: float
    report: Report


class Mark(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something has happened: "up", "begun" (a transfer), "frozen", "posted", "flat begun" or "flat ended"."""

    at_s: float
    what: str


class Watched(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Of every chunk of the neighbours, in order."""

    at_s: float
    chunks_s: list[float]


class Made(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A chunk of a ChunkModel's session, so that it can be compared with one that stayed where it was."""

    at_s: float
    number: _Count
    mark: bytes


Answered = Said | Mark | Watched | Made

_ENCODER = msgspec.msgpack.Encoder()
ASKED = msgspec.msgpack.Decoder(Asked)
ANSWERED = msgspec.msgpack.Decoder(Answered)


def write(stream: IO[bytes], message: Asked | Answered) -> None:
    body = _ENCODER.encode(message)
    assert len(body) <= FRAME_BYTES_MAX, f"a message of {len(body)} bytes, at most {FRAME_BYTES_MAX} may go"
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def read(stream: IO[bytes]) -> bytes | None:
    """The next message; None at the end."""
    prefix = stream.read(_LENGTH.size)
    if len(prefix) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(prefix)
    body = stream.read(length) if length <= FRAME_BYTES_MAX else b""
    return body if len(body) == length else None
