"""The few boxes of fragmented MP4 that are read or changed after the muxer has written them.

Decides where sequence numbers and times are in a fragment; must never know what is in the pictures.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_HEADER = struct.Struct(">I4s")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")

# ISO/IEC 14496-12: optional fields, which our muxer writes always or never.
_TFHD_DURATION = 0x000008  # of every frame
_TFHD_BEFORE_DURATION = 0x000001 | 0x000002
_TRUN_DURATION = 0x000100  # of each frame


class BadBoxesError(ValueError):
    """Bytes that are not what our encoder writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """`data[start:end]`; what the box holds begins at `inside`."""

    kind: str
    start: int
    inside: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentTimes:
    """When a fragment's pictures are shown, in the units of its track, and where that is written."""

    sequence_at: int  # 4 bytes
    start_at: int  # 8 bytes
    start: int
    duration: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes that lie there side by side."""
    end = len(data) if end is None else end
    while start < end:
        size, kind = _read(_HEADER, data, start)
        if not _HEADER.size <= size <= end - start:
            raise BadBoxesError(f"a box at byte {start} says that it has {size} bytes; {end - start} are there")
        yield Box(kind=kind.decode("latin-1"), start=start, inside=start + _HEADER.size, end=start + size)
        start += size


def split_init(data: bytes) -> tuple[bytes, bytes]:
    """The init segment (ftyp and moov), and what follows it."""
    found = list(boxes(data))
    if [box.kind for box in found[:2]] != ["ftyp", "moov"]:
        raise BadBoxesError(f"an MP4 stream begins with ftyp and moov, this with {[box.kind for box in found[:2]]}")
    return data[: found[1].end], data[found[1].end :]


def codec_string(init: bytes) -> str:
    """As browsers want it: `avc1.` and profile, constraints and level in hexadecimal digits (RFC 6381)."""
    at = init.find(b"avcC")
    if at < 0 or at + 8 > len(init):
        raise BadBoxesError("the init segment has no avcC box")
    return f"avc1.{init[at + 5 : at + 8].hex()}"


def fragment_times(fragment: bytes) -> FragmentTimes:
    """Of one moof and its mdat."""
    found = list(boxes(fragment))
    if [box.kind for box in found] != ["moof", "mdat"]:
        raise BadBoxesError(f"a fragment is a moof and an mdat, this is {[box.kind for box in found]}")
    header, track = _children(fragment, found[0], "mfhd", "traf")
    defaults, time, run = _children(fragment, track, "tfhd", "tfdt", "trun")
    (version,) = struct.unpack_from(">B", fragment, time.inside)
    if version != 1:
        raise BadBoxesError(f"tfdt has version {version}, it must have 1")
    return FragmentTimes(
        sequence_at=header.inside + 4,
        start_at=time.inside + 4,
        start=_read(_U64, fragment, time.inside + 4)[0],
        duration=_duration(fragment, defaults, run),
    )


def placed(fragment: bytes, times: FragmentTimes, *, sequence: int, start: int) -> bytes:
    """The fragment with another sequence number and another start."""
    changed = bytearray(fragment)
    _U32.pack_into(changed, times.sequence_at, sequence)
    _U64.pack_into(changed, times.start_at, start)
    return bytes(changed)


def _children(data: bytes, parent: Box, *kinds: str) -> list[Box]:
    inside = {box.kind: box for box in boxes(data, parent.inside, parent.end)}
    missing = [kind for kind in kinds if kind not in inside]
    if missing:
        raise BadBoxesError(f"{parent.kind} has no {missing[0]}")
    return [inside[kind] for kind in kinds]


def _duration(data: bytes, defaults: Box, run: Box) -> int:
    """All frames of a fragment last equally long."""
    (flags,) = _read(_U32, data, defaults.inside)
    (run_flags,) = _read(_U32, data, run.inside)
    if not flags & _TFHD_DURATION or flags & _TFHD_BEFORE_DURATION or run_flags & _TRUN_DURATION:
        raise BadBoxesError("tfhd must say how long each frame lasts, before all else, and trun must not")
    (duration,) = _read(_U32, data, defaults.inside + 8)  # after version, flags and track
    (samples,) = _read(_U32, data, run.inside + 4)
    return int(duration * samples)


def _read(form: struct.Struct, data: bytes, at: int) -> tuple[Any, ...]:
    if at + form.size > len(data):
        raise BadBoxesError(f"the data end at byte {len(data)}, within a field at byte {at}")
    return form.unpack_from(data, at)
