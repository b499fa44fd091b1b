"""A chunk as one binary message of a WebSocket.

Decides its header, and refuses what has another one; must never know what is in the chunk.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from runtime.gateway.limits import SEQ_MAX

# Version, flags, 2 bytes of nothing, bytes of the init segment before the body, lineage, seq.
HEADER = struct.Struct(">BBxxIQQ")
VERSION = 1
KEY_FRAME, DISCONTINUITY, GAP = 1, 2, 4


class BadFramingError(ValueError):
    """Bytes that are no chunk of this version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framed:
    """A chunk and its header."""

    key_frame: bool
    discontinuity: bool
    gap: bool
    lineage: int
    seq: int
    init: bytes
    body: bytes


def framed(chunk: Framed) -> bytes:
    flags = KEY_FRAME * chunk.key_frame | DISCONTINUITY * chunk.discontinuity | GAP * chunk.gap
    return HEADER.pack(VERSION, flags, len(chunk.init), chunk.lineage, chunk.seq) + chunk.init + chunk.body


def unframed(data: bytes) -> Framed:
    """Raises `BadFramingError`."""
    if len(data) < HEADER.size:
        raise BadFramingError(f"a chunk begins with {HEADER.size} bytes, this one has {len(data)}")
    version, flags, init_bytes, lineage, seq = HEADER.unpack_from(data)
    if version != VERSION:
        raise BadFramingError(f"the chunk has version {version}, it must have {VERSION}")
    if init_bytes > len(data) - HEADER.size or seq > SEQ_MAX:
        raise BadFramingError(f"the chunk's header says init_bytes={init_bytes} and seq={seq}; {len(data)} bytes came")
    body = HEADER.size + init_bytes
    return Framed(
        key_frame=bool(flags & KEY_FRAME),
        discontinuity=bool(flags & DISCONTINUITY),
        gap=bool(flags & GAP),
        lineage=lineage,
        seq=seq,
        init=data[HEADER.size : body],
        body=data[body:],
    )
