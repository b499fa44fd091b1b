"""What waits for a disk that is full stays bounded."""

from __future__ import annotations

from runtime.controller.controller import Available, EpochOver, Exited, Happening, Planned, Ticked
from runtime.controller.process.keeping import kept, one_by_one
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


def test_who_can_be_started_again_waits_until_its_end_is_written() -> None:
    """That a worker is available has no effect before, and nothing would be written of it."""
    exited, other = (Exited(worker=name, incarnation=1, reason="killed") for name in "wv")
    happenings: list[Happening] = [exited, Available(worker="w"), Ticked(), Available(worker="v"), other, EpochOver()]
    tried: list[Happening] = []

    def full(happening: Happening) -> bool:
        tried.append(happening)
        return not isinstance(happening, Exited)

    assert one_by_one(happenings, full) == [exited, Available(worker="w"), other]
    assert tried == [exited, Ticked(), Available(worker="v"), other, EpochOver()]
    assert one_by_one(happenings, lambda _: True) == []
