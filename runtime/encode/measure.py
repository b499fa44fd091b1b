"""How long encoding takes on the machine at hand: `python -m runtime.encode.measure`.

Decides what is timed; must never know what a good time is.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.encode.chunk import KINDS, FinishedChunk, Kind
from runtime.encode.kinds import open_encoder
from scheduler.cluster import SessionId

SIZES = ((32, 32), (48, 48), (832, 480))  # width and height
GRAINS = (0.0, 6.0)  # standard deviation of the noise, of 255: smooth pictures and hard ones
FRAMES = 12
FRAMES_PER_S = 16.0
CHUNKS = 20  # after the first
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Of one encoder with one kind of pictures. All times are of a chunk of `FRAMES` frames."""

    kind: Kind
    width: int
    height: int
    grain: float
    first_ms: float  # with a new encoder: what a session pays after a move
    ms: tuple[float, ...]  # of each later chunk, by the clock on the wall
    processor_ms: tuple[float, ...]  # of this thread
    chunk_bytes: tuple[int, ...]


def timings(
    *,
    chunks: int = CHUNKS,
    sizes: Sequence[tuple[int, int]] = SIZES,
    kinds: Sequence[Kind] = KINDS,
    clock: Callable[[], float] = time.perf_counter,
    processor: Callable[[], float] = time.thread_time,
) -> tuple[Timing, ...]:
    """A row per size, kind and grain; one thread."""
    for kind in kinds:
        open_encoder(_chunk(kind, _pictures(32, 32, 0.0, 0), 0).form)  # the first of a process loads the libraries
    return tuple(
        _timing(kind, size, grain, chunks, clock, processor) for size in sizes for kind in kinds for grain in GRAINS
    )


def _timing(
    kind: Kind,
    size: tuple[int, int],
    grain: float,
    chunks: int,
    clock: Callable[[], float],
    processor: Callable[[], float],
) -> Timing:
    made = [_chunk(kind, _pictures(*size, grain, number), number) for number in range(chunks + 1)]
    begun_s = clock()
    encoder = open_encoder(made[0].form)
    encoder.encode(made[0], key_frame=True)
    first_s = clock() - begun_s
    wall, thread, sizes = [], [], []
    for chunk in made[1:]:
        wall_s, thread_s = clock(), processor()
        encoded = encoder.encode(chunk, key_frame=False)
        wall.append(1e3 * (clock() - wall_s))
        thread.append(1e3 * (processor() - thread_s))
        sizes.append(len(encoded.body))
    return Timing(
        kind=kind,
        width=size[0],
        height=size[1],
        grain=grain,
        first_ms=1e3 * first_s,
        ms=tuple(wall),
        processor_ms=tuple(thread),
        chunk_bytes=tuple(sizes),
    )


def _chunk(kind: Kind, frames: NDArray[np.uint8], number: int) -> FinishedChunk:
    return FinishedChunk(
        session_id=SessionId("measured"),
        lineage=0,
        number=number,
        frames=frames,
        frames_per_s=FRAMES_PER_S,
        kind=kind,
    )


def _pictures(width: int, height: int, grain: float, number: int) -> NDArray[np.uint8]:
    """A disc that circles over a gradient once in 96 frames."""
    rng = np.random.default_rng((_SEED, number))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ground = np.stack([255 * x / width, 255 * y / height, np.full_like(x, 90)], axis=-1)
    frames = np.empty((FRAMES, height, width, 3), dtype=np.uint8)
    for frame in range(FRAMES):
        angle = 2 * np.pi * (number * FRAMES + frame) / 96
        from_centre = np.hypot(x - width / 2 - width / 4 * np.cos(angle), y - height / 2 - height / 4 * np.sin(angle))
        picture = np.where((from_centre < height / 6)[..., None], np.array((240, 60, 30), dtype=np.float32), ground)
        frames[frame] = np.clip(picture + rng.normal(0, grain, picture.shape), 0, 255)
    return frames


def main() -> None:
    """Print the table, and the load beside which it was measured."""
    parser = argparse.ArgumentParser(prog="python -m runtime.encode.measure", description=main.__doc__)
    parser.add_argument("--chunks", type=int, default=CHUNKS, help="per row, after the first")
    chunks = max(1, parser.parse_args().chunks)
    before = os.getloadavg()[0]
    rows = timings(chunks=chunks)
    print(f"{chunks} chunks of {FRAMES} frames a row, {FRAMES_PER_S:g} frames/s; one thread of {os.cpu_count()} cores")
    print(f"load average (1 min): {before:.2f} before, {os.getloadavg()[0]:.2f} after")
    print("kind       size grain   first     min     p50     max  cpu p50  bytes p50 (times in ms)")
    for row in rows:
        print(
            f"{row.kind:6} {f'{row.width}x{row.height}':>8} {row.grain:5g} {row.first_ms:7.1f} {min(row.ms):7.1f} "
            f"{statistics.median(row.ms):7.1f} {max(row.ms):7.1f} {statistics.median(row.processor_ms):8.1f} "
            f"{statistics.median(row.chunk_bytes):10.0f}"
        )


if __name__ == "__main__":
    main()
