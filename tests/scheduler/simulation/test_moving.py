"""Moves in a run: what they cost, how they share links, and what is not done any more."""

from __future__ import annotations

import pytest

from scheduler.simulation.settings import Failure, SimulationSettings
from tests.builders import a_fleet, a_trace
from tests.scheduler.clusters import gpu, two_profiles
from tests.scheduler.simulation.runs import latencies, of, scripted, simulated

MIGRATE_US = 8_000 + 14_317  # 4 GiB at 300 GB/s, rounded up
ACROSS_US = 8_000 + 122_714  # at 35 GB/s
HOST_US = 8_000 + 85_900  # at 50 GB/s


def us(microseconds: int) -> float:
    return microseconds / 1_000_000


def test_a_migration_is_paid_by_the_chunk_behind_it() -> None:
    outcome = simulated(a_trace("s1 0-20"), a_fleet(), scripted({0.0: "place s1 0", 10.0: "migrate s1 1"}, on=2))
    assert of(outcome.tables.moves, "s1", "end_s")[1] == us(10_000_000 + MIGRATE_US)
    assert latencies(outcome) == {100.0: 19, (100_000 + MIGRATE_US) / 1000: 1}
    assert (outcome.summary.migrations, outcome.summary.migrated_gib) == (1, 4.0)


def test_between_nodes_a_migration_takes_the_network() -> None:
    outcome = simulated(a_trace("s1 0-20"), a_fleet(), scripted({0.0: "place s1 0", 10.0: "migrate s1 2"}, on=3))
    assert of(outcome.tables.moves, "s1", "end_s")[1] == us(10_000_000 + ACROSS_US)


def test_a_session_in_a_round_travels_when_the_round_is_over() -> None:
    """Rounds begin at 0.05 s, 1.05 s ... and take 100 ms; the plan of 12.05 s takes effect in the middle of one."""
    policy = scripted({0.0: "place s1 0", 12.05: "migrate s1 1"}, on=2, planning_s=0.05)
    outcome = simulated(a_trace("s1 0-20; s2 12.05-20"), a_fleet(), policy)
    (move,) = outcome.tables.moves.filter(kind="migrate").iter_rows(named=True)
    times = [move[name] for name in ("start_s", "freeze_s", "end_s")]
    assert times == [12.1, 12.15, us(12_150_000 + MIGRATE_US)]


def test_two_transfers_share_a_link() -> None:
    """Both leave GPU 0, whose link gives each the half."""
    policy = scripted({0.0: "place s1 0; place s2 0", 10.0: "migrate s1 1; migrate s2 1"}, on=2)
    outcome = simulated(a_trace("s1 0-20; s2 0-20"), a_fleet(), policy)
    assert outcome.tables.moves.filter(kind="migrate")["end_s"].to_list() == [us(10_000_000 + 8_000 + 28_634)] * 2


def test_who_is_left_on_a_link_speeds_up() -> None:
    """4 and 8 GiB share 50 GB/s: the smaller one ends after 171,799 us, and the other has 4,294,959,592 bytes left."""
    policy = scripted({0.0: "place s1 0; place s2 0", 10.0: "offload s1; offload s2"})
    outcome = simulated(a_trace("s1:a 0-20; s2:b 0-20"), two_profiles(), policy)
    first_us = 10_000_000 + 8_000 + 171_799
    assert outcome.tables.moves.filter(kind="offload")["end_s"].to_list() == [us(first_us), us(first_us + 85_900)]


def test_a_wave_begins_when_the_one_before_has_ended() -> None:
    """GPU 0 is full: s5 comes in once s1 has left."""
    script = {0.0: "place s1 0; place s2 0; place s3 0; place s4 0", 10.0: "offload s1 wave 0; place s5 0 wave 1"}
    outcome = simulated(a_trace("s1 0-20; s2 0-20; s3 0-20; s4 0-20; s5 5-20"), a_fleet(), scripted(script))
    assert of(outcome.tables.moves, "s5", "start_s") == of(outcome.tables.moves, "s1", "end_s")[1:2]


def test_an_offloaded_session_resumes_with_its_state() -> None:
    policy = scripted({0.0: "place s1 0", 12.0: "resume s1 0"}, always="offload s1", on=1)
    outcome = simulated(a_trace("s1 0-5 12-20"), a_fleet(), policy)
    assert of(outcome.tables.stays, "s1", "status") == ["active", "idle", "suspended", "waiting", "active"]
    assert of(outcome.tables.moves, "s1", "end_s")[1:] == [us(10_000_000 + HOST_US), us(12_000_000 + HOST_US)]
    assert of(outcome.tables.periods, "s1", "first_chunk_ms") == [100.0, (100_000 + HOST_US) / 1000]
    assert outcome.summary.resumes == 1


def test_a_session_that_returns_while_it_is_offloaded_waits_for_that() -> None:
    policy = scripted({0.0: "place s1 0", 10.0: "offload s1"}, on=1)
    outcome = simulated(a_trace("s1 0-5 10.05-11"), a_fleet(), policy)
    assert of(outcome.tables.stays, "s1", "status") == ["active", "idle", "waiting"]
    assert of(outcome.tables.moves, "s1", "result") == ["done", "done"]


def test_a_transfer_is_over_when_its_session_closes() -> None:
    policy = scripted({0.0: "place s1 0", 10.0: "migrate s1 1"}, on=2)
    outcome = simulated(a_trace("s1 0-10.01; s2 0-20"), a_fleet(), policy)
    assert of(outcome.tables.moves, "s1", "result") == ["done", "cancelled"]


@pytest.mark.parametrize("lost", [0, 1])
def test_transfers_fail_with_either_gpu(lost: int) -> None:
    settings = SimulationSettings(faults=(Failure(at_s=10.01, draw=lost, repair_s=5.0),))
    policy = scripted({0.0: "place s1 0", 10.0: "migrate s1 1"}, on=2)
    outcome = simulated(a_trace("s1 0-20"), a_fleet(), policy, settings)
    assert of(outcome.tables.moves, "s1", "result") == ["done", "failed"]
    assert of(outcome.tables.stays, "s1", "status") == (["active", "waiting"] if lost == 0 else ["active"])
    if lost == 1:
        assert latencies(outcome) == {100.0: 19, 110.0: 1}, "it plays on where it was"


def test_a_move_without_room_or_reason_is_passed_over() -> None:
    script = {
        0.0: "place s1 0; place s2 0; place s3 0; place s4 0",
        10.0: "place s5 0; migrate s1 3; resume s2 1; offload s9; place s6 1",
    }
    outcome = simulated(
        a_trace("s1 0-20; s2 0-20; s3 0-20; s4 0-20; s5 5-20; s6 6-20"), a_fleet(), scripted(script, on=2)
    )
    assert outcome.tables.moves["session_id"].to_list() == ["s1", "s2", "s3", "s4", "s6"]
    assert of(outcome.tables.moves, "s6", "target") == [gpu(1)]
