"""A ChunkModel with the cache of a large video transformer, in its real shapes, and next to none of its computing.

Decides what a chunk writes into real keys and values, so that it proves the session's history; must never know weights.
It is for trying out memory, copies and migrations where the network itself would take minutes a chunk.

A chunk reads all of the block that it does not write (its checksum), lets a few tokens attend to the whole window, and
fills its keys and values with numbers drawn from what it has read. A byte that was lost changes every chunk from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from runtime.chunk_models.chunk_model import (
    ByteRange,
    Chunk,
    ChunkProfile,
    Head,
    RefusedError,
    Seat,
    refusal_of,
    revision_of,
)
from runtime.chunk_models.transformer.cache import CacheLayout
from runtime.state.checksum import digest
from runtime.state.ranges import GRANULE_BYTES, Ranges, to_granules

FRAMES, SIDE = 3, 16  # of every chunk, whatever the profile
FRAMES_PER_S = 16.0


class LayerCacheChunkModel:
    """Sessions of some layouts. `query_tokens` of a chunk's tokens attend to the window, which is what takes time."""

    def __init__(self, layouts: Mapping[str, CacheLayout], *, query_tokens: int, device: str = "cpu") -> None:
        for name, layout in layouts.items():
            sizes = (layout.part_bytes, layout.chunk_tokens * layout.row_bytes)
            assert all(size % GRANULE_BYTES == 0 for size in sizes), f"{name}: {sizes} must be whole granules"
        self._layouts, self._queries, self._device = layouts, query_tokens, torch.device(device)
        self._profiles = {
            name: ChunkProfile(
                name=name,
                width=SIDE,
                height=SIDE,
                frames=FRAMES,
                frames_per_s=FRAMES_PER_S,
                state_bytes=layout.state_bytes,
            )
            for name, layout in layouts.items()
        }
        shapes = {name: repr(layout).encode() for name, layout in layouts.items()}
        self._revision = revision_of(shapes | {"layer-cache/1": str(query_tokens).encode()})
        self._arena: Tensor | None = None

    @property
    def revision(self) -> str:
        return self._revision

    @property
    def profiles(self) -> Mapping[str, ChunkProfile]:
        return self._profiles

    @property
    def alignment_bytes(self) -> int:
        return max(layout.alignment_bytes for layout in self._layouts.values())

    @property
    def passes_per_chunk(self) -> int:
        return 1

    def refusal(self, head: Head) -> str | None:
        return refusal_of(self, head)

    def bind(self, arena: Tensor) -> None:
        assert self._arena is None, "bound once"
        assert arena.dtype == torch.uint8, "an arena of bytes"
        assert arena.dim() == 1, "an arena is a row of bytes"
        assert arena.is_contiguous(), "an arena is a row of bytes"
        self._arena = arena

    def warm_up(self) -> None:
        """Nothing is slow at first."""

    def open(self, seat: Seat) -> None:
        self._block(seat).zero_()

    def run_pass(self, seats: Sequence[Seat]) -> tuple[Chunk, ...]:
        assert len({seat.head.session for seat in seats}) == len(seats), "a session is in a pass once"
        for seat in seats:
            self._block(seat)
        with torch.inference_mode():
            return tuple(self._chunk(seat) for seat in seats)

    def forget(self, session: str) -> None:
        """A chunk is one pass: nothing is ever in progress between two."""

    def dirty(self, head: Head) -> tuple[ByteRange, ...]:
        return self._layouts[head.profile].dirty(head.chunk_number)

    def _chunk(self, seat: Seat) -> Chunk:
        head, block, layout = seat.head, self._block(seat), self._layouts[seat.head.profile]
        history = hashlib.blake2b(digest(block, self._clean(head)).to_bytes(8), digest_size=32)
        for text in (str(head.seed), str(head.chunk_number), head.profile, head.prompt, head.control):
            history.update(f"{len(text)}:{text}".encode())
        self._write(layout, seat, int.from_bytes(history.digest()[:7]))
        frames = np.resize(np.frombuffer(history.digest(), np.uint8), (FRAMES, SIDE, SIDE, 3))
        return Chunk(session=head.session, lineage=head.lineage, number=head.chunk_number, frames=frames)

    def _write(self, layout: CacheLayout, seat: Seat, seed: int) -> None:
        """Keys and values of the chunk: numbers, moved by what a few tokens see of the window with these keys in it."""
        assert self._arena is not None, "bind comes first"
        cache, start = layout.view(self._arena, seat.offset), layout.run_start(seat.head.chunk_number)
        run, valid = slice(start, start + layout.chunk_tokens), layout.valid_tokens(seat.head.chunk_number)
        words = torch.empty(layout.chunk_tokens * layout.heads * layout.head_dim // 8, dtype=torch.int64)
        words.random_(generator=torch.Generator().manual_seed(seed))
        drawn = words.view(torch.int8).to(self._device, layout.dtype) / 128
        numbers = drawn.view(layout.chunk_tokens, layout.heads, layout.head_dim)
        for layer in cache:
            layer[:, run] = numbers
            keys, values = (part[:valid].transpose(0, 1)[None] for part in layer)
            asks = numbers[: self._queries].transpose(0, 1)[None]
            seen = functional.scaled_dot_product_attention(asks, keys, values)
            layer[1, run] += seen.mean(dim=(0, 2))

    def _clean(self, head: Head) -> Ranges:
        size = self._layouts[head.profile].state_bytes
        dirty = to_granules([(one.start, one.stop) for one in self.dirty(head)], size)
        starts, ends = [0, *(span.end for span in dirty)], [*(span.start for span in dirty), size]
        return to_granules(zip(starts, ends, strict=True), size)

    def _block(self, seat: Seat) -> Tensor:
        why = self.refusal(seat.head)
        if why is not None:
            raise RefusedError(f"session {seat.head.session!r}: {why}")
        assert self._arena is not None, "bind comes first"
        end = seat.offset + self._profiles[seat.head.profile].state_bytes
        assert seat.offset % self.alignment_bytes == 0, "blocks are aligned"
        assert 0 <= seat.offset < end <= self._arena.numel(), "blocks lie in the arena"
        return self._arena[seat.offset : end]
