"""Snapshots and decisions in files: read as they were written, and refused with every mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scheduler.decision_json import DecisionRecord, decision_json, load_plan, parse_decision
from scheduler.epoch_plan_json import epoch_plan_json
from scheduler.fleet_file import load_fleet
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings
from scheduler.snapshot_json import latest_s, load_snapshot, parse_snapshot, snapshot_json
from tests.scheduler.clusters import WORK, a_cluster, two_profiles
from traces.errors import BadInputError

FLEET = two_profiles()
BUSY = a_cluster(
    FLEET, "a1@0 a2@0~ a3@1 b1 a4@n0 a5@n1~", on=3, status={3: "starting"}, moves={"a3": ("migrate", 1, 2)}
)


def a_record() -> DecisionRecord:
    decision = Planner(FLEET).step(BUSY, 0.0, WORK)
    return DecisionRecord(fleet=FLEET, settings=PlannerSettings(), snapshot=BUSY, now_s=0.0, decision=decision)


def test_a_snapshot_is_read_as_it_was_written() -> None:
    assert parse_snapshot(json.loads(json.dumps(snapshot_json(BUSY))), FLEET, "s.json") == BUSY


def test_a_decision_is_read_as_it_was_written() -> None:
    record = a_record()
    assert parse_decision(json.loads(json.dumps(decision_json(record))), "d.json") == record


def test_a_plan_alone_can_be_compared_too(tmp_path: Path) -> None:
    record = a_record()
    (tmp_path / "plan.json").write_text(json.dumps(epoch_plan_json(record.decision)))
    (tmp_path / "decision.json").write_text(json.dumps(decision_json(record)))
    assert load_plan(tmp_path / "plan.json") == load_plan(tmp_path / "decision.json")


def test_the_latest_time_of_a_snapshot_is_the_present() -> None:
    assert latest_s(BUSY) == 0.0  # GPUs have their status since 0; sessions came before
    assert latest_s(a_cluster(FLEET)) == 0.0


@pytest.mark.parametrize(
    ("part", "change", "expected"),
    [
        ("gpus", {"gpu_id": "h100-0-0-9"}, 'gpus[0].gpu_id="h100-0-0-9" must be a GPU of the fleet; did you mean'),
        ("gpus", {"status": "on"}, 'gpus[0].status="on" must be'),
        ("gpus", {"statu": "off"}, "gpus[0].statu is not a known key; did you mean status?"),
        ("sessions", {"profile": "aa"}, 'sessions[0].profile="aa" must be a profile of the fleet; did you mean a?'),
        ("sessions", {"gpu": "h100-0-1-7"}, 'sessions[0].gpu="h100-0-1-7" must be a GPU of the fleet'),
        ("sessions", {"gpu": None}, "session a1: active means on a GPU, and there alone"),
        ("sessions", {"session_id": "a2"}, 'sessions[1].session_id="a2" must be unique; sessions[0] has it too'),
        ("sessions", {"slack_ms": float("nan")}, "sessions[0].slack_ms=nan must be a finite number"),
        ("moves", {"session_id": "nobody"}, 'moves[0].session_id="nobody" must be a session of the file'),
    ],
)
def test_a_wrong_snapshot_is_refused_with_the_place_and_the_remedy(
    part: str, change: dict[str, Any], expected: str
) -> None:
    data = snapshot_json(BUSY)
    data[part][0] |= change
    with pytest.raises(BadInputError) as caught:
        parse_snapshot(data, FLEET, "s.json")
    assert f"s.json: {expected}" in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        (["format"], "epochal.plan/1", "format=\"epochal.plan/1\" must be 'epochal.decision/1'"),
        (["now_s"], "noon", 'now_s="noon" must be a number'),
        (["fleet", "epoch_s"], -1, "fleet.epoch_s=-1 must be > 0"),
        (["settings", "gap"], 2, "settings.gap=2 must be <= 1"),
        (["snapshot", "gpus", 0, "status"], "on", 'snapshot.gpus[0].status="on" must be'),
        (["plan", "version"], -1, "plan.version=-1 must be >= 0"),
        (["plan", "gpus", "h100-0-0-0"], "start", "plan: GPU h100-0-0-0 is ready: it cannot be told to start"),
        (["plan", "seats"], {}, "plan: the plan has seats for other sessions than there are"),
    ],
)
def test_a_wrong_decision_is_refused_with_the_part_that_is_wrong(
    keys: list[str | int], value: Any, expected: str
) -> None:
    data: Any = json.loads(json.dumps(decision_json(a_record())))
    place = data
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(BadInputError) as caught:
        parse_decision(data, "d.json")
    assert f"d.json: {expected}" in str(caught.value)


@pytest.mark.parametrize("data", [None, 3, [], "text"])
def test_what_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(BadInputError, match="must be an object"):
        parse_decision(data, "d.json")
    with pytest.raises(BadInputError, match="must be an object"):
        parse_snapshot(data, FLEET, "s.json")


def test_the_bundled_snapshot_fits_its_fleet() -> None:
    examples = Path(__file__).parents[2] / "examples"
    snapshot = load_snapshot(examples / "snapshots/evening.json", load_fleet(examples / "fleets/four-profiles.yaml"))
    assert len(snapshot.sessions) == 29
