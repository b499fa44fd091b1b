"""What users see of rounds: closed forms of chunks, stalls and lateness."""

from __future__ import annotations

import math

import pytest

from scheduler.simulation.settings import SimulationSettings, Straggler
from tests.builders import a_fleet, a_trace
from tests.scheduler.simulation.runs import latencies, of, scripted, simulated

TABLE_MS = "profiles.a.latency_ms"


@pytest.mark.parametrize("round_ms", [100.0, 1000.0, 2600.0])
def test_a_session_alone_has_a_chunk_every_round_or_every_chunk_whichever_is_longer(round_ms: float) -> None:
    fleet = a_fleet({TABLE_MS: {"h100": [round_ms]}, "target.chunk_latency_ms": 5000.0})
    outcome = simulated(a_trace("s1 0-100"), fleet, scripted({0.0: "place s1 0"}))
    every_s = max(round_ms / 1000, 1.0)
    chunks = math.floor((100 - round_ms / 1000) / every_s + 1e-9) + 1
    assert of(outcome.tables.periods, "s1", "chunks") == [chunks]
    assert of(outcome.tables.periods, "s1", "first_chunk_ms") == [round_ms]
    assert latencies(outcome) == {round_ms: chunks}
    assert outcome.summary.late_chunk_ratio == 0


def test_an_overloaded_gpu_stalls_by_what_a_round_takes_beyond_a_chunk() -> None:
    """Rounds of 1.5 s end at 1.5, 3 ... 30 s: after the first chunk each comes half a second late."""
    fleet = a_fleet({TABLE_MS: {"h100": [100.0, 200.0, 1500.0]}})
    outcome = simulated(
        a_trace("s1 0-30; s2 0-30; s3 0-30"), fleet, scripted({0.0: "place s1 0; place s2 0; place s3 0"})
    )
    assert outcome.tables.periods["stall_s"].to_list() == [9.5] * 3
    assert outcome.tables.periods["late_chunks"].to_list() == [19] * 3
    assert outcome.summary.late_chunk_ratio == 1
    assert outcome.summary.continuous_play_ratio == 0


def test_the_stall_under_way_at_the_end_of_a_period_counts_until_then() -> None:
    """One chunk at 2.6 s is played until 3.6 s; the next would come at 5.2 s, and the period ends at 5 s."""
    fleet = a_fleet({TABLE_MS: {"h100": [2600.0]}})
    outcome = simulated(a_trace("s1 0-5; s2 0-9"), fleet, scripted({0.0: "place s1 0"}))
    assert of(outcome.tables.periods, "s1", "stall_s") == [pytest.approx(1.4)]
    assert of(outcome.tables.periods, "s1", "chunks") == [2], "a round that has begun delivers, whoever has left"


def test_sessions_with_longer_chunks_sit_rounds_out_once_their_buffer_is_full() -> None:
    """Rounds begin every second; b's chunks last two, so that from the fourth on it takes part in every other one."""
    profiles = {
        "a": {"chunk_s": 1.0, "state_gib": 4.0, "latency_ms": {"h100": [100.0]}},
        "b": {"chunk_s": 2.0, "state_gib": 4.0, "latency_ms": {"h100": [150.0]}},
    }
    outcome = simulated(
        a_trace("s1:a 0-20; s2:b 0-20"), a_fleet({"profiles": profiles}), scripted({0.0: "place s1 0; place s2 0"})
    )
    assert outcome.tables.periods["chunks"].to_list() == [20, 12]
    assert latencies(outcome) == {250.0: 24, 100.0: 8}
    assert outcome.summary.stall_seconds == 0


def test_whoever_joins_takes_part_in_the_next_round() -> None:
    outcome = simulated(a_trace("s1 0-20; s2 0.05-20"), a_fleet(), scripted({0.0: "place s1 0", 0.25: "place s2 0"}))
    assert of(outcome.tables.periods, "s2", "first_chunk_ms") == [1150.0]
    assert of(outcome.tables.periods, "s2", "unserved_s") == [pytest.approx(0.2)]


def test_where_a_batch_may_not_run_sessions_take_turns_and_wait_for_each_others_rounds() -> None:
    """Rounds of 400 ms, one session each: with 1 s between begins each has every other one, whose latency is both."""
    fleet = a_fleet({TABLE_MS: {"h100": [400.0]}, "target.chunk_latency_ms": 500.0})
    outcome = simulated(a_trace("s1 0-20; s2 0-20"), fleet, scripted({0.0: "place s1 0; place s2 0"}))
    assert outcome.tables.periods["chunks"].to_list() == [10, 10]
    assert of(outcome.tables.periods, "s2", "first_chunk_ms") == [1400.0]
    assert latencies(outcome) == {400.0: 2, 800.0: 18}, "a first chunk is the round alone"
    assert outcome.summary.late_chunk_ratio == 1


def test_a_profile_that_cannot_run_on_a_gpu_gets_nothing_and_disturbs_nobody() -> None:
    profiles = {
        "a": {"chunk_s": 1.0, "state_gib": 4.0, "latency_ms": {"h100": [100.0]}},
        "b": {"chunk_s": 1.0, "state_gib": 4.0, "latency_ms": {}},
    }
    outcome = simulated(
        a_trace("s1:a 0-20; s2:b 0-20"), a_fleet({"profiles": profiles}), scripted({0.0: "place s1 0; place s2 0"})
    )
    assert outcome.tables.periods["chunks"].to_list() == [20, 0]
    assert outcome.summary.late_first_chunk_ratio == 0.5, "a period without a chunk is late once it lasts too long"


def test_a_stragglers_rounds_take_longer_until_it_recovers() -> None:
    settings = SimulationSettings(faults=(Straggler(at_s=2.0, draw=0, factor=3.0, duration_s=3.0),))
    outcome = simulated(a_trace("s1 0-10"), a_fleet(), scripted({0.0: "place s1 0"}), settings)
    assert latencies(outcome) == {100.0: 7, 300.0: 3}
    assert of(outcome.tables.periods, "s1", "late_chunks") == [3]
