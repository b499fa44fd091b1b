"""One layer's cache of a Wan session, in its real shapes, and how its chunks are compared.

Decides how much is computed: so little that a processor makes a chunk in a second or two; must never know where a
session is.
"""

from __future__ import annotations

import torch

from runtime.chunk_models.chunk_model import Chunk, Seat
from runtime.chunk_models.layer_cache import LayerCacheChunkModel
from runtime.chunk_models.measure import after_chunk
from runtime.chunk_models.wan_sizes import WAN_SIZES
from runtime.measure.occupants import new_head

QUERY_TOKENS = 8  # of 4680; all of them would take a processor the better part of a minute, for each layer and pass
_MARK_BYTES = 32  # the hash that a chunk's frames are made of


def one_layer(name: str, device: str) -> LayerCacheChunkModel:
    return LayerCacheChunkModel({name: WAN_SIZES[name].layout(layers=1)}, query_tokens=QUERY_TOKENS, device=device)


def mark_of(chunk: Chunk) -> bytes:
    """Tells everything about a chunk of such a layer."""
    return chunk.frames.tobytes()[:_MARK_BYTES]


def stayed(name: str, device: str, session: str, chunks: int) -> list[bytes]:
    """The marks of the first chunks of a session that was never moved."""
    model = one_layer(name, device)
    model.bind(torch.zeros(model.profiles[name].state_bytes, dtype=torch.uint8, device=device))
    seat = Seat(head=new_head(model, name, session), offset=0)
    marks: list[bytes] = []
    model.open(seat)
    for _ in range(chunks):
        marks += [mark_of(chunk) for chunk in model.run_pass([seat])]
        seat = after_chunk(seat)
    return marks
