"""What a session's block holds: keys and values of the chunks that it still sees.

Decides where a chunk's keys and values lie in the block, and which bytes the next chunk writes; must never know how
they are computed or where the block is.

A block is [layer, 2, window, head, head_dim], keys before values, the sink's chunks first in the window and the ring's
behind them. The window is whole chunks, so a chunk is one run of tokens in each of the 2 * layers parts, and what may
be read is always a beginning of the window: a length takes the place of a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.chunk_models.chunk_model import ByteRange
from runtime.chunk_models.transformer.configuration import Configuration, Resolution

ALIGNMENT_BYTES = 512  # a row of keys or more; a vector register or a cache line at the least
PAGE_TOKENS = 256  # what paged attention reads at a time (flash attention: a multiple of 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayout:
    """The block of one resolution."""

    layers: int
    heads: int
    head_dim: int
    chunk_tokens: int
    sink_chunks: int
    ring_chunks: int
    element_bytes: int
    page_tokens: int  # the window's room is a multiple of it; 1: no pages

    @classmethod
    def of(cls, configuration: Configuration, resolution: Resolution, *, paged: bool) -> CacheLayout:
        """Single precision; paged, half of it (bfloat16) and whole pages."""
        return cls(
            layers=configuration.layers,
            heads=configuration.heads,
            head_dim=configuration.head_dim,
            chunk_tokens=configuration.tokens_per_chunk(resolution),
            sink_chunks=configuration.sink_chunks,
            ring_chunks=configuration.ring_chunks,
            element_bytes=2 if paged else 4,
            page_tokens=PAGE_TOKENS if paged else 1,
        )

    @property
    def row_bytes(self) -> int:
        """One token's keys, or its values, in one layer."""
        return self.heads * self.head_dim * self.element_bytes

    @property
    def room_tokens(self) -> int:
        """Tokens that one of the 2 * layers parts has room for."""
        window = (self.sink_chunks + self.ring_chunks) * self.chunk_tokens
        return -(-window // self.page_tokens) * self.page_tokens

    @property
    def part_bytes(self) -> int:
        return self.room_tokens * self.row_bytes

    @property
    def alignment_bytes(self) -> int:
        """A block may begin at multiples of this."""
        return max(ALIGNMENT_BYTES, self.page_tokens * self.row_bytes)

    @property
    def state_bytes(self) -> int:
        used = 2 * self.layers * self.part_bytes
        return -(-used // self.alignment_bytes) * self.alignment_bytes

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.element_bytes == 4 else torch.bfloat16

    def run_start(self, chunk: int) -> int:
        """The first token in the window of a session's chunk of this number."""
        if chunk < self.sink_chunks:
            return chunk * self.chunk_tokens
        return (self.sink_chunks + (chunk - self.sink_chunks) % self.ring_chunks) * self.chunk_tokens

    def valid_tokens(self, chunk: int) -> int:
        """How many tokens of the window this chunk attends to, itself among them."""
        return min(chunk + 1, self.sink_chunks + self.ring_chunks) * self.chunk_tokens

    def dirty(self, chunk: int) -> tuple[ByteRange, ...]:
        """One range for the keys and one for the values of each layer; neighbours are joined."""
        start = self.run_start(chunk) * self.row_bytes
        size = self.chunk_tokens * self.row_bytes
        if size == self.part_bytes:
            return (ByteRange(0, 2 * self.layers * self.part_bytes),)
        parts = (part * self.part_bytes + start for part in range(2 * self.layers))
        return tuple(ByteRange(begin, begin + size) for begin in parts)

    def view(self, arena: Tensor, offset: int) -> Tensor:
        """The block at `offset` as [layers, 2, room, heads, head_dim]; shares the arena's memory."""
        used = arena[offset : offset + 2 * self.layers * self.part_bytes].view(self.dtype)
        return used.view(self.layers, 2, self.room_tokens, self.heads, self.head_dim)
