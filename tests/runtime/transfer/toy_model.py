"""A chunk model whose every state can be told from the number of its chunks: a ring of regions in the block."""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.state.ranges import Ranges, round_up, to_granules

REGIONS = 8


def write_chunk(memory: Tensor, seed: int, chunk: int) -> Ranges:
    """What the chunk writes, and where."""
    size = round_up(memory.numel() // REGIONS)
    start = chunk % REGIONS * size
    end = min(start + size, memory.numel())
    memory[start:end] = _pattern(seed, chunk, end - start)
    return to_granules([(start, end)], memory.numel())


def state_after(block_bytes: int, seed: int, chunks: int) -> Tensor:
    """The block after that many chunks."""
    memory = torch.zeros(block_bytes, dtype=torch.uint8)
    for chunk in range(max(0, chunks - REGIONS), chunks):
        write_chunk(memory, seed, chunk)
    return memory


def _pattern(seed: int, chunk: int, count: int) -> Tensor:
    start = (seed * 1_000_003 + chunk * 7_919) % 65_521
    return torch.arange(start, start + count // 8, dtype=torch.int64).mul_(0x9E3779B97F4A7C1).view(torch.uint8)
