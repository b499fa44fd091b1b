"""Copies arrive whole, in the order of their layers, and no more of them are in flight than may be."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from runtime.state.arena import Arena
from runtime.state.blocks import Block
from runtime.state.checksum import GranuleSums, digest
from runtime.state.copying import Busy, Copies, copies_for
from runtime.state.ranges import GRANULE_BYTES, Range, Ranges

LAYERS = 5
LAYER_BYTES = 16 * GRANULE_BYTES
PATIENCE_S = 20.0
_DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


def layers() -> Ranges:
    return tuple(Range(at * LAYER_BYTES, (at + 1) * LAYER_BYTES) for at in range(LAYERS))


class Memories:
    """A device arena and a host arena, with a block in each."""

    def __init__(self, device: str) -> None:
        self.device_arena, self.host_arena = Arena(4 * LAYERS * LAYER_BYTES, device), Arena(4 * LAYERS * LAYER_BYTES)
        blocks = [arena.blocks.take(LAYERS * LAYER_BYTES) for arena in (self.device_arena, self.host_arena)]
        on_device, on_host = blocks
        assert isinstance(on_device, Block)
        assert isinstance(on_host, Block)
        self.device, self.host = self.device_arena.view(on_device), self.host_arena.view(on_host)


@pytest.fixture(params=_DEVICES)
def memories(request: pytest.FixtureRequest) -> Memories:
    return Memories(request.param)


@pytest.fixture
def copies(memories: Memories) -> Iterator[Copies]:
    found = copies_for(memories.device.device, 2)
    yield found
    found.close()


def test_a_state_comes_back_as_it_was_suspended(memories: Memories, copies: Copies) -> None:
    memories.device.copy_(torch.randint(0, 256, memories.device.shape, dtype=torch.uint8))
    before, sums = digest(memories.device), GranuleSums(memories.device.numel())
    out = copies.begin(memories.device, memories.host, layers(), sums)
    assert not isinstance(out, Busy)
    assert out.wait(PATIENCE_S)
    assert out.done()
    assert digest(memories.host) == sums.digest() == before
    memories.device.zero_()
    back = copies.begin(memories.host, memories.device, layers())
    assert not isinstance(back, Busy)
    for index in range(LAYERS):
        assert back.wait_layer(index, PATIENCE_S)
    assert back.wait(PATIENCE_S)
    assert digest(memories.device) == before


def test_an_arena_starts_as_zeros_and_only_pins_where_there_is_a_device(memories: Memories) -> None:
    assert int(memories.device_arena.memory.count_nonzero()) == 0
    assert memories.host_arena.pinned == torch.cuda.is_available()


def test_a_layer_that_is_there_need_not_wait_for_those_behind_it_and_more_copies_are_refused() -> None:
    size = LAYERS * LAYER_BYTES
    memory, copies, gate = Arena(3 * size), copies_for(torch.device("cpu"), 1), Gate(size)
    blocks = [memory.blocks.take(size) for _ in range(3)]
    views = [memory.view(block) for block in blocks if isinstance(block, Block)]
    copy = copies.begin(views[0], views[1], layers(), gate)
    assert not isinstance(copy, Busy)
    assert copy.wait_layer(0, PATIENCE_S)
    assert not copy.wait_layer(1, 0.05)
    assert not copy.done()
    refused = copies.begin(views[1], views[2], layers())
    assert str(refused) == "1 copies are in flight, and no more may be"
    gate.open.set()
    assert copy.wait(PATIENCE_S)
    again = copies.begin(views[1], views[2], layers())
    assert not isinstance(again, Busy)
    assert again.wait(PATIENCE_S)
    copies.close()


class Gate(GranuleSums):
    """Behind the first layer, sums that wait until somebody lets them go on."""

    def __init__(self, block_bytes: int) -> None:
        super().__init__(block_bytes)
        self.open = threading.Event()

    def copy(self, source: torch.Tensor, target: torch.Tensor, span: Range) -> None:
        assert span.start == 0 or self.open.wait(PATIENCE_S)
        super().copy(source, target, span)
