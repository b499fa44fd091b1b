"""Plans of one epoch in files, and what differs between two of them."""

from __future__ import annotations

import json

import pytest

from scheduler.cluster import SessionId
from scheduler.epoch_plan_json import epoch_plan_json, parse_epoch_plan
from scheduler.plan_diff import diff_plans
from scheduler.planner import Planner
from tests.scheduler.clusters import WORK, a_cluster, a_plan_for, gpu, two_profiles
from traces.errors import BadInputError


def test_a_decision_is_read_as_it_was_written() -> None:
    fleet = two_profiles()
    decision = Planner(fleet).step(a_cluster(fleet, "a1@0 a2@0~ b1 a3@n0 b2@0"), 0.0, WORK)
    assert decision.plan.moves
    text = json.dumps(epoch_plan_json(decision))
    assert parse_epoch_plan(json.loads(text), "plan.json") == decision


def test_every_mistake_of_a_file_is_told() -> None:
    fleet = two_profiles()
    data = epoch_plan_json(Planner(fleet).step(a_cluster(fleet, "a1"), 0.0, WORK))
    data["version"] = -1
    data["gpus"][gpu(0)] = "explode"
    with pytest.raises(BadInputError) as caught:
        parse_epoch_plan(data, "plan.json")
    assert "version" in str(caught.value)
    assert "explode" in str(caught.value)


def test_a_plan_does_not_differ_from_itself() -> None:
    fleet = two_profiles()
    plan = Planner(fleet).step(a_cluster(fleet, "a1@0 b1"), 0.0, WORK).plan
    assert diff_plans(plan, plan).empty


def test_the_difference_names_sessions_gpus_and_moves() -> None:
    fleet = two_profiles()
    first = a_plan_for(fleet, a_cluster(fleet, "a1@0 a2@1"))
    second = a_plan_for(fleet, a_cluster(fleet, "a1@0 b1", status={1: "lost"}))
    found = diff_plans(first, second)
    assert set(found.seats) == {"a2", "b1"}
    assert found.seats[SessionId("b1")][0] is None
    assert found.gpus == {gpu(1): ("keep", "off")}
    assert [move.session_id for move in found.moves_new] == ["b1"]
    assert not found.empty
