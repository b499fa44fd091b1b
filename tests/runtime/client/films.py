"""Chunks that a real encoder has made, for a worker of the test.

Decides what they show; must never know who watches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from runtime.encode.chunk import Encoder, FinishedChunk, Form, Kind
from runtime.encode.kinds import open_encoder
from scheduler.cluster import SessionId

FRAMES, SIDE, FRAMES_PER_S = 4, 32, 40.0
CHUNK_S = FRAMES / FRAMES_PER_S


def a_film(kind: Kind) -> Callable[[int, bool], tuple[bytes, bytes | None]]:
    """What `Stage.body` is to be. One session at a time: with chunk 0, another encoder begins."""
    form = Form(kind=kind, width=SIDE, height=SIDE, frames=FRAMES, frames_per_s=FRAMES_PER_S, scale=1)
    encoders: list[Encoder] = []

    def made(number: int, begins: bool) -> tuple[bytes, bytes | None]:
        if number == 0:
            encoders[:] = [open_encoder(form)]
        frames = np.full((FRAMES, SIDE, SIDE, 3), (number * 8) % 256, np.uint8)
        chunk = FinishedChunk(
            session_id=SessionId("film"),
            lineage=0,
            number=number,
            frames=frames,
            frames_per_s=FRAMES_PER_S,
            kind=kind,
        )
        encoded = encoders[0].encode(chunk, key_frame=begins or number % 16 == 0)
        return encoded.body, encoded.init

    return made
