"""A 64-bit checksum of a state that is equal on every device and may be computed piecewise, in any order.

Decides what is summed and how positions count; must never know what the bytes mean nor where they were copied.

A granule's sum is that of its 64-bit words, each times an odd weight of its place, modulo 2^64. A digest is the sum
over granules of a mixed (sum, index of the granule). A word that changes alone changes its granule's sum, because its
weight is odd; a granule that changes alone changes the digest, because mixing is one to one; granules that change
places are told apart because mixing is not linear. What it cannot see: two words of one granule that change places and
differ in their highest bit alone. It guards against faults, not against somebody who forges states.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.state.ranges import GRANULE_BYTES, Range, Ranges, whole

_WORDS = GRANULE_BYTES // 8
_PIECE_GRANULES = 8192  # 32 MiB: the products of one piece are held for a moment where there is no dot product
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Words = NDArray[np.uint64]


class GranuleSums:
    """The digest of one block, kept up to date; what is not summed yet counts as zeros."""

    def __init__(self, block_bytes: int) -> None:
        assert block_bytes % GRANULE_BYTES == 0, f"block_bytes={block_bytes} must be whole granules of {GRANULE_BYTES}"
        self._places = _mix(np.arange(1, block_bytes // GRANULE_BYTES + 1, dtype=np.uint64))
        self._mixed = _mix(self._places)
        self._digest = int(self._mixed.sum(dtype=np.uint64))

    def add(self, memory: Tensor, span: Range) -> None:
        """Sum granules of the block whose bytes `memory` is, instead of what was summed of them before."""
        first, last = span.start // GRANULE_BYTES, span.end // GRANULE_BYTES
        sums: Words = granule_sums(memory[span.start : span.end]).cpu().numpy().view(np.uint64)
        mixed = _mix(sums ^ self._places[first:last])
        change = int(mixed.sum(dtype=np.uint64)) - int(self._mixed[first:last].sum(dtype=np.uint64))
        self._mixed[first:last] = mixed
        self._digest = (self._digest + change) % 2**64

    def digest(self) -> int:
        """Of the whole block; costs nothing, so that nobody stands still for it."""
        return self._digest


def digest(memory: Tensor, ranges: Ranges | None = None) -> int:
    """Of a block whose bytes `memory` is; of some ranges of it, with zeros elsewhere."""
    sums = GranuleSums(memory.numel())
    for span in whole(memory.numel()) if ranges is None else ranges:
        sums.add(memory, span)
    return sums.digest()


def granule_sums(memory: Tensor) -> Tensor:
    """One 64-bit sum for each granule of contiguous bytes, computed where they are."""
    words = memory.view(torch.int64).view(-1, _WORDS)
    weights = _weights(memory.device)
    if memory.device.type == "cpu":
        return torch.mv(words, weights)
    return sums_of_products(words, weights)  # CUDA has no dot product of integers


def sums_of_products(words: Tensor, weights: Tensor) -> Tensor:
    """The same sums with elementwise products."""
    starts = range(0, len(words), _PIECE_GRANULES)
    pieces = [(words[at : at + _PIECE_GRANULES] * weights).sum(dim=1) for at in starts]
    return torch.cat(pieces) if pieces else words.new_zeros(0)


@cache
def _weights(device: torch.device) -> Tensor:
    weights = _mix(np.arange(1, _WORDS + 1, dtype=np.uint64)) | np.uint64(1)
    return torch.from_numpy(weights.view(np.int64)).to(device)


def _mix(words: Words) -> Words:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): one to one, and every bit depends on every other."""
    mixed = words * _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
