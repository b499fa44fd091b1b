"""The measuring programs do what they time: states arrive, and bytes are counted."""

from __future__ import annotations

from runtime.measure.copies import checksum_seconds, copy_seconds
from runtime.measure.migrations import device, two_peers, ways

SIZE = 4 << 20


def test_copies_and_checksums_are_timed_in_turn() -> None:
    copied, summed = copy_seconds(SIZE, 2), checksum_seconds(SIZE, 2)
    assert [set(each) for each in copied] == [{"plain out", "suspend", "plain back", "resume"}] * 2
    assert [set(each) for each in summed] == [{"copy", "digest", "crc32"}] * 2
    assert all(seconds > 0 for each in (*copied, *summed) for seconds in each.values())


def test_migrations_are_timed_between_two_processes() -> None:
    with two_peers(SIZE, chunk_s=0.0, dirty_share=0.1) as peers:
        assert peers.flat_seconds(SIZE) > 0
        for way in ways(device()):
            stopped = peers.migration(SIZE, way, precopy=False)
            running = peers.migration(SIZE, way, precopy=True)
            assert (stopped.moved_bytes, stopped.frozen_bytes) == (SIZE, SIZE)
            assert (running.moved_bytes, running.frozen_bytes) == (SIZE, 0)  # no chunk is computed meanwhile
            assert stopped.frozen_s > 0
            assert running.frozen_s > 0
