"""A worker that is wanted again while it ends is started anew, and is not taken for lost."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runtime.controller.controller import Available, Controller, Exited
from runtime.controller.step import Step, Switch
from runtime.journal.records import Joined, Left
from runtime.worker.process.messages import Goodbye
from scheduler.cluster import GpuId, GpuStatus
from scheduler.plan import GpuAim
from tests.runtime.controller.test_controller import HELLO, W, a_controller

OTHER = Joined(worker="h100-0-1-0", incarnation=1)  # as many stay as are always to be there


def aimed(controller: Controller, aim: GpuAim, now_s: float) -> Step:
    controller._power.follow({GpuId(W): aim}, now_s)
    return controller._books.step()


def status(controller: Controller) -> GpuStatus:
    return controller.snapshot().gpus[GpuId(W)].status


@pytest.mark.parametrize("ending", [Goodbye, Exited])
def test_who_ends_while_another_starts_in_its_place_is_not_lost(ending: type[Goodbye | Exited]) -> None:
    controller = a_controller(OTHER)
    assert aimed(controller, "stop", 1.0).switches == (Switch(worker=W, on=False),)
    assert aimed(controller, "start", 2.0).switches == (Switch(worker=W, on=True),)
    left = controller.handle(ending(worker=W, incarnation=1, reason="stopped"), 3.0)
    assert [type(record) for record in left.records] == [Left]
    assert status(controller) == "starting"
    controller.handle(replace(HELLO, incarnation=2), 4.0)
    assert status(controller) == "ready"


def test_who_ends_before_it_has_joined_is_lost_until_it_can_be_started_again() -> None:
    controller = a_controller(OTHER)
    aimed(controller, "stop", 1.0)
    controller.handle(Goodbye(worker=W, incarnation=1, reason="stopped"), 2.0)
    aimed(controller, "start", 3.0)
    controller.handle(Exited(worker=W, incarnation=None, reason="exit code 1"), 4.0)
    assert status(controller) == "lost"
    controller.handle(Available(worker=W), 4.0)
    assert status(controller) == "off"
