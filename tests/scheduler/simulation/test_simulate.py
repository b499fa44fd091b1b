"""A run as a whole: it repeats, skipping rounds changes nothing, and what a user gets wrong is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.least_loaded import LeastLoaded
from scheduler.fleet import Fleet
from scheduler.policy import Prepared
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.percentiles import nearest_rank
from scheduler.simulation.settings import Failure, SimulationSettings, Straggler
from scheduler.simulation.simulate import simulate
from tests.builders import a_fleet, a_trace
from tests.scheduler.simulation.runs import scripted, simulated
from traces.compose import ComposeOptions
from traces.errors import BadInputError
from traces.synthetic import generate

SETTINGS = SimulationSettings(
    rounds=True,
    seed=7,
    faults=(
        Failure(at_s=100.0, draw=1, repair_s=60.0),
        Straggler(at_s=200.0, draw=0, factor=1.7, duration_s=100.0),
    ),
)


def a_mixed_fleet() -> Fleet:
    """Chunks of three lengths, and batches that reach beyond the tables."""
    profiles = {
        "a": {"chunk_s": 0.75, "state_gib": 3.2, "latency_ms": {"h100": [215.0, 400.0, 590.0]}},
        "b": {"chunk_s": 1.33, "state_gib": 2.0, "latency_ms": {"h100": [331.0, 616.0]}},
        "c": {"chunk_s": 2.0, "state_gib": 1.0, "latency_ms": {"h100": [90.0, 120.0]}},
    }
    return a_fleet({"profiles": profiles, "target.chunk_latency_ms": 900.0})


def a_run(**more: Any) -> Outcome:
    fleet = a_mixed_fleet()
    options = ComposeOptions(hours=0.15, active_mean=8, profiles={"a": 0.5, "b": 0.3, "c": 0.2}, seed=3)
    policy = Prepared(
        name="least-loaded", policy=LeastLoaded(fleet, suspends=True), planning_s=0.02, gpus_at_start={"h100": 4}
    )
    return simulated(generate(options), fleet, policy, SETTINGS, fleet_name="mixed", **more)


def bytes_of(outcome: Outcome) -> list[bytes]:
    tables = outcome.tables
    frames = [tables.periods, tables.stays, tables.moves, tables.gpus, tables.epochs, tables.decisions]
    assert tables.rounds is not None
    texts = [frame.write_csv().encode() for frame in (*frames, tables.latencies, tables.rounds)]
    return [*texts, json.dumps(outcome.summary.to_json()).encode()]


def test_equal_runs_leave_equal_bytes() -> None:
    assert bytes_of(a_run()) == bytes_of(a_run())


def test_skipping_equal_rounds_changes_nothing() -> None:
    skipped = a_run()
    assert bytes_of(skipped) == bytes_of(a_run(skip=False))
    assert skipped.tables.rounds is not None
    assert skipped.tables.rounds["rounds"].max() > 5  # type: ignore[operator]


def test_tables_and_summary_say_the_same() -> None:
    outcome = a_run()
    summary, tables = outcome.summary, outcome.tables
    assert tables.rounds is not None
    chunks = (tables.rounds["rounds"] * tables.rounds["sessions"]).sum()
    assert summary.chunks == tables.periods["chunks"].sum() == tables.latencies["chunks"].sum() == chunks
    assert summary.chunks == tables.epochs["chunks"].sum()
    assert tables.periods["late_chunks"].sum() == tables.epochs["late_chunks"].sum()
    waiting = tables.stays.filter(status="waiting")
    assert summary.unserved_session_seconds == pytest.approx((waiting["end_s"] - waiting["start_s"]).sum())
    assert summary.gpu_hours == pytest.approx((tables.gpus["off_s"] - tables.gpus["on_s"]).sum() / 3600)
    assert summary.resumes == tables.moves.filter(kind="resume", result="done").height
    assert tables.epochs["gpus_paid"].max() <= summary.gpus_max  # type: ignore[operator]


def test_a_run_that_is_stopped_tells_what_was_until_then() -> None:
    done: list[float] = []
    outcome = simulate(
        a_trace("s1 0-100; s2 60-100"),
        a_fleet(),
        scripted({0.0: "place s1 0"}),
        on_progress=done.append,
        stop=lambda: len(done) == 3,
    )
    assert done == [10.0, 20.0, 30.0]
    assert outcome.summary.horizon_s == 30.0
    assert outcome.tables.periods.select("session_id", "end_s", "chunks").rows() == [("s1", 30.0, 30)]
    assert outcome.tables.gpus["off_s"].to_list() == [30.0]


def test_times_are_measured_where_a_clock_is_given() -> None:
    ticks = iter(range(1000))
    policy = scripted({0.0: "place s1 0"})
    measured = SimulationSettings(plan_time="measured")
    outcome = simulate(a_trace("s1 0-20"), a_fleet(), policy, measured, clock=lambda: float(next(ticks)))
    assert outcome.summary.planning_ms.max == 1000.0
    assert outcome.tables.moves["start_s"].to_list() == [1.0], "the plan took as long as was measured"
    assert outcome.summary.seconds > 0


@pytest.mark.parametrize(
    ("trace", "settings", "words"),
    [
        ("s1:nobody 0-5", SimulationSettings(), "must be one of the fleet's profiles"),
        ("s1 0-5", SimulationSettings(ahead_chunks=0), "ahead_chunks=0 must be >= 1"),
        ("s1 0-5", SimulationSettings(early_spacing_s=-1.0), "early_spacing_s"),
    ],
)
def test_what_a_user_gets_wrong_is_told(trace: str, settings: SimulationSettings, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        simulate(a_trace(trace), a_fleet(), scripted(), settings)


def test_percentiles_are_the_smallest_values_that_enough_do_not_exceed() -> None:
    assert nearest_rank({10: 50, 20: 49, 30: 1}, (50, 95, 99, 100)) == [10.0, 20.0, 20.0, 30.0]
    assert nearest_rank({7: 1}, (50, 99)) == [7.0, 7.0]
    assert nearest_rank({}, (50,)) == [0.0]
