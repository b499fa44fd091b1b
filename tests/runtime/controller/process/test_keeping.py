"""What waits for a disk that is full stays bounded."""

from __future__ import annotations

from runtime.controller.controller import Available, EpochOver, Exited, Happening, Planned
from runtime.controller.process.keeping import kept
from scheduler.cluster_state import all_off
from scheduler.planner import Planner
from scheduler.policy import Budget
from tests.builders import a_fleet


def test_a_plan_takes_the_place_of_the_one_before() -> None:
    fleet = a_fleet()
    decision = Planner(fleet).step(all_off(fleet), 0.0, Budget(work=1))
    plans = [Planned(decision=decision, made_s=float(second)) for second in range(100)]
    exited = Exited(worker="w", incarnation=1, reason="killed")
    waiting: list[Happening] = []
    happenings: list[Happening] = [exited, *plans, Available(worker="w"), EpochOver()]
    for happening in happenings:
        waiting = kept(waiting, happening)
    assert waiting == [exited, plans[-1], Available(worker="w"), EpochOver()]
