"""One memory of a worker, allocated once: the states of all its sessions lie in it.

Decides where the bytes come from (device, pinned host, plain host); must never know who a block belongs to.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.state.blocks import Block, BlockMap
from runtime.state.ranges import Range, round_up


class Arena:
    """`memory` is one-dimensional, of bytes, contiguous; zeroed once: NaN in stale bytes would leak through masks."""

    def __init__(self, total_bytes: int, device: str = "cpu") -> None:
        size = round_up(total_bytes)
        # Pages of a host arena that copies to a device touch must be pinned, or the copies are not asynchronous.
        pinned = device == "cpu" and torch.cuda.is_available()
        self.memory = torch.zeros(size, dtype=torch.uint8, device=device, pin_memory=pinned)
        self.device = self.memory.device  # with its index
        self.blocks = BlockMap(size)

    @property
    def pinned(self) -> bool:
        return self.device.type == "cpu" and self.memory.is_pinned()

    def view(self, block: Block) -> Tensor:
        """The bytes of a block, not a copy of them."""
        assert block in self.blocks.uses, f"{block} is not of this arena, or it is free"
        return self.memory[block.start : block.end]


def part(memory: Tensor, span: Range) -> Tensor:
    """Bytes of a block's view, not a copy of them."""
    return memory[span.start : span.end]
