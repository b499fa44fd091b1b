"""Sessions that stay on a worker and want chunks all the time, and how long theirs take.

Decides who is in a pass: all of them, always; must never know what else the worker does between two passes.
"""

from __future__ import annotations

import time

import torch

from runtime.chunk_models.chunk_model import ChunkModel, ChunkProfile, Head, Seat
from runtime.chunk_models.measure import after_chunk
from runtime.state.arena import Arena
from runtime.state.blocks import Block


def largest(model: ChunkModel) -> ChunkProfile:
    """What neighbours are sessions of."""
    return max(model.profiles.values(), key=lambda profile: profile.state_bytes)


class Neighbours:
    """The first blocks of an arena, before anybody else takes one: so they begin where the model wants them to."""

    def __init__(self, arena: Arena, model: ChunkModel, count: int) -> None:
        self._model, self._device = model, arena.device
        self._seats = [self._seat(arena, largest(model), index) for index in range(count)]
        self._passes = 0
        self._begun_s = 0.0
        self._chunks_s: list[float] = []
        model.bind(arena.memory)
        model.warm_up()
        for seat in self._seats:
            model.open(seat)

    def run_pass(self) -> None:
        """A chunk's time counts from the begin of its first pass to the end of its last, whatever lies between."""
        if self._passes == 0:
            self._begun_s = time.perf_counter()
        self._model.run_pass(self._seats)
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self._passes += 1
        if self._passes == self._model.passes_per_chunk:
            self._chunks_s.append(time.perf_counter() - self._begun_s)
            self._seats = [after_chunk(seat) for seat in self._seats]
            self._passes = 0

    def taken(self) -> list[float]:
        """Of every chunk that has ended since the last time somebody asked."""
        found, self._chunks_s = self._chunks_s, []
        return found

    def _seat(self, arena: Arena, profile: ChunkProfile, index: int) -> Seat:
        block = arena.blocks.take(profile.state_bytes)
        assert isinstance(block, Block), str(block)
        assert block.start % self._model.alignment_bytes == 0, "neighbours come first"
        name, revision = f"neighbour {index}", self._model.revision
        head = Head(session=name, profile=profile.name, seed=index, prompt="", revision=revision)
        return Seat(head=head, offset=block.start)
