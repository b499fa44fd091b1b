"""The measuring programs do what they time: states arrive, and bytes are counted."""

from __future__ import annotations

from runtime.chunk_models.wan_sizes import WAN_SIZES
from runtime.measure.copies import checksum_seconds, copy_seconds
from runtime.measure.disturbance import CHUNKS_MIN, quiet_and_moving
from runtime.measure.migrations import SESSION, device, two_peers, ways
from runtime.measure.one_layer import stayed

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


def test_neighbours_go_on_while_states_come_and_go() -> None:
    with two_peers(SIZE, chunk_s=0.05, dirty_share=0.1, neighbours=1) as peers:
        quiet, moving = quiet_and_moving(peers, SIZE, ways(device())[0], precopy=True, seconds=0.5)
    for phase in (quiet, moving):
        assert phase.seconds >= 0.5
        for chunks_s in phase.chunks_s.values():
            assert len(chunks_s) >= CHUNKS_MIN
            assert 0 < min(chunks_s) <= max(chunks_s)
    assert quiet.moving_share == 0
    assert 0 < moving.moving_share < 1


def test_a_session_with_a_real_layer_goes_on_elsewhere_as_if_it_had_stayed() -> None:
    name = "wan-1.3b-12"
    size_bytes = WAN_SIZES[name].layout(layers=1).state_bytes
    with two_peers(size_bytes, chunk_s=0.1, layer_of=name) as peers:
        peers.open(size_bytes)
        marks = {made.number: made.mark for made in (peers.made("source") for _ in range(2))}
        peers.migrate(ways(device())[0], precopy=True)
        arrived = peers.made("target")
        peers.close()
    assert arrived.number >= 2
    expected = [each.mark for each in stayed(name, device(), SESSION, arrived.number + 1)]
    assert {number: expected[number] for number in marks} == marks
    assert expected[arrived.number] == arrived.mark
