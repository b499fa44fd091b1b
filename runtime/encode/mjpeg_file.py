"""A session's motion JPEG in one .mp4 file that ordinary players read.

Decides when each picture is shown, and how times go on across lineages; must never know where chunks come from.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.error import FFmpegError

from runtime.encode.boxes import BadBoxesError
from runtime.encode.chunk import EncodedChunk
from runtime.encode.mjpeg import parts_of
from runtime.encode.mp4_file import OtherStreamError
from runtime.encode.part_file import PartFile

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_TICKS_PER_S = 90_000
_TICK_S = Fraction(1, _TICKS_PER_S)
_OPTIONS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}  # playable at any time


class MjpegFile:
    """As `Mp4File`, of which it keeps the promises, for chunks of the other kind: each picture stands alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = PartFile(path)
        self._muxer = av.open(self._file.stream, "w", format="mp4", options=_OPTIONS)
        self._stream: VideoStream | None = None
        self._sides: tuple[int, int] | None = None
        self._last: tuple[int, int] | None = None  # lineage and number
        self._end = self._shift = 0  # in ticks
        self.chunks = 0  # that were written

    def append(self, encoded: EncodedChunk) -> bool:
        """Write a chunk. Returns False for one that is not newer than the last.

        Raises `OtherStreamError` for pictures of another kind or size, and `BadBoxesError` for what is no chunk.
        """
        if encoded.kind != "mjpeg":
            raise OtherStreamError(f"{self._path.name}: kind={encoded.kind} must be mjpeg")
        here = (encoded.lineage, encoded.number)
        if self._last is not None and here <= self._last:
            return False
        try:
            self._write(encoded)
        except (FFmpegError, ValueError) as error:
            if isinstance(error, OtherStreamError):
                raise
            raise BadBoxesError(f"chunk {encoded.number} is no motion JPEG: {error}") from error
        self._last = here
        self.chunks += 1
        return True

    def close(self) -> None:
        """Give the file its name; a file without chunks is removed."""
        try:
            self._muxer.close()
        finally:
            self._file.close(keep=self.chunks > 0)

    def _write(self, encoded: EncodedChunk) -> None:
        parts = parts_of(encoded.body)
        if not parts:
            raise ValueError("it has no picture")
        stream = self._stream_for(parts[0].jpeg)
        starts = [round(part.time_s * _TICKS_PER_S) for part in parts]
        each = starts[1] - starts[0] if len(starts) > 1 else _TICKS_PER_S // 10
        if self._last is None:
            self._shift = -starts[0]
        elif encoded.lineage != self._last[0]:
            self._shift = max(self._shift, self._end - starts[0])
        for start, part in zip(starts, parts, strict=True):
            packet = av.Packet(part.jpeg)
            packet.stream, packet.time_base, packet.is_keyframe = stream, _TICK_S, True
            packet.pts = packet.dts = start + self._shift
            packet.duration = each
            self._muxer.mux(packet)
        self._file.stream.flush()
        self._end = starts[-1] + self._shift + each

    def _stream_for(self, jpeg: bytes) -> VideoStream:
        """The first picture says what all are."""
        with av.open(io.BytesIO(jpeg), "r", format="jpeg_pipe") as demuxer:
            found = demuxer.streams.video[0]
            sides = (found.width, found.height)
            if 0 in sides:
                raise ValueError("a picture says no size")
            if self._stream is None:
                self._stream = self._muxer.add_stream_from_template(found, opaque=True)
                self._stream.time_base, self._sides = _TICK_S, sides
        if sides != self._sides:
            raise OtherStreamError(f"{self._path.name}: pictures are {sides[0]}x{sides[1]} from here on")
        return self._stream
