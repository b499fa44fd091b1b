"""Runs whose figures are worked out by hand, in the oracle of the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scheduler.fleet import Fleet
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.settings import Failure, SimulationSettings, Straggler
from tests.builders import a_fleet, a_trace
from tests.scheduler.simulation.oracle import run_oracle
from tests.scheduler.simulation.scripted import ScriptedPolicy, scripted

STATE_BYTES = 4 * 2**30
SLOW = {"profiles.a.chunk_s": 0.2}
ONE_GB = {"links.device_device_gb_s": 1.0, "links.device_host_gb_s": 1.0, "links.node_node_gb_s": 1.0}


def _run(
    trace: str,
    script: Mapping[float, str],
    *,
    fleet: Fleet | None = None,
    gpus: int = 1,
    planning_s: float = 0.0,
    settings: SimulationSettings | None = None,
) -> tuple[ScriptedPolicy, Outcome]:
    fleet = fleet or a_fleet()
    policy, prepared = scripted(fleet, script, gpus=gpus, planning_s=planning_s)
    return policy, run_oracle(a_trace(trace), fleet, prepared, settings)


def _rows(outcome: Outcome, table: str, *columns: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = getattr(outcome.tables, table).select(columns).rows()
    return found


def test_one_session_alone_gets_a_chunk_each_chunk_time() -> None:
    _, outcome = _run("s1:a 0-10", {0.0: "s1>0"})
    summary = outcome.summary
    assert (summary.chunks, summary.stall_seconds, summary.continuous_play_ratio) == (10, 0.0, 1.0)
    assert summary.first_chunk_ms.max == summary.chunk_latency_ms.max == 100.0
    assert (summary.gpu_hours, summary.gpu_dollars, summary.gpus_max) == (30 / 3600, 0.03, 1)
    assert _rows(outcome, "stays", "status", "gpu_id", "start_s", "end_s") == [("active", "h100-0-0-0", 0.0, 10.0)]


def test_overload_stalls_by_what_a_round_takes_beyond_a_chunk() -> None:
    """Rounds of 300 ms for chunks of 200 ms: nine stalls of 100 ms, every chunk but the first late."""
    _, outcome = _run("s1:a 0-3; s2:a 0-3; s3:a 0-3", {0.0: "s1>0, s2>0, s3>0"}, fleet=a_fleet(SLOW))
    assert _rows(outcome, "periods", "first_chunk_ms", "chunks", "late_chunks", "stall_s") == [(300.0, 10, 9, 0.9)] * 3
    assert outcome.summary.late_chunk_ratio == 1.0
    assert outcome.summary.continuous_play_ratio == 0.0


def test_a_full_buffer_lets_rounds_pass() -> None:
    """With two chunk times in one pool the faster profile sets the pace, and the slower one skips every other round."""
    profiles = {
        "a": {"chunk_s": 1.0, "state_gib": 4.0, "latency_ms": {"h100": [100.0]}},
        "b": {"chunk_s": 0.5, "state_gib": 4.0, "latency_ms": {"h100": [50.0]}},
    }
    _, outcome = _run("s1:a 0-10; s2:b 0-10", {0.0: "s1>0, s2>0"}, fleet=a_fleet({"profiles": profiles}))
    chunks = dict(_rows(outcome, "periods", "profile", "chunks"))
    assert chunks == {"a": 12, "b": 20}, "ten have played, two are ahead"


def test_a_move_freezes_at_the_end_of_the_round_and_its_time_is_in_the_next_latency() -> None:
    """8 ms and 4 GiB at 300 GB/s: 22.317 ms from the end of the round at 10.1 s."""
    script = {0.95: "s1>0", 10.0: "s1>1"}
    _, outcome = _run("s1:a 0.95-20.95", script, gpus=2, planning_s=0.05)
    place, move = _rows(outcome, "moves", "kind", "start_s", "freeze_s", "end_s", "gib", "result")
    assert place == ("place", 1.0, 1.0, 1.0, 0.0, "done")
    assert move == ("migrate", 10.05, 10.1, 10.122317, 4.0, "done")
    assert _rows(outcome, "latencies", "latency_ms", "chunks") == [(100.0, 20), (122.317, 1)]


def test_transfers_over_one_link_share_it() -> None:
    """Both leave GPU 0 over its link of 1 GB/s: half each, and all of it for who is left."""
    fleet = a_fleet({**ONE_GB, "links.latency_ms": 0.0})
    _, outcome = _run("s1:a 0-30; s2:a 0-30; s3:a 13-30", {0.0: "s1>0, s2>0", 10.0: "s1>1, s2>1"}, gpus=2, fleet=fleet)
    ends = [row[0] for row in _rows(outcome, "moves", "end_s")][2:]
    alone = -(-2 * STATE_BYTES * 1_000_000 // 10**9) / 1e6
    assert ends == [10 + alone] * 2


def test_the_bytes_of_two_nodes_go_through_both_networks() -> None:
    fleet = a_fleet({"links.node_node_gb_s": 1.0, "links.latency_ms": 0.0})
    _, outcome = _run("s1:a 0-30", {0.0: "s1>0", 10.0: "s1>2"}, gpus=3, fleet=fleet)
    assert _rows(outcome, "moves", "end_s")[1] == (10 + 4.294968,)


def test_the_next_wave_begins_when_the_last_move_of_a_wave_has_ended() -> None:
    fleet = a_fleet({"links.device_device_gb_s": 1.0, "links.latency_ms": 0.0})
    _, outcome = _run("s1:a 0-30; s2:a 0-30", {0.0: "s1>0, s2>0", 10.0: "s1>1 / s2>1"}, gpus=2, fleet=fleet)
    assert _rows(outcome, "moves", "start_s")[2:] == [(10.0,), (10.0 + 4.294968,)]


def test_a_later_plan_drops_the_waves_that_have_not_begun() -> None:
    fleet = a_fleet({"links.device_device_gb_s": 0.1, "links.latency_ms": 0.0})
    _, outcome = _run("s1:a 0-60; s2:a 0-60", {0.0: "s1>0, s2>0", 10.0: "s1>1 / s2>1"}, gpus=2, fleet=fleet)
    assert [row[0] for row in _rows(outcome, "moves", "session_id")] == ["s1", "s2", "s1"]


def test_who_makes_the_batch_impossible_is_left_out_and_waits_for_that_round() -> None:
    """Two sessions where one may run: they take turns, each latency is the other's round and their own."""
    fleet = a_fleet({"profiles.a.latency_ms": {"h100": [100.0]}, "profiles.a.chunk_s": 0.1})
    _, outcome = _run("s1:a 0-1; s2:a 0-1", {0.0: "s1>0, s2>0"}, fleet=fleet)
    assert _rows(outcome, "periods", "first_chunk_ms", "chunks", "stall_s") == [(100.0, 5, 0.4), (200.0, 5, 0.4)]
    assert _rows(outcome, "latencies", "latency_ms", "chunks") == [(100.0, 2), (200.0, 8)]


def test_a_lost_gpu_takes_its_round_along_and_who_was_on_it_waits() -> None:
    """Lost at 5.05 s in the round of chunk 6; asked early at once, placed anew, 150 ms until the next round."""
    settings = SimulationSettings(faults=(Failure(at_s=5.05, draw=0, repair_s=100.0),))
    policy, outcome = _run("s1:a 0-10", {0.0: "s1>0", 5.05: "s1>1"}, gpus=2, settings=settings)
    assert policy.asked == [(0.0, False), (5.05, True)]
    assert _rows(outcome, "gpus", "gpu_id", "off_s", "end") == [
        ("h100-0-0-0", 5.05, "lost"),
        ("h100-0-0-1", 10.0, "horizon"),
    ]
    assert outcome.summary.chunks == 10
    assert _rows(outcome, "stays", "status", "end_s") == [("active", 5.05), ("active", 10.0)]


def test_a_straggler_takes_longer_for_a_while() -> None:
    settings = SimulationSettings(faults=(Straggler(at_s=3.0, draw=0, factor=1.5, duration_s=2.0),))
    _, outcome = _run("s1:a 0-10", {0.0: "s1>0"}, settings=settings)
    assert _rows(outcome, "latencies", "latency_ms", "chunks") == [(100.0, 8), (150.0, 2)]


def test_nobody_is_asked_again_for_those_who_still_wait_until_something_changes() -> None:
    """After the epoch's step at 0 comes an early one for s1; s2 and the GPU that is ready at 20 s bring two more."""
    policy, outcome = _run("s1:a 0-40; s2:a 3-40", {0.0: "start 0", 20.25: "s1>0, s2>0"}, gpus=0)
    assert policy.asked == [
        (0.0, False),
        (0.25, True),
        (3.0, True),
        (10.0, False),
        (20.0, False),
        (20.25, True),
        (30.0, False),
    ]
    assert outcome.summary.unserved_session_seconds == 20.25 + 17.25


def test_what_falls_into_the_time_of_planning_is_done_when_the_plan_takes_effect() -> None:
    policy, _ = _run("s1:a 0-40", {}, planning_s=12.0)
    assert policy.asked == [(0.0, False), (12.0, False), (24.0, False), (36.0, False)]


def test_an_active_session_in_host_memory_pays_for_the_whole_time_away() -> None:
    """Off at 10.0 s, back at 20.0 s, each over 1 GB/s; the chunk at 10.0 s would have been there at 10.1 s."""
    fleet = a_fleet({"links.device_host_gb_s": 1.0, "links.latency_ms": 0.0})
    _, outcome = _run("s1:a 0-30", {0.0: "s1>0", 10.0: "s1>", 20.0: "s1>0"}, fleet=fleet)
    assert outcome.summary.chunk_latency_ms.max == 100.0 + 10_000.0 + 4294.968
    assert outcome.summary.resumes == 1
    assert outcome.summary.unserved_session_seconds == 10.0


def test_stop_drains_a_gpu_that_holds_something_and_the_floor_holds() -> None:
    fleet = a_fleet({"pools": [{"gpu_type": "h100", "nodes": 2, "gpus_per_node": 2, "gpus_min": 1}]})
    script = {0.0: "s1>0", 10.0: "stop 0, stop 1, drain 2"}
    policy, outcome = _run("s1:a 0-30", script, gpus=3, fleet=fleet)
    assert [one.status for one in policy.snapshots[2].gpus.values()] == ["draining", "off", "ready", "off"]
    assert _rows(outcome, "gpus", "off_s", "end")[1] == (10.0, "stopped")
