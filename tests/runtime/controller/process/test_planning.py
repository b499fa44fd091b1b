"""Plans come from a process of their own; one that hangs or dies costs its plan and is replaced."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from runtime.controller.process.planning import GRACE_S, SLOW_S, Explained, Made, PlanningProcess
from scheduler import events
from scheduler.cluster import GpuId, SessionId
from scheduler.cluster_state import ClusterState, all_off
from scheduler.planner_settings import PlannerSettings
from tests.builders import a_fleet

PATIENCE_S = 200.0  # kernels are compiled by whoever comes first
FLEET = a_fleet()


@pytest.fixture
def planning() -> Iterator[PlanningProcess]:
    made = PlanningProcess(FLEET, PlannerSettings())
    yield made
    made.close()


def waiting_for_a_place() -> ClusterState:
    state = ClusterState(all_off(FLEET))
    gpu = next(iter(state.gpus))
    state.apply(events.GpuReady(gpu_id=GpuId(gpu)), 0.0)
    state.apply(events.SessionOpened(session_id=SessionId("s"), profile="a"), 0.0)
    return state


def until_ready(planning: PlanningProcess) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not planning.is_free:
        assert planning.answer() is None
        assert time.monotonic() < end_s, "the process is not ready"
        time.sleep(0.01)


def answered(planning: PlanningProcess) -> Made | Explained:
    end_s = time.monotonic() + PATIENCE_S
    while (found := planning.answer()) is None:
        assert time.monotonic() < end_s, "no answer came"
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("early", [True, False])
def test_a_plan_comes_back_whole(planning: PlanningProcess, early: bool) -> None:
    until_ready(planning)
    planning.ask(waiting_for_a_place().snapshot(), 1.0, seconds=5.0, early=early)
    assert not planning.is_free
    made = answered(planning)
    assert planning.is_free
    assert isinstance(made, Made)
    assert (made.now_s, made.early) == (1.0, early)
    assert made.least_per_hour == (None if early else pytest.approx(3.6)), "one GPU holds one session"
    (move,) = made.decision.plan.moves
    assert (move.session_id, move.kind) == ("s", "place")
    assert made.decision.plan.seats[SessionId("s")].gpu == move.target
    planning.explain(made, SessionId("s"), seconds=5.0)
    explained = answered(planning)
    assert planning.is_free
    assert isinstance(explained, Explained)
    assert explained.body is not None
    told = json.loads(explained.body)
    assert (told["version"], told["session_id"], told["kind"], told["target"]["gpu"]) == (
        made.decision.plan.version,
        "s",
        "place",
        move.target,
    )
    assert told["constraint"]["text"]


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["hangs", "dies"])
def test_a_process_that_hangs_or_dies_costs_one_plan(planning: PlanningProcess, number: signal.Signals) -> None:
    until_ready(planning)
    pid = planning.pid
    assert pid is not None
    os.kill(pid, number)
    begun_s = time.monotonic()
    planning.ask(waiting_for_a_place().snapshot(), 1.0, seconds=0.2, early=True)
    while planning.given_up == 0:
        assert planning.answer() is None
        assert time.monotonic() < begun_s + 0.2 + GRACE_S + PATIENCE_S
        time.sleep(0.01)
    assert planning.pid != pid
    until_ready(planning)
    planning.ask(waiting_for_a_place().snapshot(), 2.0, seconds=5.0, early=False)
    made = answered(planning)
    assert isinstance(made, Made)
    assert made.decision.plan.moves
    pid = planning.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    planning.explain(made, SessionId("s"), seconds=5.0)
    given_up = answered(planning)
    assert isinstance(given_up, Explained)
    assert given_up.body is None, "whoever waits for an explanation hears that there is none"
    assert planning.given_up == 1, "no plan was lost with it"


def test_people_are_told_once_that_it_takes_long_and_once_that_it_is_over() -> None:
    now_s = [0.0]
    planning = PlanningProcess(FLEET, PlannerSettings(), clock=lambda: now_s[0])
    try:
        assert planning.news() == []
        now_s[0] = SLOW_S
        assert len(planning.news()) == 1
        assert planning.news() == []
        until_ready(planning)
        assert planning.news() == [f"plans: from now on, after {SLOW_S:.0f} s"]
        assert planning.news() == []
    finally:
        planning.close()
