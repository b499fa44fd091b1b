"""What the sessions of a measured worker do to their blocks: chunk by chunk, and what travels beside a block.

Decides which bytes a chunk writes; must never know who owns a session, or what is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from torch import Tensor

from runtime.chunk_models.chunk_model import Chunk, ChunkModel, Head, Seat
from runtime.chunk_models.measure import after_chunk
from runtime.state.blocks import Block
from runtime.state.ranges import Range, Ranges, round_up, to_granules
from scheduler.cluster import SessionId


class Occupant(Protocol):
    """Whoever computes the sessions of one worker."""

    def open(self, session_id: SessionId, block: Block) -> None: ...

    def adopt(self, session_id: SessionId, block: Block, head: bytes) -> None: ...

    def chunk(self, session_id: SessionId) -> Ranges:
        """Compute the next chunk; what of the block it has written."""
        ...

    def head(self, session_id: SessionId) -> bytes: ...

    def forget(self, session_id: SessionId) -> None: ...


class RingOccupant:
    """A chunk fills the next part of the block with its number: as many bytes as a model writes, and no computing."""

    def __init__(self, arena: Tensor, dirty_share: float) -> None:
        self._arena, self._dirty_share = arena, dirty_share
        self._blocks: dict[SessionId, Block] = {}
        self._chunks: dict[SessionId, int] = {}

    def open(self, session_id: SessionId, block: Block) -> None:
        self._blocks[session_id], self._chunks[session_id] = block, 0

    def adopt(self, session_id: SessionId, block: Block, head: bytes) -> None:
        self._blocks[session_id], self._chunks[session_id] = block, int.from_bytes(head)

    def chunk(self, session_id: SessionId) -> Ranges:
        block, number = self._blocks[session_id], self._chunks[session_id]
        size = round_up(int(self._dirty_share * block.size_bytes))
        start = number * size % block.size_bytes
        span = Range(start, min(start + size, block.size_bytes))
        self._arena[block.start + span.start : block.start + span.end] = number % 251
        self._chunks[session_id] = number + 1
        return (span,)

    def head(self, session_id: SessionId) -> bytes:
        return self._chunks[session_id].to_bytes(8)

    def forget(self, session_id: SessionId) -> None:
        self._chunks.pop(session_id, None)
        self._blocks.pop(session_id, None)


def new_head(model: ChunkModel, profile: str, session: str) -> Head:
    """Of every session that a measured worker opens."""
    return Head(session=session, profile=profile, seed=1, prompt="", revision=model.revision)


class ModelOccupant:
    """Sessions of a ChunkModel's first profile; `heard` is told of each chunk."""

    def __init__(self, arena: Tensor, model: ChunkModel, heard: Callable[[Chunk], None]) -> None:
        self._model, self._heard = model, heard
        self._profile = next(iter(model.profiles.values()))
        self._seats: dict[SessionId, Seat] = {}
        model.bind(arena)

    def open(self, session_id: SessionId, block: Block) -> None:
        head = new_head(self._model, self._profile.name, session_id)
        self._seats[session_id] = Seat(head=head, offset=block.start)
        self._model.open(self._seats[session_id])

    def adopt(self, session_id: SessionId, block: Block, head: bytes) -> None:
        told = msgspec.msgpack.decode(head, type=Head)
        why = self._model.refusal(told)
        assert why is None, why
        self._seats[session_id] = Seat(head=told, offset=block.start)

    def chunk(self, session_id: SessionId) -> Ranges:
        seat = self._seats[session_id]
        for _ in range(self._model.passes_per_chunk):
            for chunk in self._model.run_pass([seat]):
                self._heard(chunk)
        self._seats[session_id] = after_chunk(seat)
        dirty = ((one.start, one.stop) for one in self._model.dirty(seat.head))
        return to_granules(dirty, round_up(self._profile.state_bytes))

    def head(self, session_id: SessionId) -> bytes:
        return msgspec.msgpack.encode(self._seats[session_id].head)

    def forget(self, session_id: SessionId) -> None:
        self._seats.pop(session_id, None)
        self._model.forget(session_id)
