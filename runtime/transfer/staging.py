"""Parts of a block as host memory, where they can be handed to a socket.

Decides how device memory is staged: through two pinned buffers, so that one is copied while the other travels; must
never know the socket. On the CPU a part is host memory already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.state.arena import part
from runtime.state.copying import wait_event
from runtime.state.ranges import Range, Ranges, cut
from runtime.transfer.transport import STALL_S, TransferError

BUFFERS = 2


def host_bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous host tensor, not a copy of it."""
    found: NDArray[np.uint8] = tensor.numpy()
    return memoryview(found)  # type: ignore[arg-type]  # from Python 3.12 on arrays are known as buffers


@dataclass(slots=True)
class Staging:
    """For one transfer. Work on the device goes to a stream of its own; not measured yet on CUDA."""

    part_bytes: int
    _buffers: list[Tensor] = field(default_factory=list)
    _copied: list[torch.cuda.Event] = field(default_factory=list)
    _stream: torch.cuda.Stream | None = None

    def out(self, memory: Tensor, ranges: Ranges) -> Iterator[tuple[Range, memoryview]]:
        """Each part with its bytes, which are good until the next one is asked for."""
        if not memory.is_cuda:
            for span in cut(ranges, self.part_bytes):
                yield span, host_bytes(part(memory, span))
            return
        stream = self._prepare(memory)
        spans = list(cut(ranges, self.part_bytes))
        for index in range(len(spans) + 1):
            if index < len(spans):
                slot = index % BUFFERS
                with torch.cuda.stream(stream):
                    size = spans[index].end - spans[index].start
                    self._buffers[slot][:size].copy_(part(memory, spans[index]), non_blocking=True)
                    self._copied[slot].record(stream)
            if index > 0:
                slot, span = (index - 1) % BUFFERS, spans[index - 1]
                self._wait(slot)
                yield span, host_bytes(self._buffers[slot][: span.end - span.start])

    def into(self, memory: Tensor, ranges: Ranges) -> Iterator[tuple[Range, memoryview]]:
        """Each part with the bytes to fill before the next one is asked for; after the last, all is in the block."""
        if not memory.is_cuda:
            yield from self.out(memory, ranges)
            return
        stream = self._prepare(memory)
        for index, span in enumerate(cut(ranges, self.part_bytes)):
            slot = index % BUFFERS
            self._wait(slot)
            buffer = self._buffers[slot][: span.end - span.start]
            yield span, host_bytes(buffer)
            with torch.cuda.stream(stream):
                part(memory, span).copy_(buffer, non_blocking=True)
                self._copied[slot].record(stream)
        for slot in range(BUFFERS):
            self._wait(slot)

    def _prepare(self, memory: Tensor) -> torch.cuda.Stream:
        if self._stream is None:
            self._stream = torch.cuda.Stream(memory.device)
            self._buffers = [torch.empty(self.part_bytes, dtype=torch.uint8, pin_memory=True) for _ in range(BUFFERS)]
            self._copied = [torch.cuda.Event() for _ in range(BUFFERS)]
        self._stream.wait_stream(torch.cuda.current_stream(memory.device))
        return self._stream

    def _wait(self, slot: int) -> None:
        if not wait_event(self._copied[slot], STALL_S):
            raise TransferError("lost", "the device does not finish a copy")
