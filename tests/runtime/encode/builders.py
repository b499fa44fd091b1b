"""Chunks whose frames say which they are, and what a player sees of their bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from runtime.encode.chunk import EncodedChunk, FinishedChunk, Kind
from runtime.encode.kinds import open_encoder
from scheduler.cluster import SessionId

FRAMES = 12
BITS = 8  # of a frame's index that are drawn
COLOURS = ((200, 40, 60), (30, 170, 60), (40, 70, 200), (230, 200, 50))  # of the lower half, from left to right


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A decoded frame."""

    index: int  # since the session's first frame, modulo 2 ** BITS
    time_s: float
    key_frame: bool
    rgb: NDArray[np.uint8]  # [height, width, 3]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.rgb.shape[1], self.rgb.shape[0]


def a_chunk(
    number: int,
    *,
    session: str = "a",
    lineage: int = 0,
    width: int = 32,
    height: int = 32,
    frames: int = FRAMES,
    frames_per_s: float = 16.0,
    kind: Kind = "h264",
    scale: int = 1,
) -> FinishedChunk:
    """Above, a frame's index in white and black stripes, lowest bit first; below, colours."""
    pictures = np.zeros((frames, height, width, 3), dtype=np.uint8)
    half = height // 2
    for frame in range(frames):
        index = number * frames + frame
        for bit in range(BITS):
            pictures[frame, :half, bit * width // BITS : (bit + 1) * width // BITS] = 255 * (index >> bit & 1)
    for at, colour in enumerate(COLOURS):
        pictures[:, half:, at * width // len(COLOURS) : (at + 1) * width // len(COLOURS)] = colour
    return FinishedChunk(
        session_id=SessionId(session),
        lineage=lineage,
        number=number,
        frames=pictures,
        frames_per_s=frames_per_s,
        kind=kind,
        scale=scale,
    )


def encoded(chunks: list[FinishedChunk], *, keys: tuple[int, ...] = ()) -> list[EncodedChunk]:
    """By one new encoder; chunks whose numbers are in `keys` begin with a key frame."""
    encoder = open_encoder(chunks[0].form)
    return [encoder.encode(chunk, key_frame=chunk.number in keys) for chunk in chunks]


def joined(made: list[EncodedChunk]) -> bytes:
    """All that a client has got."""
    return b"".join((chunk.init or b"") + chunk.body for chunk in made)


def seen(video: bytes, *, format_name: str = "mp4") -> list[Seen]:
    """What a player shows."""
    with av.open(io.BytesIO(video), "r", format=format_name) as container:
        stream = container.streams.video[0]
        return [
            Seen(
                index=index_in(rgb := frame.to_ndarray(format="rgb24").astype(np.uint8)),
                time_s=float(frame.time),
                key_frame=frame.key_frame,
                rgb=rgb,
            )
            for frame in container.decode(stream)
        ]


def index_in(rgb: NDArray[np.uint8]) -> int:
    """The index that is drawn in a picture."""
    height, width, _ = rgb.shape
    index = 0
    for bit in range(BITS):
        stripe = rgb[: height // 2, bit * width // BITS : (bit + 1) * width // BITS]
        index |= int(stripe.mean() > 127) << bit
    return index
