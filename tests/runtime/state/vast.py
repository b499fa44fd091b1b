"""Memory of real sizes that is not there: pages come into being when they are touched, and few are.

Decides how such memory is mapped; must never know what is kept in it.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

from runtime.state.arena import Arena
from runtime.state.blocks import BlockMap

MAP_NORESERVE = 0x4000  # of Linux: without it a machine may refuse more than it has


def vast_memory(size_bytes: int) -> Tensor:
    """So many bytes of zeros."""
    mapped = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    # Huge pages would turn each touch into two megabytes.
    mapped.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(mapped, dtype=torch.uint8)


class VastArena(Arena):
    """An arena of such memory."""

    def __init__(self, total_bytes: int) -> None:
        self.memory = vast_memory(total_bytes)
        self.device = self.memory.device
        self.blocks = BlockMap(total_bytes)
