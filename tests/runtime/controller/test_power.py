"""Workers that nobody starts: no plan counts on one that is not there, and somebody is told what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest

from bench.world.fleet import FLEET
from runtime.controller.controller import Available, Controller, ControllerSettings, Exited, Planned, Unavailable
from runtime.controller.step import Step, Switch
from runtime.journal.records import Began, Joined
from runtime.journal.rules import after
from runtime.journal.truth import Truth
from runtime.worker.process.messages import Goodbye
from scheduler.cluster import GpuId
from scheduler.plan import GpuAim
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings
from scheduler.policy import Budget
from tests.runtime.controller.test_controller import HELLO, W, create

OTHER = "h100-0-1-0"
SETTINGS = ControllerSettings(starts_workers=False)


def begun(settings: ControllerSettings = SETTINGS) -> tuple[Controller, Step]:
    """With `W` there, and nobody else."""
    truth = after(Truth(), [Began(controller_epoch=1), Joined(worker=W, incarnation=1)])
    controller, step = Controller.begin(FLEET, truth, 0.0, settings)
    controller.handle(HELLO, 0.0)
    return controller, step


def statuses(controller: Controller) -> dict[str, str]:
    return {str(name): gpu.status for name, gpu in controller.snapshot().gpus.items()}


def planned(controller: Controller, now_s: float, aims: Mapping[str, GpuAim] | None = None) -> Step:
    """What the product's planner says; its aims of GPUs may be others."""
    decision = Planner(FLEET, PlannerSettings()).step(controller.snapshot(), now_s, Budget(work=20))
    changed = {GpuId(name): aim for name, aim in (aims or {}).items()}
    decision = replace(decision, plan=replace(decision.plan, gpus={**decision.plan.gpus, **changed}))
    return controller.handle(Planned(decision=decision, made_s=now_s), now_s)


def test_whoever_is_not_there_is_counted_on_by_nobody() -> None:
    controller, step = begun()
    found = statuses(controller)
    assert found.pop(W) == "ready"
    assert set(found.values()) == {"lost"}
    assert step.switches == ()  # as many as always have to be there are
    for number in range(40):
        controller.handle(create(f"s{number}"), 1.0)
    step = planned(controller, 1.0)
    assert {*statuses(controller).values()} == {"ready", "lost"}
    assert {switch.worker for switch in step.switches if switch.on} == set(found)  # somebody waits in vain


def test_whoever_joins_is_used_and_missed_when_it_goes() -> None:
    controller, _ = begun()
    controller.handle(msgspec.structs.replace(HELLO, worker=OTHER), 1.0)
    assert statuses(controller)[OTHER] == "ready"
    step = controller.handle(Goodbye(worker=OTHER, incarnation=1, reason="stopped"), 2.0)
    assert statuses(controller)[OTHER] == "lost"
    assert step.switches == (Switch(worker=OTHER, on=True),)


def test_whoever_is_not_needed_is_emptied_and_stays_until_it_is_stopped() -> None:
    controller, _ = begun()
    controller.handle(msgspec.structs.replace(HELLO, worker=OTHER), 1.0)
    step = planned(controller, 2.0, {OTHER: "stop"})
    assert statuses(controller)[OTHER] == "draining"
    assert step.switches == (Switch(worker=OTHER, on=False),)
    step = planned(controller, 3.0, {OTHER: "keep"})
    assert statuses(controller)[OTHER] == "ready"
    assert step.switches == (Switch(worker=OTHER, on=True),)
    planned(controller, 4.0, {OTHER: "stop"})
    step = controller.handle(Goodbye(worker=OTHER, incarnation=1, reason="stopped"), 5.0)
    assert statuses(controller)[OTHER] == "lost"
    assert step.switches == ()  # as somebody was told


def test_without_any_worker_those_are_asked_for_that_always_have_to_be_there() -> None:
    _, step = Controller.begin(FLEET, after(Truth(), [Began(controller_epoch=1)]), 0.0, SETTINGS)
    least = sum(pool.gpus_min for pool in FLEET.pools)
    assert least > 0
    assert [switch.on for switch in step.switches] == [True] * least


@pytest.mark.parametrize("wanted", [True, False])
def test_a_worker_that_cannot_be_started_is_lost_until_it_is_there(wanted: bool) -> None:
    controller, _ = begun(ControllerSettings())
    if wanted:
        step = planned(controller, 1.0, {OTHER: "start"})
        assert Switch(worker=OTHER, on=True) in step.switches
    controller.handle(Unavailable(worker=OTHER), 2.0)
    assert statuses(controller)[OTHER] == "lost"
    controller.handle(Unavailable(worker=W), 2.0)
    assert statuses(controller)[W] == "ready"  # it is there
    controller.handle(Available(worker=OTHER), 3.0)
    assert statuses(controller)[OTHER] == "off"
    controller.handle(Exited(worker=W, incarnation=1, reason="killed"), 4.0)
    assert statuses(controller)[W] == "lost"
