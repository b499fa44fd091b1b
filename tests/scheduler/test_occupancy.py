"""The vectorised sweep against a count of placements at every microsecond."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scheduler.occupancy import Occupancy, sweep

Placement = tuple[int, int, int, int]  # gpu, profile, start, length
PLACEMENTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 12), st.integers(1, 8)), min_size=0, max_size=25
)


def _swept(placements: list[Placement]) -> Occupancy:
    rows = np.array(placements, np.int64).reshape(-1, 4)
    return sweep(
        gpu_index=rows[:, 0],
        profile_index=rows[:, 1],
        start_us=rows[:, 2],
        end_us=rows[:, 2] + rows[:, 3],
        profile_count=3,
    )


def _painted(found: Occupancy) -> NDArray[np.int64]:
    grid = np.zeros((4, 21, 3), np.int64)
    for gpu, start, end, counts in zip(found.gpu_index, found.start_us, found.end_us, found.counts, strict=True):
        assert not grid[gpu, start:end].any(), "segments of one GPU overlap"
        grid[gpu, start:end] = counts
    return grid


@given(placements=PLACEMENTS)
def test_every_instant_holds_the_sessions_placed_there(placements: list[Placement]) -> None:
    expected = np.zeros((4, 21, 3), np.int64)
    for gpu, profile, start, length in placements:
        expected[gpu, start : start + length, profile] += 1
    assert (_painted(_swept(placements)) == expected).all()


@given(placements=PLACEMENTS)
def test_segments_are_sorted_never_empty_and_never_equal_to_their_neighbour(placements: list[Placement]) -> None:
    found = _swept(placements)
    assert (found.sessions > 0).all()
    assert (found.start_us < found.end_us).all()
    for left in range(len(found.gpu_index) - 1):
        here, after = found.gpu_index[left], found.gpu_index[left + 1]
        assert (here, found.start_us[left]) < (after, found.start_us[left + 1])
        if here == after and found.end_us[left] == found.start_us[left + 1]:
            assert (found.counts[left] != found.counts[left + 1]).any()


def test_an_equal_session_taking_over_makes_no_new_segment() -> None:
    found = _swept([(0, 1, 0, 5), (0, 1, 5, 5)])
    assert (found.start_us.tolist(), found.end_us.tolist()) == ([0], [10])


def test_no_placements_make_no_segments() -> None:
    assert _swept([]).counts.shape == (0, 3)
