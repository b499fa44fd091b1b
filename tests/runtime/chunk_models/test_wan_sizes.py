"""Bytes of Wan sessions, against products that are written out."""

from __future__ import annotations

import pytest

from runtime.chunk_models.wan_sizes import VAE_CACHE_BYTES, WAN_SIZES, seconds_over
from runtime.state.ranges import GRANULE_BYTES

GB = 10**9


@pytest.mark.parametrize(
    ("name", "cache_bytes", "rounded_gb"),
    [
        ("wan-1.3b-12", 30 * 2 * 12 * 1560 * 1536 * 2, 3.5),
        ("wan-1.3b-21", 30 * 2 * 21 * 1560 * 1536 * 2, 6.0),
        ("wan-14b-12", 40 * 2 * 12 * 1560 * 5120 * 2, 15.3),
        ("wan-14b-21", 40 * 2 * 21 * 1560 * 5120 * 2, 26.8),
    ],
)
def test_a_state_is_keys_and_values_of_every_token_in_every_layer(
    name: str, cache_bytes: int, rounded_gb: float
) -> None:
    one = WAN_SIZES[name]
    assert one.cache_bytes == cache_bytes
    assert round(cache_bytes / GB, 1) == rounded_gb
    assert one.cache_bytes == one.layers * one.layer_bytes == one.window_frames * one.frame_bytes
    assert one.state_bytes == cache_bytes + VAE_CACHE_BYTES
    assert one.layer_bytes % GRANULE_BYTES == 0


def test_a_chunk_writes_three_latent_frames_in_two_ranges_a_layer() -> None:
    for one in WAN_SIZES.values():
        for chunk in range(2 * one.window_frames):
            dirty = one.layout().dirty(chunk)
            assert len(dirty) == 2 * one.layers
            assert sum(each.stop - each.start for each in dirty) == one.chunk_bytes == 3 * one.frame_bytes
            assert dirty[-1].stop <= one.cache_bytes


def test_pages_cost_less_than_a_part_in_eighty() -> None:
    for one in WAN_SIZES.values():
        paged = one.layout(page_tokens=256)
        assert one.cache_bytes < paged.state_bytes < one.cache_bytes * (1 + 1 / 80)
        assert paged.state_bytes % paged.alignment_bytes == 0


@pytest.mark.parametrize(
    ("name", "memory_gb", "sessions"),
    [
        ("wan-1.3b-21", 80, 9),
        ("wan-1.3b-21", 141, 17),
        ("wan-14b-21", 80, 1),
        ("wan-14b-21", 141, 3),
        ("wan-14b-12", 20, 0),
    ],
)
def test_as_many_states_fit_as_there_is_room_beside_the_weights(name: str, memory_gb: int, sessions: int) -> None:
    one = WAN_SIZES[name]
    assert one.sessions_in(memory_gb * GB) == sessions
    if sessions:
        assert one.weights_bytes + sessions * one.state_bytes <= memory_gb * GB
    assert one.weights_bytes + (sessions + 1) * one.state_bytes > memory_gb * GB


def test_a_link_is_counted_in_gigabytes_of_ten_to_the_ninth() -> None:
    assert seconds_over(WAN_SIZES["wan-14b-21"].cache_bytes, 50.0) == pytest.approx(0.5367, abs=1e-4)
