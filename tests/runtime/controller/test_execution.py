"""What is carried out of a plan that was made for a fleet as it is no longer."""

from __future__ import annotations

from dataclasses import replace

from bench.world.fleet import DEVICE_STATES, FLEET
from runtime.controller.controller import Planned
from runtime.worker.messages import Open
from scheduler.cluster import GpuId, SessionId
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings
from scheduler.policy import Budget
from tests.runtime.controller.test_controller import W, a_controller, create


def test_no_more_begin_than_the_target_has_room_for_whatever_the_plan_says() -> None:
    controller = a_controller()
    names = [f"s{number}" for number in range(DEVICE_STATES + 2)]
    for name in names:
        controller.handle(create(name), 1.0)
    decision = Planner(FLEET, PlannerSettings()).step(controller.snapshot(), 1.0, Budget(work=20))
    place = next(move for move in decision.plan.moves if move.kind == "place" and move.target == W)
    crowd = tuple(replace(place, session_id=SessionId(name), target=GpuId(W), wave=0) for name in names)
    crowded = replace(decision, plan=replace(decision.plan, moves=crowd))
    step = controller.handle(Planned(decision=crowded, made_s=1.0), 1.0)
    opened = [word.body.session_id for word in step.words if isinstance(word.body, Open)]
    assert opened == names[:DEVICE_STATES]
