"""Times of suspending and resuming a state, of its checksum, and of plain copies of as many bytes.

Decides what is timed; must never know what a good time is.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from runtime.measure.migrations import device
from runtime.measure.timing import timed
from runtime.state.arena import Arena
from runtime.state.blocks import Block
from runtime.state.checksum import GranuleSums, digest
from runtime.state.copying import Busy, copies_for
from runtime.state.ranges import Ranges, round_up, to_granules
from runtime.transfer.staging import host_bytes

LAYERS = 30
WAIT_S = 120.0

Seconds = Sequence[Mapping[str, float]]


def copy_seconds(size_bytes: int, repetitions: int) -> Seconds:
    """Of each repetition: "plain out", "suspend", "plain back" and "resume", in turn; checksums are included.

    A state that does not come back as it was is our bug.
    """
    torch.set_num_threads(1)
    device_memory, host_memory = _memory(size_bytes, device()), _memory(size_bytes, "cpu")
    device_memory.copy_(torch.randint(0, 256, (size_bytes,), dtype=torch.uint8))
    host_memory.zero_()
    right = digest(device_memory)
    copies = copies_for(device_memory.device)
    layers = _layers(size_bytes)

    def moved(source: Tensor, target: Tensor) -> None:
        sums = GranuleSums(size_bytes)
        copy = copies.begin(source, target, layers, sums)
        assert not isinstance(copy, Busy)
        assert copy.wait(WAIT_S)
        assert sums.digest() == right

    found = [
        {
            "plain out": timed(lambda: host_memory.copy_(device_memory)),
            "suspend": timed(lambda: moved(device_memory, host_memory)),
            "plain back": timed(lambda: device_memory.copy_(host_memory)),
            "resume": timed(lambda: moved(host_memory, device_memory)),
        }
        for _ in range(repetitions + 1)
    ]
    copies.close()
    assert digest(device_memory) == right
    return found[1:]  # the first touches every page for the first time


def checksum_seconds(size_bytes: int, repetitions: int) -> Seconds:
    """Of each repetition: "copy" (memcpy), "digest" and "crc32" of host memory, in one thread."""
    torch.set_num_threads(1)
    memory, other = _memory(size_bytes, "cpu"), _memory(size_bytes, "cpu")
    memory.copy_(torch.randint(0, 256, (size_bytes,), dtype=torch.uint8))
    return [
        {
            "copy": timed(lambda: other.copy_(memory)),
            "digest": timed(lambda: digest(memory)),
            "crc32": timed(lambda: zlib.crc32(host_bytes(memory))),
        }
        for _ in range(repetitions + 1)
    ][1:]


def _layers(size_bytes: int) -> Ranges:
    size = round_up(-(-size_bytes // LAYERS))
    return tuple(
        span
        for start in range(0, size_bytes, size)
        for span in to_granules([(start, min(start + size, size_bytes))], size_bytes)
    )


def _memory(size_bytes: int, on: str) -> Tensor:
    arena = Arena(size_bytes, on)
    block = arena.blocks.take(size_bytes)
    assert isinstance(block, Block)
    return arena.view(block)
