"""Which blocks would have to move so that a large one fits.

Decides the cheapest moves that open one free run; must never move anything itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from runtime.state.blocks import Block, free_runs
from runtime.state.ranges import round_up


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockMove:
    """One copy within a memory; `to` is free when the plan is made and no other move touches it."""

    block: Block
    to: int


def plan_compaction(
    blocks: Collection[Block], movable: Collection[Block], needs_bytes: int, total_bytes: int
) -> tuple[BlockMove, ...] | None:
    """Moves after which some run has `needs_bytes`, with the fewest bytes moved; None if no window can be emptied.

    Looks at the windows that begin or end at a block's edge. Whoever lies in a window must be movable (idle, with no
    copy under way) and goes to a run outside of it, the largest first, each to the smallest run that takes it. The
    moves may be made in any order, also at once: sources and targets never overlap.
    """
    size = round_up(needs_bytes)
    edges = {0, total_bytes} | {block.start for block in blocks} | {block.end for block in blocks}
    starts = sorted({at for edge in edges for at in (edge, edge - size) if 0 <= at <= total_bytes - size})
    best: tuple[BlockMove, ...] | None = None
    for start in starts:
        moves = _empty_window(blocks, movable, (start, start + size), total_bytes)
        if moves is not None and (best is None or _cost(moves) < _cost(best)):
            best = moves
    return best


def _empty_window(
    blocks: Collection[Block], movable: Collection[Block], window: tuple[int, int], total_bytes: int
) -> tuple[BlockMove, ...] | None:
    inside = [block for block in blocks if block.start < window[1] and block.end > window[0]]
    if any(block not in movable for block in inside):
        return None
    runs = [run for run in free_runs(dict.fromkeys(blocks), total_bytes) for run in _outside(run, window)]
    moves: list[BlockMove] = []
    for block in sorted(inside, key=lambda block: (-block.size_bytes, block.start)):
        fitting = [(end - start, start, end) for start, end in runs if end - start >= block.size_bytes]
        if not fitting:
            return None
        _, start, end = min(fitting)
        runs.remove((start, end))
        if start + block.size_bytes < end:
            runs.append((start + block.size_bytes, end))
        moves.append(BlockMove(block=block, to=start))
    return tuple(moves)


def _outside(run: tuple[int, int], window: tuple[int, int]) -> list[tuple[int, int]]:
    """What of a run is left beside the window."""
    left, right = (run[0], min(run[1], window[0])), (max(run[0], window[1]), run[1])
    return [part for part in (left, right) if part[0] < part[1]]


def _cost(moves: tuple[BlockMove, ...]) -> tuple[int, int]:
    return sum(move.block.size_bytes for move in moves), len(moves)
