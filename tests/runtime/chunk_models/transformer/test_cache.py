"""The block's layout, against a window kept as a list."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime.chunk_models.transformer.cache import CacheLayout
from runtime.chunk_models.transformer.configuration import Configuration, Resolution

SQUARE = Resolution(name="square", height=16, width=16)

layouts = st.builds(
    lambda layers, sink, ring, paged: CacheLayout.of(
        Configuration(dim=32, heads=2, layers=layers, sink_chunks=sink, ring_chunks=ring, resolutions=(SQUARE,)),
        SQUARE,
        paged=paged,
    ),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 4),
    st.booleans(),
)


@given(layout=layouts, last=st.integers(0, 20))
def test_what_a_chunk_sees_is_a_beginning_of_the_window_with_the_sink_and_the_most_recent(
    layout: CacheLayout, last: int
) -> None:
    window: dict[int, int] = {}  # run -> the chunk in it
    for chunk in range(last + 1):
        window[layout.run_start(chunk) // layout.chunk_tokens] = chunk
    seen = range(layout.valid_tokens(last) // layout.chunk_tokens)
    assert sorted(window) == list(seen)
    recent = range(max(layout.sink_chunks, last + 1 - layout.ring_chunks), last + 1)
    assert sorted(window.values()) == sorted({*range(min(layout.sink_chunks, last + 1)), *recent})


@given(layout=layouts, chunk=st.integers(0, 20))
def test_dirty_ranges_are_the_bytes_of_the_chunks_run(layout: CacheLayout, chunk: int) -> None:
    arena = torch.zeros(layout.alignment_bytes + layout.state_bytes, dtype=torch.uint8)
    start = layout.run_start(chunk)
    layout.view(arena, layout.alignment_bytes)[:, :, start : start + layout.chunk_tokens] = torch.nan
    block = arena[layout.alignment_bytes :]
    told = torch.zeros(layout.state_bytes, dtype=torch.bool)
    for one in layout.dirty(chunk):
        told[one.start : one.stop] = True
    numbers = block.view(layout.dtype)
    assert torch.equal(numbers.isnan(), told.view(-1, layout.element_bytes).all(dim=1))
    assert int(told.sum()) == 2 * layout.layers * layout.chunk_tokens * layout.row_bytes or layout.ring_chunks == 1


@given(layout=layouts)
def test_blocks_of_pages_begin_at_pages(layout: CacheLayout) -> None:
    page_bytes = layout.page_tokens * layout.row_bytes
    assert layout.state_bytes % layout.alignment_bytes == 0
    assert layout.part_bytes % page_bytes == 0
    assert layout.alignment_bytes % page_bytes == 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dim": 100}, "dim=100 must be heads=4 times a multiple of 16"),
        ({"ring_chunks": 0}, "ring_chunks=0"),
        ({"noise_levels": (0.5,)}, "must begin with 1"),
        ({"noise_levels": (1.0, 1.0)}, "must fall"),
        ({"resolutions": (Resolution(name="odd", height=30, width=32),)}, "odd: height and width must be multiples"),
    ],
)
def test_sizes_that_do_not_fit_together_are_told(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Configuration(**changes)  # type: ignore[arg-type]
