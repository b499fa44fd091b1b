"""What encoding costs is measured for every kind, size and sort of pictures."""

from __future__ import annotations

import itertools

from runtime.encode.measure import GRAINS, timings


def test_every_row_has_as_many_chunks_as_were_asked_for_and_times_of_the_clock_that_was_given() -> None:
    ticks = itertools.count()  # a second goes by whenever somebody looks
    rows = timings(chunks=3, sizes=[(32, 32), (48, 48)], clock=lambda: float(next(ticks)), processor=lambda: 0.0)
    assert [(row.width, row.kind, row.grain) for row in rows] == [
        (width, kind, grain) for width in (32, 48) for kind in ("h264", "mjpeg") for grain in GRAINS
    ]
    assert {row.ms for row in rows} == {(1000.0, 1000.0, 1000.0)}
    assert {row.first_ms for row in rows} == {1000.0}
    assert {row.processor_ms for row in rows} == {(0.0, 0.0, 0.0)}


def test_hard_pictures_take_more_bytes_than_smooth_ones() -> None:
    smooth, hard = timings(chunks=2, sizes=[(96, 64)], kinds=["h264"])
    assert min(hard.chunk_bytes) > 2 * max(smooth.chunk_bytes)
