"""What a client is told about the video before its first chunk, as far as the chunk itself says it.

Decides codec, size and pace from the bytes that a worker has encoded; must never know a codec's library. What cannot be
read is left out: a client's player reads the same bytes.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from runtime.encode.boxes import BadBoxesError, Box, boxes, codec_string, fragment_times
from runtime.gateway.stream import Kept

_PART = re.compile(
    rb"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: (\d{1,9})\r\n"
    rb"X-Timestamp: (\d{1,12}\.\d{6})\r\n\r\n"
)
_PARTS_MAX = 4096
_SIZES = frozenset((0xC0, 0xC1, 0xC2))  # JPEG segments that begin with height and width


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Of one chunk; None: it does not say."""

    codec: str
    mime: str
    width: int | None = None
    height: int | None = None
    frames: int | None = None  # of one chunk
    fps: float | None = None

    @property
    def play_s(self) -> float | None:
        """How long the chunk plays."""
        return self.frames / self.fps if self.frames and self.fps else None


def pictures_of(kept: Kept) -> Pictures:
    try:
        if kept.encoding == "h264":
            return _of_h264(kept)
        return _of_mjpeg(kept) if kept.encoding == "mjpeg" else _of_raw(kept)
    except (BadBoxesError, struct.error, IndexError, ZeroDivisionError):
        return Pictures(codec=kept.encoding, mime="application/octet-stream")


def _of_raw(kept: Kept) -> Pictures:
    frames, height, width, _ = kept.shape if len(kept.shape) == 4 else (None, None, None, 3)
    return Pictures(codec="raw", mime="application/octet-stream", width=width, height=height, frames=frames)


def _of_h264(kept: Kept) -> Pictures:
    if kept.init is None:
        raise BadBoxesError("there is no init segment")
    codec = codec_string(kept.init)
    track = _inside(kept.init, _inside(kept.init, None, "moov"), "trak")
    header = _inside(kept.init, track, "tkhd")
    width, height = struct.unpack(">II", kept.init[header.end - 8 : header.end])  # 16.16 fixed point
    media = _inside(kept.init, _inside(kept.init, track, "mdia"), "mdhd")
    version = kept.init[media.inside]
    (scale,) = struct.unpack_from(">I", kept.init, media.inside + (20 if version == 1 else 12))
    run = _inside(kept.body, _inside(kept.body, _inside(kept.body, None, "moof"), "traf"), "trun")
    (frames,) = struct.unpack_from(">I", kept.body, run.inside + 4)
    return Pictures(
        codec=codec,
        mime=f'video/mp4; codecs="{codec}"',
        width=width >> 16,
        height=height >> 16,
        frames=frames,
        fps=round(scale * frames / fragment_times(kept.body).duration, 3),
    )


def _inside(data: bytes, parent: Box | None, kind: str) -> Box:
    for box in boxes(data) if parent is None else boxes(data, parent.inside, parent.end):
        if box.kind == kind:
            return box
    raise BadBoxesError(f"there is no {kind}")


def _of_mjpeg(kept: Kept) -> Pictures:
    times: list[float] = []
    width = height = at = 0
    while (part := _PART.match(kept.body, at)) is not None and len(times) < _PARTS_MAX:
        if not times:
            width, height = _jpeg_size(kept.body, part.end())
        times.append(float(part[2]))
        at = part.end() + int(part[1]) + 2
    if not times:
        raise BadBoxesError("there is no part")
    fps = round((len(times) - 1) / (times[-1] - times[0]), 2) if len(times) > 1 else None
    mime = "multipart/x-mixed-replace; boundary=frame"
    return Pictures(codec="mjpeg", mime=mime, width=width, height=height, frames=len(times), fps=fps)


def _jpeg_size(data: bytes, at: int) -> tuple[int, int]:
    at += 2  # the start of the file
    while data[at] == 0xFF:
        length, height, width = struct.unpack(">HxHH", data[at + 2 : at + 9])
        if data[at + 1] in _SIZES:
            return width, height
        at += 2 + length
    raise BadBoxesError("a JPEG file says no size")
