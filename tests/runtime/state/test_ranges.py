"""Ranges are whole granules that hold what was asked for and nothing twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.state.ranges import GRANULE_BYTES, Range, Ranges, bytes_in, cut, merged, to_granules, what_is_wrong

GRANULES = 20
BLOCK = GRANULES * GRANULE_BYTES


def granules_in(ranges: Ranges) -> set[int]:
    return {at for start, end in ranges for at in range(start // GRANULE_BYTES, -(-end // GRANULE_BYTES))}


_RANGES = st.lists(st.tuples(st.integers(0, BLOCK), st.integers(0, BLOCK)).map(lambda ends: (min(ends), max(ends))))


@given(_RANGES, _RANGES)
def test_rounding_and_merging_keep_every_touched_granule_once(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    touched = {at // GRANULE_BYTES for start, end in [*one, *other] for at in range(start, end, GRANULE_BYTES)}
    touched |= {(end - 1) // GRANULE_BYTES for start, end in [*one, *other] if end > start}
    found = merged(to_granules(one, BLOCK), to_granules(other, BLOCK))
    assert what_is_wrong(found, BLOCK) is None
    assert granules_in(found) == touched
    assert bytes_in(found) == len(touched) * GRANULE_BYTES


@given(_RANGES, st.integers(1, 7))
def test_parts_are_the_same_bytes_in_the_same_order(ranges: list[tuple[int, int]], granules: int) -> None:
    found = to_granules(ranges, BLOCK)
    parts = list(cut(found, granules * GRANULE_BYTES))
    assert parts == sorted(parts)
    assert granules_in(tuple(parts)) == granules_in(found)
    assert sum(end - start for start, end in parts) == bytes_in(found)
    assert all(0 < end - start <= granules * GRANULE_BYTES for start, end in parts)


@pytest.mark.parametrize(
    ("ranges", "says"),
    [
        ([(0, BLOCK + GRANULE_BYTES)], "end by"),
        ([(-GRANULE_BYTES, 0)], "must follow"),
        ([(0, 0)], "must follow"),
        ([(GRANULE_BYTES, 2 * GRANULE_BYTES), (0, GRANULE_BYTES)], "must follow"),
        ([(0, 2 * GRANULE_BYTES), (GRANULE_BYTES, 3 * GRANULE_BYTES)], "must follow"),
        ([(0, 100)], "whole granules"),
    ],
)
def test_ranges_of_somebody_else_are_looked_at(ranges: list[tuple[int, int]], says: str) -> None:
    assert says in (what_is_wrong(ranges, BLOCK) or "")
    assert what_is_wrong([Range(0, GRANULE_BYTES)], BLOCK) is None
