"""Byte ranges of one block, in whole granules.

Decides how ranges are rounded, merged and cut into parts; must never know what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

GRANULE_BYTES = 4096  # the unit of blocks, dirty ranges and checksums


class Range(NamedTuple):
    """Bytes `[start, end)`, counted from the start of a block."""

    start: int
    end: int


Ranges = tuple[Range, ...]  # in order, apart from each other, in whole granules


def whole(block_bytes: int) -> Ranges:
    """All of a block."""
    return (Range(0, block_bytes),)


def round_up(size_bytes: int, unit_bytes: int = GRANULE_BYTES) -> int:
    """To whole units."""
    return -(-size_bytes // unit_bytes) * unit_bytes


def to_granules(ranges: Iterable[tuple[int, int]], block_bytes: int) -> Ranges:
    """The granules that the ranges touch, merged; a range outside of the block is our bug."""
    rounded: list[Range] = []
    for start, end in sorted(ranges):
        assert 0 <= start <= end <= block_bytes, f"range [{start}, {end}) must be within a block of {block_bytes} bytes"
        if start == end:
            continue
        first, last = start // GRANULE_BYTES * GRANULE_BYTES, min(round_up(end), block_bytes)
        if rounded and first <= rounded[-1].end:
            rounded[-1] = Range(rounded[-1].start, max(rounded[-1].end, last))
        else:
            rounded.append(Range(first, last))
    return tuple(rounded)


def merged(one: Ranges, other: Ranges) -> Ranges:
    """What is in either."""
    ends = [found[-1].end for found in (one, other) if found]
    return to_granules((*one, *other), max(ends, default=0))


def bytes_in(ranges: Ranges) -> int:
    """How much that is."""
    return sum(end - start for start, end in ranges)


def at_most(ranges: Ranges, count: int) -> Ranges:
    """The same bytes, and the smallest gaps between them where there are more ranges than that."""
    if len(ranges) <= count:
        return ranges
    gaps = sorted(range(1, len(ranges)), key=lambda at: ranges[at].start - ranges[at - 1].end)
    closed = set(gaps[: len(ranges) - count])
    found: list[Range] = []
    for at, span in enumerate(ranges):
        if at in closed:
            found[-1] = Range(found[-1].start, span.end)
        else:
            found.append(span)
    return tuple(found)


def cut(ranges: Ranges, part_bytes: int) -> Iterator[Range]:
    """The same bytes in the same order, in parts of at most `part_bytes`, which are whole granules."""
    assert part_bytes % GRANULE_BYTES == 0, f"part_bytes={part_bytes} must be whole granules of {GRANULE_BYTES}"
    for start, end in ranges:
        for begin in range(start, end, part_bytes):
            yield Range(begin, min(begin + part_bytes, end))


def what_is_wrong(ranges: Iterable[tuple[int, int]], block_bytes: int) -> str | None:
    """Why somebody else's ranges cannot be used for a block of that size; None if they can."""
    last = -1
    for start, end in ranges:
        if start <= last or end <= start or end > block_bytes:
            return f"range [{start}, {end}) must follow {last} and end by {block_bytes}"
        if start % GRANULE_BYTES or end % GRANULE_BYTES:
            return f"range [{start}, {end}) must be whole granules of {GRANULE_BYTES} bytes"
        last = end
    return None
