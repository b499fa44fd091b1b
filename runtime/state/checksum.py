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
from torch import Tensor

from runtime.state import sum_kernels
from runtime.state.ranges import GRANULE_BYTES, Range, Ranges, whole
from runtime.state.sum_kernels import Words

_WORDS = GRANULE_BYTES // 8
_PIECE_GRANULES = 8192  # 32 MiB: the products of one piece are held for a moment where there is no dot product


class GranuleSums:
    """The digest of one block, kept up to date; what is not summed yet counts as zeros."""

    def __init__(self, block_bytes: int) -> None:
        assert block_bytes % GRANULE_BYTES == 0, f"block_bytes={block_bytes} must be whole granules of {GRANULE_BYTES}"
        self._mixed: Words = np.empty(block_bytes // GRANULE_BYTES, np.uint64)
        self._digest = int(sum_kernels.of_zeros(self._mixed))

    def add(self, memory: Tensor, span: Range) -> None:
        """Sum granules of the block whose bytes `memory` is, instead of what was summed of them before."""
        first, mixed = self._parts(span)
        if memory.device.type == "cpu":
            self._change(sum_kernels.add_words(_words(memory, span), _weights(), first, mixed))
        else:
            sums = granule_sums(memory[span.start : span.end]).cpu().numpy().view(np.uint64)
            self._change(sum_kernels.add_sums(sums, first, mixed))

    def copy(self, source: Tensor, target: Tensor, span: Range) -> None:
        """Copy granules between two blocks in host memory, and sum them on their way: they are read once."""
        first, mixed = self._parts(span)
        words, to = _words(source, span), _words(target, span)
        self._change(sum_kernels.copy_words(words, to, _weights(), first, mixed))

    def digest(self) -> int:
        """Of the whole block; costs nothing, so that nobody stands still for it."""
        return self._digest

    def _parts(self, span: Range) -> tuple[int, Words]:
        first, last = span.start // GRANULE_BYTES, span.end // GRANULE_BYTES
        return first, self._mixed[first:last]

    def _change(self, change: np.uint64) -> None:
        self._digest = (self._digest + int(change)) % 2**64


def digest(memory: Tensor, ranges: Ranges | None = None) -> int:
    """Of a block whose bytes `memory` is; of some ranges of it, with zeros elsewhere."""
    sums = GranuleSums(memory.numel())
    for span in whole(memory.numel()) if ranges is None else ranges:
        sums.add(memory, span)
    return sums.digest()


def granule_sums(memory: Tensor) -> Tensor:
    """One 64-bit sum for each granule of contiguous bytes, computed where they are, with elementwise products.

    CUDA has no dot product of integers.
    """
    words, weights = memory.view(torch.int64).view(-1, _WORDS), _weights_on(memory.device)
    starts = range(0, len(words), _PIECE_GRANULES)
    pieces = [(words[at : at + _PIECE_GRANULES] * weights).sum(dim=1) for at in starts]
    return torch.cat(pieces) if pieces else words.new_zeros(0)


@cache
def warm_up() -> None:
    """Compile what sums, or load it: the first time takes seconds, which no peer waits for."""
    memory = torch.zeros(GRANULE_BYTES, dtype=torch.uint8)
    sums, (span,) = GranuleSums(GRANULE_BYTES), whole(GRANULE_BYTES)
    sums.copy(memory, torch.zeros_like(memory), span)
    sums.add(memory, span)
    if torch.cuda.is_available():
        sums.add(memory.cuda(), span)


def _words(memory: Tensor, span: Range) -> Words:
    """The same memory as [granules, words]."""
    found: Words = memory[span.start : span.end].numpy().view(np.uint64).reshape(-1, _WORDS)
    return found


@cache
def _weights() -> Words:
    return sum_kernels.weights_of(_WORDS)


@cache
def _weights_on(device: torch.device) -> Tensor:
    return torch.from_numpy(_weights().view(np.int64)).to(device)
