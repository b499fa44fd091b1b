"""What workers measure is counted once, added up by content, and compared with the fleet file."""

from __future__ import annotations

import math

import pytest

from runtime.recording.drift import HALF_LIFE_S, Drift
from runtime.recording.events import ChunksMeasured, RoundsMeasured, of_line, to_line
from runtime.recording.tally import Tally
from runtime.worker.process.messages import ChunksOf, Computed, Heartbeat, RoundsOf, encoded, from_worker
from tests.builders import a_fleet

FLEET = a_fleet()  # rounds of a take 100, 200, 300 ms; the target is 250
GPU = "h100-0-0-0"


def beat(sent_s: float, *rounds: tuple[int, float, float], incarnation: int = 1, worker: str = GPU) -> Heartbeat:
    """Rounds of so many sessions: how many, and their seconds."""
    return Heartbeat(
        worker=worker,
        incarnation=incarnation,
        controller_epoch=1,
        sent_s=sent_s,
        turn=1,
        turn_age_s=0.0,
        leased=True,
        dropped=0,
        chunks=(),
        computed=Computed(
            rounds=tuple(RoundsOf(content=(("a", batch),), rounds=n, seconds=seconds) for batch, n, seconds in rounds)
        ),
    )


def ratio(drift: Drift) -> float | None:
    return drift.counts().get('epochal_latency_drift_ratio{profile="a",type="h100"}')


def test_chunks_are_late_beyond_the_target_and_what_cannot_be_is_not_counted() -> None:
    tally = Tally(FLEET)
    strange = (math.nan, math.inf, -1.0, 1e9)
    for _ in range(2):
        tally.add(
            GPU,
            Computed(
                rounds=(
                    RoundsOf(content=(("a", 2),), rounds=1.5, seconds=0.3),
                    *(RoundsOf(content=(("a", 2),), rounds=1.0, seconds=one) for one in strange),
                    RoundsOf(content=(("a", 2),), rounds=0.0, seconds=1.0),
                ),
                chunks=(
                    ChunksOf(profile="a", batch=2, seconds=(0.2, 0.25, 0.3, *strange)),
                    ChunksOf(profile="unknown", batch=2, seconds=(0.2,)),
                ),
            ),
        )
    assert tally.lines(7.0) == [
        RoundsMeasured(t_s=7.0, gpu_id=GPU, content={"a": 2}, rounds=3.0, seconds=0.6),
        ChunksMeasured(t_s=7.0, gpu_id=GPU, profile="a", batch=2, chunks=6, late=2, seconds=1.5, seconds_max=0.3),
    ]
    assert tally.lines(8.0) == []
    most = RoundsOf(content=(("a", 1),), rounds=999_999.0, seconds=999_999.0)
    for _ in range(40):
        tally.add(GPU, Computed(rounds=(most,) * 32))
    (line,) = tally.lines(9.0)
    assert of_line(to_line(line)) == line  # whatever a worker says, the log can be read


def test_drift_is_of_what_was_measured_over_what_the_fleet_says() -> None:
    drift = Drift(FLEET)
    assert ratio(drift) is None
    drift.hear(beat(1.0, (1, 10.0, 1.0), (2, 5.0, 2.0)), 100.0)  # as the fleet says, and twice as long
    assert ratio(drift) == pytest.approx(3.0 / 2.0)


def test_a_heartbeat_that_comes_twice_or_late_counts_once() -> None:
    drift = Drift(FLEET)
    first, second = beat(1.0, (1, 1.0, 0.1)), beat(2.0, (1, 1.0, 0.3))
    for each in (first, first, second, first, second):
        drift.hear(each, 100.0)
    assert ratio(drift) == pytest.approx(2.0)
    drift.hear(beat(0.5, (1, 2.0, 0.2), incarnation=2), 100.0)  # clocks of incarnations are their own
    assert ratio(drift) == pytest.approx(0.6 / 0.4)


def test_what_is_long_ago_counts_less() -> None:
    drift = Drift(FLEET)
    drift.hear(beat(1.0, (1, 1.0, 0.2)), 100.0)
    drift.hear(beat(2.0, (1, 1.0, 0.1)), 100.0 + HALF_LIFE_S)
    assert ratio(drift) == pytest.approx((0.5 * 0.2 + 0.1) / (0.5 * 0.1 + 0.1))


def test_what_the_fleet_says_nothing_of_and_strangers_are_left_out() -> None:
    drift = Drift(FLEET)
    drift.hear(beat(1.0, (4, 1.0, 0.4), (0, 1.0, 0.4)), 100.0)
    drift.hear(beat(2.0, (1, 1.0, math.nan), (1, 0.0, 1.0)), 100.0)
    drift.hear(beat(1.0, (1, 1.0, 0.4), worker="stranger"), 100.0)
    assert ratio(drift) is None


def test_sessions_of_a_round_are_added_up_whether_the_fleet_knows_such_rounds_or_not() -> None:
    drift = Drift(FLEET)
    drift.hear(beat(1.0, (1, 2.0, 0.2), (4, 1.5, 0.4), (0, 1.0, 0.4), (2**40, 1.0, 0.4)), 100.0)
    counts = drift.counts()
    assert counts['epochal_batch_size_count{type="h100"}'] == pytest.approx(3.5)
    assert counts['epochal_batch_size_sum{type="h100"}'] == pytest.approx(2.0 + 1.5 * 4)


def test_workers_that_tell_nothing_of_it_are_understood() -> None:
    """A heartbeat of a worker that does not know the field ends before it."""
    whole = encoded(beat(1.0))
    without = bytes([whole[0] - 1]) + whole[1:].removesuffix(encoded_nothing())
    assert from_worker(without) == beat(1.0)


def encoded_nothing() -> bytes:
    """An empty `Computed`: an array of two empty arrays."""
    return b"\x92\x90\x90"
