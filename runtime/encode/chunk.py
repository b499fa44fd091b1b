"""What encoding takes and what it gives: a chunk's frames, and bytes that a client appends to those it has.

Decides which pictures can be encoded and when each is shown; must never know a codec, a queue or who reads the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from scheduler.cluster import SessionId

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["h264", "mjpeg"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SIDE_MAX = 4096  # pixels, when scaled
SCALE_MAX = 64
FRAMES_MAX = 256  # of one chunk
FRAMES_PER_S_MIN = 1.0
FRAMES_PER_S_MAX = 240.0
NUMBER_MAX = 2**31 - 2  # fragments are counted from 1 in 31 bits
RATE_DENOMINATOR_MAX = 1001  # 30000/1001 and the like are exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a session's pictures come and how its client wants them; an encoder serves one form."""

    kind: Kind
    width: int  # of the frames, before they are scaled
    height: int
    frames: int  # of one chunk
    frames_per_s: float
    scale: int  # each pixel becomes a square of so many

    @property
    def rate(self) -> Fraction:
        """Frames per second, as the stream says it."""
        return Fraction(self.frames_per_s).limit_denominator(RATE_DENOMINATOR_MAX)

    @property
    def tick_s(self) -> Fraction:
        """The unit of time stamps; a frame lasts a whole number of them, `rate.denominator`."""
        return Fraction(1, self.rate.numerator)

    def frame_ticks(self, number: int, frame: int) -> int:
        """When a frame of a chunk is shown: the number alone says it, so that any encoder continues any other."""
        return (number * self.frames + frame) * self.rate.denominator


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedChunk:
    """A chunk to encode. Whoever hands it over writes to `frames` no more."""

    session_id: SessionId
    lineage: int
    number: int
    frames: NDArray[np.uint8]  # RGB, [frames, height, width, 3], in host memory
    frames_per_s: float
    kind: Kind = "h264"
    scale: int = 1

    @property
    def form(self) -> Form:
        count, height, width, _ = self.frames.shape
        return Form(
            kind=self.kind,
            width=width,
            height=height,
            frames=count,
            frames_per_s=self.frames_per_s,
            scale=self.scale,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedChunk:
    """What a client gets of one chunk: `init`, where there is one, and then `body`."""

    session_id: SessionId
    lineage: int
    number: int
    kind: Kind
    init: bytes | None  # MP4 only: an encoder begins here, and a decoder can
    body: bytes  # one moof and its mdat; or the chunk's JPEG files as parts of a multipart body
    key_frame: bool  # the first frame needs none before it


class EncoderError(Exception):
    """The codec has failed: this encoder can make no more chunks, others can."""


class RefusedError(ValueError):
    """What cannot be encoded, and what would help."""


class Encoder(Protocol):
    """Encodes the chunks of one session, in order; the first begins with a key frame, and in MP4 with an init segment.

    Equal chunks in equal order give equal bytes: one thread, no clock, no chance. Raises `EncoderError`.
    """

    def encode(self, chunk: FinishedChunk, *, key_frame: bool) -> EncodedChunk:
        """All frames of the chunk; none is kept back for later."""
        ...


def refusal_of(chunk: FinishedChunk) -> str | None:
    """Why a chunk cannot be encoded by any encoder; None if it can."""
    frames = chunk.frames
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype.name != "uint8":
        return f"frames are {frames.dtype.name} {list(frames.shape)}; they must be uint8 [frames, height, width, 3]"
    if not (0 <= chunk.number <= NUMBER_MAX and chunk.lineage >= 0):
        return f"number={chunk.number} must be >= 0 and <= {NUMBER_MAX}, lineage={chunk.lineage} must be >= 0"
    return refusal_of_form(chunk.form)


def refusal_of_form(form: Form) -> str | None:
    """Why pictures of that form cannot be encoded; None if they can."""
    if form.kind not in KINDS:
        return f"kind={form.kind} must be one of {', '.join(KINDS)}"
    if not 1 <= form.frames <= FRAMES_MAX:
        return f"frames={form.frames} must be >= 1 and <= {FRAMES_MAX}"
    if not FRAMES_PER_S_MIN <= form.frames_per_s <= FRAMES_PER_S_MAX:
        return f"frames_per_s={form.frames_per_s} must be >= {FRAMES_PER_S_MIN:g} and <= {FRAMES_PER_S_MAX:g}"
    if not 1 <= form.scale <= SCALE_MAX:
        return f"scale={form.scale} must be a whole number >= 1 and <= {SCALE_MAX}"
    for name, side in (("width", form.width), ("height", form.height)):
        scaled = side * form.scale
        if not 2 <= scaled <= SIDE_MAX:
            return f"{name}={side} times scale={form.scale} must be >= 2 and <= {SIDE_MAX}"
        if scaled % 2:
            return f"{name}={side} times scale={form.scale} must be even, as 4:2:0 video is; scale={2 * form.scale} is"
    return None


def refusal_of_pace(form: Form, before: Form) -> str | None:
    """Why chunks of that form cannot follow within a lineage, whose time stamps count chunks; None if they can."""
    if (form.frames, form.frames_per_s) == (before.frames, before.frames_per_s):
        return None
    return (
        f"frames={form.frames} and frames_per_s={form.frames_per_s:g} must stay {before.frames} and "
        f"{before.frames_per_s:g} within a lineage"
    )
