"""Blocks never overlap, every byte is accounted for, and a refusal says what is missing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runtime.state.blocks import MIB, Block, BlockMap, NoRoom, Use, free_runs
from runtime.state.compaction import plan_compaction
from runtime.state.ranges import GRANULE_BYTES

GRANULES = 24
TOTAL = GRANULES * GRANULE_BYTES


def taken(blocks: BlockMap, size_bytes: int) -> Block:
    block = blocks.take(size_bytes)
    assert isinstance(block, Block)
    return block


def test_a_refusal_carries_numbers() -> None:
    blocks = BlockMap(12 * 1024 * MIB)
    first, second, third = (taken(blocks, 4096 * MIB) for _ in range(3))
    blocks.free(first)
    blocks.free(third)
    refused = blocks.take(6144 * MIB)
    assert str(refused) == "needs 6144 MiB, largest free run is 4096 MiB of 8192 MiB free"
    assert taken(blocks, 4096 * MIB).start == 0
    assert second in blocks.uses


def test_the_smallest_run_that_fits_is_taken() -> None:
    blocks = BlockMap(TOTAL)
    sizes = (6, 1, 2, 1)
    held = [taken(blocks, size * GRANULE_BYTES) for size in sizes]
    blocks.free(held[0])
    blocks.free(held[2])
    assert taken(blocks, 2 * GRANULE_BYTES).start == held[2].start


def test_a_block_that_a_copy_holds_is_not_used_again_before_the_copy_has_ended() -> None:
    blocks = BlockMap(GRANULE_BYTES)
    block = taken(blocks, 1)
    blocks.hold(block)
    blocks.hold(block)
    blocks.free(block)
    assert blocks.room.draining == GRANULE_BYTES
    blocks.let_go(block)
    assert isinstance(blocks.take(1), NoRoom)
    blocks.let_go(block)
    assert taken(blocks, 1).start == block.start


@pytest.mark.parametrize("wrong", ["free", "let_go", "settle", "hold"])
def test_a_block_that_is_gone_cannot_be_used(wrong: str) -> None:
    blocks = BlockMap(TOTAL)
    block = taken(blocks, 1)
    blocks.free(block)
    again = taken(blocks, 1)
    assert again.start == block.start
    with pytest.raises(AssertionError):
        getattr(blocks, wrong)(block)


class Books(RuleBasedStateMachine):
    """Beside each granule stands who has it; the map must agree with that after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = BlockMap(TOTAL)
        self.granules: list[Block | None] = [None] * GRANULES
        self.uses: dict[Block, Use] = {}
        self.holds: dict[Block, int] = {}

    @rule(size=st.integers(1, 8 * GRANULE_BYTES), use=st.sampled_from(["used", "reserved"]))
    def take(self, size: int, use: Any) -> None:
        needs = -(-size // GRANULE_BYTES)
        longest = max(map(len, "".join(" " if g is None else "x" for g in self.granules).split("x")))
        block = self.blocks.take(size, use)
        assert isinstance(block, NoRoom) == (longest < needs)
        if isinstance(block, NoRoom):
            assert block.room.largest_free == longest * GRANULE_BYTES
            return
        first = block.start // GRANULE_BYTES
        assert self.granules[first : first + needs] == [None] * needs
        self.granules[first : first + needs] = [block] * needs
        self.uses[block] = use

    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        there = [block for block, use in self.uses.items() if use != "draining"]
        if not there:
            return
        block = data.draw(st.sampled_from(there))
        match data.draw(st.sampled_from(["free", "hold", "settle"])):
            case "free":
                self.blocks.free(block)
                if self.holds.get(block):
                    self.uses[block] = "draining"
                else:
                    self._forget(block)
            case "hold":
                self.blocks.hold(block)
                self.holds[block] = self.holds.get(block, 0) + 1
            case "settle" if self.uses[block] == "reserved":
                self.blocks.settle(block)
                self.uses[block] = "used"

    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        held = [block for block, count in self.holds.items() if count]
        if not held:
            return
        block = data.draw(st.sampled_from(held))
        self.blocks.let_go(block)
        self.holds[block] -= 1
        if not self.holds[block] and self.uses[block] == "draining":
            self._forget(block)

    def _forget(self, block: Block) -> None:
        del self.uses[block]
        self.granules = [None if owner == block else owner for owner in self.granules]

    @invariant()
    def agrees(self) -> None:
        room = self.blocks.room
        assert self.blocks.uses == self.uses
        assert room.free == self.granules.count(None) * GRANULE_BYTES
        assert room.used + room.reserved + room.draining + room.free == TOTAL
        for use in ("used", "reserved", "draining"):
            assert getattr(room, use) == sum(block.size_bytes for block, its in self.uses.items() if its == use)


TestBooks = Books.TestCase


@st.composite
def _memories(draw: st.DrawFn) -> tuple[list[Block], list[Block], int]:
    """Blocks with gaps, which of them may move, and a wanted size, in granules."""
    blocks, at = [], 0
    for serial in range(draw(st.integers(1, 7))):
        at += draw(st.integers(0, 3))
        size = draw(st.integers(1, 4))
        blocks.append(Block(serial, at * GRANULE_BYTES, size * GRANULE_BYTES))
        at += size
    at += draw(st.integers(0, 3))
    movable = [block for block in blocks if draw(st.booleans())]
    return blocks, movable, at


@given(_memories(), st.integers(1, 10))
def test_moves_open_a_run_and_touch_nobody_else(memory: tuple[list[Block], list[Block], int], wanted: int) -> None:
    blocks, movable, granules = memory
    total = max(granules, wanted) * GRANULE_BYTES
    needs = wanted * GRANULE_BYTES
    moves = plan_compaction(blocks, movable, needs, total)
    if moves is None:
        # Whatever could be done without any move must have been found.
        assert all(end - start < needs for start, end in free_runs(dict.fromkeys(blocks), total))
        return
    assert all(move.block in movable for move in moves)
    moved = {move.block: move.block._replace(start=move.to) for move in moves}
    after = [moved.get(block, block) for block in blocks]
    spans = sorted((block.start, block.end) for block in [*blocks, *moved.values()])
    assert all(one[1] <= other[0] for one, other in pairwise(spans)), "a move overwrites somebody"
    assert any(end - start >= needs for start, end in free_runs(dict.fromkeys(after), total))


def test_the_cheapest_window_is_emptied() -> None:
    # a a a . b . . c c .    wanted: 4 granules; moving b is cheapest
    cells = [Block(1, 0, 3), Block(2, 4, 1), Block(3, 7, 2)]
    blocks = [Block(b.serial, b.start * GRANULE_BYTES, b.size_bytes * GRANULE_BYTES) for b in cells]
    moves = plan_compaction(blocks, blocks, 4 * GRANULE_BYTES, 10 * GRANULE_BYTES)
    assert moves is not None
    assert [(move.block.serial, move.to) for move in moves] == [(2, 9 * GRANULE_BYTES)]
    pinned = [block for block in blocks if block.serial != 2]
    assert plan_compaction(blocks, pinned, 5 * GRANULE_BYTES, 10 * GRANULE_BYTES) is None
