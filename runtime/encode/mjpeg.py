"""Motion JPEG: every frame a JPEG file, and the files of a chunk as parts of a multipart body.

Decides how a part looks and how it is read again; must never know HTTP, or when a part is sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from av.codec.context import CodecContext, Flags
from av.error import FFmpegError
from av.video.reformatter import ColorRange

from runtime.encode.chunk import EncodedChunk, EncoderError, FinishedChunk, Form
from runtime.encode.picture import JPEG, Pictures

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

CODEC = "mjpeg"
BOUNDARY = "frame"
QUANTIZER = 3  # 2 is the finest that pays, 31 the coarsest
PARTS_MAX = 4096  # of a body that is read

_HEAD = re.compile(
    rb"--" + BOUNDARY.encode() + rb"\r\n"
    rb"Content-Type: image/jpeg\r\n"
    rb"Content-Length: (?P<length>\d{1,9})\r\n"
    rb"X-Timestamp: (?P<time>\d{1,12}\.\d{6})\r\n"
    rb"\r\n"
)
_TAIL = b"\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One frame."""

    time_s: float  # since the session's first frame
    jpeg: bytes


class MjpegEncoder:
    """Frames know nothing of each other, so that any chunk may follow any other."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._pictures = Pictures(JPEG, form.scale)
        try:
            self._context = _opened(form)
        except FFmpegError as error:
            raise EncoderError(f"{CODEC} did not open: {error}") from error

    def encode(self, chunk: FinishedChunk, *, key_frame: bool) -> EncodedChunk:  # noqa: ARG002 - each of them is one
        """The chunk's frames, each a part of a multipart body with a length and a time stamp."""
        assert chunk.form == self._form, f"{chunk.form} is not {self._form}"
        try:
            body = b"".join(self._part(chunk, frame) for frame in range(len(chunk.frames)))
        except FFmpegError as error:
            raise EncoderError(f"{CODEC} failed at chunk {chunk.number}: {error}") from error
        return EncodedChunk(
            session_id=chunk.session_id,
            lineage=chunk.lineage,
            number=chunk.number,
            kind="mjpeg",
            init=None,
            body=body,
            key_frame=True,
        )

    def _part(self, chunk: FinishedChunk, frame: int) -> bytes:
        picture = self._pictures.of(chunk.frames[frame])
        picture.pts = self._form.frame_ticks(chunk.number, frame)
        picture.time_base = self._form.tick_s
        packets = self._context.encode(picture)
        if len(packets) != 1:
            raise EncoderError(f"{CODEC} made {len(packets)} files of frame {frame} of chunk {chunk.number}")
        return part_of(Part(time_s=float(picture.pts * self._form.tick_s), jpeg=bytes(packets[0])))


def content_type() -> str:
    """Of the body that the parts make."""
    return f"multipart/x-mixed-replace; boundary={BOUNDARY}"


def part_of(part: Part) -> bytes:
    """A frame as it stands in a multipart body."""
    head = (
        f"--{BOUNDARY}\r\n"
        "Content-Type: image/jpeg\r\n"
        f"Content-Length: {len(part.jpeg)}\r\n"
        f"X-Timestamp: {part.time_s:.6f}\r\n"
        "\r\n"
    )
    return head.encode() + part.jpeg + _TAIL


def parts_of(body: bytes) -> tuple[Part, ...]:
    """The frames of one or more chunks, for whoever sends each at its time. Raises ValueError."""
    parts: list[Part] = []
    at = 0
    while at < len(body):
        head = _HEAD.match(body, at)
        if head is None:
            raise ValueError(f"byte {at}: a part begins with its boundary, type, length and time stamp")
        if len(parts) == PARTS_MAX:
            raise ValueError(f"byte {at}: a body has at most {PARTS_MAX} parts")
        end = head.end() + int(head["length"])
        if body[end : end + len(_TAIL)] != _TAIL:
            raise ValueError(f"byte {at}: the part does not end where its length says")
        parts.append(Part(time_s=float(head["time"]), jpeg=body[head.end() : end]))
        at = end + len(_TAIL)
    return tuple(parts)


def _opened(form: Form) -> VideoCodecContext:
    context = CodecContext.create("mjpeg", "w")
    context.width, context.height = form.width * form.scale, form.height * form.scale
    context.pix_fmt = "yuv420p"
    context.color_range = ColorRange.JPEG
    context.time_base = form.tick_s
    context.framerate = form.rate
    context.thread_count = 1
    context.flags |= Flags.bitexact | Flags.qscale
    context.qmin = context.qmax = QUANTIZER  # no rate control: a frame's size is its own affair
    context.open()
    return context
