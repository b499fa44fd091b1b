"""One layer's cache of a Wan session, in its real shapes, and how its chunks are compared.

Decides how much is computed: so little that a processor makes a chunk in a second or two; must never know where a
session is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from runtime.chunk_models.chunk_model import Chunk, Seat
from runtime.chunk_models.layer_cache import LayerCacheChunkModel
from runtime.chunk_models.measure import after_chunk
from runtime.chunk_models.wan_sizes import WAN_SIZES
from runtime.measure.occupants import new_head
from runtime.measure.timing import timed

QUERY_TOKENS = 8  # of 4680, all of which would keep a processor busy for far longer than a migration takes
_MARK_BYTES = 32  # the hash that a chunk's frames are made of


def one_layer(name: str, device: str) -> LayerCacheChunkModel:
    return LayerCacheChunkModel({name: WAN_SIZES[name].layout(layers=1)}, query_tokens=QUERY_TOKENS, device=device)


def mark_of(chunk: Chunk) -> bytes:
    """Tells everything about a chunk of such a layer."""
    return chunk.frames.tobytes()[:_MARK_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stayed:
    """A chunk of a session that was never moved."""

    mark: bytes
    seconds: float


def stayed(name: str, device: str, session: str, chunks: int) -> list[Stayed]:
    """Its first chunks."""
    model = one_layer(name, device)
    model.bind(torch.zeros(model.profiles[name].state_bytes, dtype=torch.uint8, device=device))
    seat = Seat(head=new_head(model, name, session), offset=0)
    model.open(seat)
    found, made = [], list[Chunk]()
    for _ in range(chunks):
        seconds = timed(partial(_make, model, seat, made))
        found.append(Stayed(mark=mark_of(made[-1]), seconds=seconds))
        seat = after_chunk(seat)
    return found


def _make(model: LayerCacheChunkModel, seat: Seat, made: list[Chunk]) -> None:
    made += model.run_pass([seat])
