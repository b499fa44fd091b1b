"""GPUs that start, drain, stop and are lost, and when a policy is asked."""

from __future__ import annotations

import pytest

from scheduler.simulation.settings import Failure, SimulationSettings
from tests.builders import a_fleet, a_trace
from tests.scheduler.clusters import gpu
from tests.scheduler.simulation.runs import asked, of, scripted, simulated

MIN_ONE = {"pools": [{"gpu_type": "h100", "nodes": 2, "gpus_per_node": 2, "gpus_min": 1}]}


def test_a_plan_takes_effect_after_the_time_it_took() -> None:
    outcome = simulated(a_trace("s1 0-20"), a_fleet(), scripted({0.0: "place s1 0"}, planning_s=0.5))
    assert of(outcome.tables.periods, "s1", "first_chunk_ms") == [600.0]
    assert of(outcome.tables.periods, "s1", "unserved_s") == [0.5]


def test_a_gpu_that_starts_is_paid_at_once_and_ready_later() -> None:
    policy = scripted({0.0: "start 0", 20.0: "place s1 0"}, on=0)
    outcome = simulated(a_trace("s1 0-50"), a_fleet(), policy)
    assert outcome.tables.gpus.row(0) == (gpu(0), "h100", "0/0", 0.0, 20.0, 50.0, "horizon")
    assert of(outcome.tables.periods, "s1", "first_chunk_ms") == [20100.0]
    assert outcome.summary.gpu_dollars == pytest.approx(0.05)


def test_what_is_on_at_the_start_was_paid_while_it_started_up() -> None:
    outcome = simulated(a_trace("s1 0-50"), a_fleet(MIN_ONE), scripted(on=2))
    assert outcome.tables.gpus["on_s"].to_list() == [-20.0, -20.0]
    assert outcome.summary.gpu_hours == pytest.approx(2 * 70 / 3600)


def test_a_gpu_that_becomes_ready_is_a_reason_to_ask() -> None:
    policy = scripted({3.0: "start 1"}, on=0)
    simulated(a_trace("s1 3-50"), a_fleet(), policy)
    assert [step for step in asked(policy) if step[1]] == [(3.0, True), (23.0, True)]


def test_a_gpu_that_holds_something_is_drained_instead_of_stopped() -> None:
    policy = scripted({0.0: "place s1 0", 10.0: "stop 0; place s2 0", 20.0: "migrate s1 1", 30.0: "stop 0"}, on=2)
    outcome = simulated(a_trace("s1 0-50; s2 5-50"), a_fleet(), policy)
    assert outcome.tables.gpus["off_s"].to_list() == [30.0, 50.0]
    assert of(outcome.tables.periods, "s2", "unserved_s") == [45.0], "whoever is drained receives nobody"


def test_no_plan_goes_below_the_floor_of_a_pool() -> None:
    outcome = simulated(a_trace("s1 0-50"), a_fleet(MIN_ONE), scripted({10.0: "stop 0; drain 1"}, on=2))
    assert outcome.tables.gpus["end"].to_list() == ["stopped", "horizon"]


def test_who_was_on_a_lost_gpu_waits_without_a_state_and_somebody_is_asked_at_once() -> None:
    settings = SimulationSettings(faults=(Failure(at_s=5.5, draw=0, repair_s=10.0),))
    policy = scripted({0.0: "place s1 0", 5.5: "place s1 1", 20.0: "start 0"}, on=2)
    outcome = simulated(a_trace("s1 0-30"), a_fleet(), policy, settings)
    assert of(outcome.tables.moves, "s1", "start_s") == [0.0, 5.5]
    assert outcome.tables.gpus["end"].to_list() == ["lost", "horizon", "horizon"]
    assert outcome.tables.gpus["on_s"].to_list() == [-20.0, -20.0, 20.0], "repaired at 15.5, started at 20"
    assert of(outcome.tables.periods, "s1", "chunks") == [31], "six until 5.1 s, then from 5.5 s on"


def test_a_round_is_lost_with_its_gpu() -> None:
    settings = SimulationSettings(faults=(Failure(at_s=5.05, draw=0, repair_s=10.0),))
    outcome = simulated(a_trace("s1 0-10"), a_fleet(), scripted({0.0: "place s1 0"}), settings)
    assert of(outcome.tables.periods, "s1", "chunks") == [5]
    assert of(outcome.tables.periods, "s1", "stall_s") == [pytest.approx(10 - 5.1)]


def test_a_lost_gpu_cannot_start_before_it_is_repaired() -> None:
    settings = SimulationSettings(faults=(Failure(at_s=5.0, draw=0, repair_s=10.0),))
    outcome = simulated(a_trace("s1 0-50"), a_fleet(), scripted(always="start 0"), settings)
    assert outcome.tables.gpus["on_s"].to_list() == [-20.0, 20.0]


def test_those_who_wait_are_asked_for_once_until_something_changes() -> None:
    policy = scripted(on=0)
    simulated(a_trace("s1 1-30; s2 12-30"), a_fleet(), policy)
    assert asked(policy) == [(0.0, False), (1.0, True), (10.0, False), (12.0, True), (20.0, False)]


def test_early_steps_keep_their_distance() -> None:
    policy = scripted(on=0)
    simulated(a_trace("s1 1-30; s2 1.1-30; s3 1.2-30"), a_fleet(), policy)
    assert asked(policy)[:3] == [(0.0, False), (1.0, True), (1.25, True)]


def test_nobody_is_asked_while_a_plan_is_computed() -> None:
    policy = scripted(on=0, planning_s=4.0)
    simulated(a_trace("s1 1-30; s2 9-30"), a_fleet(), policy)
    assert asked(policy) == [(0.0, False), (4.0, True), (9.0, True), (13.0, False), (20.0, False)]
