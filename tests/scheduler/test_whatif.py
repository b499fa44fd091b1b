"""What if: one change at a time, told in the words of its option; and faults drawn from rates."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.compare import optimum_of
from scheduler.simulation.fault_law import FaultLaw, draw_faults, parse_faults
from scheduler.simulation.settings import Failure, Straggler
from scheduler.whatif import Answer, Changes, answers_json, cases_of
from tests.builders import a_fleet, a_moving_plan, a_moving_trace
from tests.scheduler.outcomes import a_summary
from traces.errors import BadInputError

TWO_TYPES: dict[str, Any] = {
    "gpu_types.b200": {"memory_gib": 40.0, "weights_gib": 4.0, "price_per_hour": 7.2, "startup_s": 30.0},
    "profiles.a.latency_ms": {"h100": [100.0, 200.0, 300.0], "b200": [60.0, 120.0, 180.0]},
    "pools": [
        {"gpu_type": "h100", "nodes": 2, "gpus_per_node": 2},
        {"gpu_type": "b200", "nodes": 1, "gpus_per_node": 2},
    ],
}


def test_the_base_case_comes_first_and_every_change_is_made_by_itself() -> None:
    fleet, trace = a_fleet(TWO_TYPES | {"profiles.a.target_ms": 500.0}), a_moving_trace()
    changes = Changes(arrivals=[2.0], gpus=["b200"], target_ms=[125.0], startup_s=[180.0])
    cases = cases_of(trace, fleet, changes, seed=0)
    assert [case.name for case in cases] == ["base", "arrivals x 2", "GPUs b200", "target 125 ms", "start-up 180 s"]
    base, more, gpus, target, startup = cases
    assert (base.trace, base.fleet) == (trace, fleet)
    assert (more.trace.session_count, more.fleet) == (6, fleet)
    assert {pool.gpu_type for pool in gpus.fleet.pools} == {"b200"}
    assert (target.fleet.target.chunk_latency_ms, target.fleet.profiles["a"].target_ms) == (125.0, 250.0)
    assert {kind.startup_s for kind in startup.fleet.gpu_types.values()} == {180.0}
    assert all(case.trace == trace for case in (gpus, target, startup))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (Changes(gpus=["b20"]), '--gpu: "b20" must be a GPU type of the fleet; did you mean b200'),
        (Changes(target_ms=[-1.0]), "--target-ms: target.chunk_latency_ms=-1 must be > 0"),
        (Changes(startup_s=[-1.0]), "--startup-s: gpu_types.h100.startup_s=-1 must be >= 0"),
        (Changes(arrivals=[0.0]), "arrivals: factor=0 must be > 0 and finite"),
    ],
)
def test_a_change_that_cannot_be_made_is_told_by_its_option(changes: Changes, expected: str) -> None:
    with pytest.raises(BadInputError) as caught:
        cases_of(a_moving_trace(), a_fleet(TWO_TYPES), changes, seed=0)
    assert expected in str(caught.value)


def test_answers_as_json_have_optimum_and_summary_side_by_side() -> None:
    answer = Answer(name="base", optimum=optimum_of(a_moving_plan()), summary=a_summary())
    found = answers_json([answer], "epochal")
    assert found["format"] == "epochal.whatif/1"
    assert found["cases"][0]["optimum"]["bound_dollars"] == 0.11
    assert found["cases"][0]["summary"]["format"] == "epochal.summary/1"


def test_faults_come_at_their_rates_in_order_and_repeat() -> None:
    law = FaultLaw(failures_per_h=30, stragglers_per_h=60, straggler_factor=2.0)
    faults = draw_faults(law, 36_000.0, seed=3)
    assert faults == draw_faults(law, 36_000.0, seed=3)
    assert faults != draw_faults(law, 36_000.0, seed=4)
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    assert all(0 <= fault.at_s <= 36_000 for fault in faults)
    assert sum(isinstance(fault, Failure) for fault in faults) == pytest.approx(300, rel=0.3)
    assert sum(isinstance(fault, Straggler) for fault in faults) == pytest.approx(600, rel=0.3)


def test_no_rates_no_faults() -> None:
    assert draw_faults(FaultLaw(), 1e6, seed=0) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("failure_per_h=1", '"failure_per_h" must be one of the rates and times; did you mean failures_per_h'),
        ("failures_per_h=x", 'failures_per_h="x" must be a finite number >= 0'),
        ("failures_per_h", 'failures_per_h="" must be a finite number >= 0'),
        ("repair_s=-1", 'repair_s="-1" must be a finite number >= 0'),
        ("straggler_factor=1", "straggler_factor=1 must be > 1"),
    ],
)
def test_wrong_faults_are_told(text: str, expected: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_faults(text)
    assert expected in str(caught.value)


def test_a_law_is_read_from_its_text() -> None:
    assert parse_faults("failures_per_h=2, repair_s=60") == FaultLaw(failures_per_h=2.0, repair_s=60.0)
