"""How long passes and chunks take, between two heartbeats.

Decides what is added up and how much is kept; must never know a clock, nor what a chunk ought to take.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

from runtime.chunk_models.chunk_model import Seat
from runtime.worker.process.messages import CHUNKS_TOLD_MAX, CONTENTS_TOLD_MAX, ChunksOf, Computed, RoundsOf
from runtime.worker.process.passes import PassEnded

_Content = tuple[tuple[str, int], ...]


class RoundMeter:
    """`passed` is for the thread that computes, `take` for the one that tells."""

    def __init__(self, passes_per_chunk: int) -> None:
        self._passes_per_chunk = passes_per_chunk
        self._begun_s: dict[str, float] = {}  # of chunks in progress
        self._lock = threading.Lock()
        self._passes: dict[_Content, tuple[int, float]] = {}  # how many, and seconds
        self._chunks: dict[tuple[str, int], list[float]] = {}  # by profile and batch: seconds of each
        self._count = 0

    def passed(self, seats: Sequence[Seat], ended: PassEnded, begun_s: float, ended_s: float) -> None:
        """One pass over `seats`. It tells how long a round takes if all of them were computed together."""
        self._begun_s = {seat.head.session: self._begun_s.get(seat.head.session, begun_s) for seat in seats}
        profiles = {seat.head.session: seat.head.profile for seat in seats}
        with self._lock:
            if len(ended.parts) == 1 and not ended.blamed:
                self._add_pass(tuple(sorted(Counter(profiles.values()).items())), ended_s - begun_s)
            for chunk in ended.chunks:
                self._add_chunk((profiles[chunk.session], len(seats)), ended_s - self._begun_s.pop(chunk.session))

    def take(self) -> Computed:
        """All since the last time, as far as it was kept."""
        with self._lock:
            passes, chunks = self._passes, self._chunks
            self._passes, self._chunks, self._count = {}, {}, 0
        return Computed(
            rounds=tuple(
                RoundsOf(content=content, rounds=count / self._passes_per_chunk, seconds=seconds)
                for content, (count, seconds) in passes.items()
            ),
            chunks=tuple(
                ChunksOf(profile=profile, batch=batch, seconds=tuple(seconds))
                for (profile, batch), seconds in chunks.items()
            ),
        )

    def _add_pass(self, content: _Content, seconds: float) -> None:
        if content in self._passes or len(self._passes) < CONTENTS_TOLD_MAX:
            count, before = self._passes.get(content, (0, 0.0))
            self._passes[content] = (count + 1, before + seconds)

    def _add_chunk(self, key: tuple[str, int], seconds: float) -> None:
        if self._count < CHUNKS_TOLD_MAX:
            self._count += 1
            self._chunks.setdefault(key, []).append(seconds)
