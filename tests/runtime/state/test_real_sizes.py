"""Blocks, layouts, copies and checksums at the sizes of large models, in memory of which few pages are there."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from runtime.chunk_models.chunk_model import Head, Seat
from runtime.chunk_models.layer_cache import LayerCacheChunkModel
from runtime.chunk_models.transformer.cache import CacheLayout
from runtime.chunk_models.wan_sizes import WAN_SIZES
from runtime.state.blocks import Block, BlockMap, NoRoom
from runtime.state.checksum import GranuleSums, digest
from runtime.state.compaction import BlockMove, plan_compaction
from runtime.state.copying import Busy, copies_for
from runtime.state.ranges import (
    GRANULE_BYTES,
    Range,
    at_most,
    bytes_in,
    cut,
    merged,
    round_up,
    to_granules,
    what_is_wrong,
    whole,
)
from tests.runtime.state.test_checksum import naive_digest, naive_mix
from tests.runtime.state.vast import VastArena, vast_memory

ARENA_BYTES = 141 * 10**9 // GRANULE_BYTES * GRANULE_BYTES
LARGEST = WAN_SIZES["wan-14b-21"]
BLOCK_BYTES = LARGEST.cache_bytes
FAR = 2**34 + 2**31 + 5 * GRANULE_BYTES  # of a block, beyond what 32 bits count in bytes
MASK = 2**64 - 1


def test_blocks_of_all_sizes_fill_a_memory_to_the_last_granule_and_are_refused_in_numbers() -> None:
    blocks = BlockMap(ARENA_BYTES)
    sizes = [round_up(one.state_bytes) for one in WAN_SIZES.values() for _ in range(2)]
    taken = [block for block in map(blocks.take, sizes) if isinstance(block, Block)]
    assert [block.size_bytes for block in taken] == sizes
    assert all(one.end == other.start for one, other in pairwise(taken))
    assert taken[-1].end > 2**36
    room = blocks.room
    assert room.used + room.free == ARENA_BYTES
    refused = blocks.take(LARGEST.state_bytes)
    assert isinstance(refused, NoRoom)
    assert str(refused).startswith("needs 27405.")
    assert str(refused).endswith(f"of {room.free / 2**20:.3f} MiB free")
    rest = blocks.take(room.free)
    assert isinstance(rest, Block)
    assert (rest.end, blocks.room.free) == (ARENA_BYTES, 0)


def test_room_for_the_largest_state_is_made_by_moving_the_one_in_its_way() -> None:
    large, in_the_way = round_up(LARGEST.state_bytes), round_up(WAN_SIZES["wan-1.3b-21"].state_bytes)
    wall = Block(1, large - in_the_way, in_the_way)
    needs = 2 * large + large // 2
    assert plan_compaction([wall], [], needs, 3 * large) is None
    assert plan_compaction([wall], [wall], needs, 3 * large) == (BlockMove(block=wall, to=round_up(needs)),)


def test_ranges_of_a_whole_state_are_cut_and_merged_without_loss() -> None:
    dirty = [
        to_granules([(one.start, one.stop) for one in LARGEST.layout().dirty(chunk)], BLOCK_BYTES) for chunk in (5, 6)
    ]
    assert [len(one) for one in dirty] == [80, 80]
    both = merged(*dirty)
    assert bytes_in(both) == 2 * LARGEST.chunk_bytes
    assert len(both) == 80  # neighbours in the ring
    assert what_is_wrong(both, BLOCK_BYTES) is None
    assert both[-1].end > 2**34
    assert bytes_in(at_most(both, 7)) >= bytes_in(both)
    parts = list(cut(whole(BLOCK_BYTES), 8 << 20))
    assert (len(parts), parts[-1].end, bytes_in(tuple(parts))) == (3200, BLOCK_BYTES, BLOCK_BYTES)


@pytest.mark.parametrize("name", WAN_SIZES)
def test_a_chunk_lies_in_its_dirty_ranges_in_every_layer(name: str) -> None:
    layout = WAN_SIZES[name].layout()
    offset = ARENA_BYTES - layout.state_bytes
    memory = vast_memory(ARENA_BYTES)
    cache, chunk = layout.view(memory, offset), layout.ring_chunks
    run = layout.run_start(chunk)
    for index, span in enumerate(layout.dirty(chunk)):
        part = cache[index // 2, index % 2]
        part[run, 0, 0] = part[run + layout.chunk_tokens - 1, -1, -1] = torch.nan
        touched = (
            memory[offset + span.start - 2 : offset + span.start + 2],
            memory[offset + span.stop - 2 : offset + span.stop],
        )
        assert touched[0].tolist() == [0, 0, 0xC0, 0x7F]
        assert touched[1].tolist() == [0xC0, 0x7F]
    assert layout.dirty(chunk)[-1].stop + offset <= ARENA_BYTES


def test_a_session_makes_the_same_chunks_at_the_end_of_a_large_arena() -> None:
    tiny = CacheLayout(
        layers=1, heads=2, head_dim=16, sink_chunks=1, ring_chunks=3, chunk_tokens=64, element_bytes=2, page_tokens=1
    )
    frames = []
    for offset in (0, 2**32 - GRANULE_BYTES, ARENA_BYTES - tiny.state_bytes):
        model = LayerCacheChunkModel({"tiny": tiny}, query_tokens=3)
        model.bind(vast_memory(ARENA_BYTES))
        seat = Seat(head=Head(session="s", profile="tiny", seed=1, prompt="", revision=model.revision), offset=offset)
        model.open(seat)
        frames.append([chunk.frames.tobytes() for _ in range(3) for chunk in model.run_pass([seat])])
    assert frames[0] == frames[1] == frames[2]


def test_granules_far_behind_count_with_their_own_index() -> None:
    memory, sums = vast_memory(BLOCK_BYTES), GranuleSums(BLOCK_BYTES)
    zeros = sums.digest()
    for start in (2**31, 2**32, FAR, BLOCK_BYTES - GRANULE_BYTES):
        memory[start : start + GRANULE_BYTES] = torch.randint(0, 256, (GRANULE_BYTES,), dtype=torch.uint8)
        sums.add(memory, Range(start, start + GRANULE_BYTES))
        index = start // GRANULE_BYTES
        alone = naive_digest(memory[start : start + GRANULE_BYTES].numpy().tobytes(), first=index)
        assert (sums.digest() - zeros) & MASK == (alone - naive_mix(naive_mix(index + 1))) & MASK
        memory[start + 9] ^= 1
        sums.add(memory, Range(start, start + GRANULE_BYTES))
        assert sums.digest() != zeros
        memory[start : start + GRANULE_BYTES] = 0
        sums.add(memory, Range(start, start + GRANULE_BYTES))
        assert sums.digest() == zeros


def test_far_layers_are_suspended_with_the_checksum_of_what_was_read() -> None:
    arenas = [VastArena(BLOCK_BYTES) for _ in range(2)]
    blocks = [arena.blocks.take(BLOCK_BYTES) for arena in arenas]
    source, target = (
        arena.view(block) for arena, block in zip(arenas, blocks, strict=True) if isinstance(block, Block)
    )
    layers = (Range(2**32 - 2 * GRANULE_BYTES, 2**32 + GRANULE_BYTES), Range(BLOCK_BYTES - (1 << 20), BLOCK_BYTES))
    for span in layers:
        source[span.start : span.end] = torch.randint(0, 256, (span.end - span.start,), dtype=torch.uint8)
    copies, sums = copies_for(torch.device("cpu")), GranuleSums(BLOCK_BYTES)
    copy = copies.begin(source, target, layers, sums)
    assert not isinstance(copy, Busy)
    assert copy.wait(60.0)
    copies.close()
    for span in layers:
        assert torch.equal(source[span.start : span.end], target[span.start : span.end])
    assert int(target[2**32 + GRANULE_BYTES]) == int(target[2**32 - 2 * GRANULE_BYTES - 1]) == 0
    assert sums.digest() == digest(target, layers)
