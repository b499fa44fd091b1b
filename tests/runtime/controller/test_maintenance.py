"""An operator has a GPU emptied and switched off, and gives it back: plans go by what he has said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from bench.world.fleet import FLEET
from runtime.controller.controller import Available, Controller, ControllerSettings, EpochOver
from runtime.controller.step import Step, Switch
from runtime.gateway.messages import About, Answer, Ask
from runtime.journal.records import Began, GivenBack, Joined, Placed, Withheld
from runtime.journal.rules import after
from runtime.worker.process.messages import Goodbye
from scheduler.cluster import GpuId
from scheduler.plan import GpuAim
from tests.runtime.controller.test_controller import HELLO, W, a_controller, created

OTHER = "h100-0-1-0"
THIRD = "h100-0-2-0"


def begun() -> Controller:
    """Two workers are there."""
    controller = a_controller(Joined(worker=OTHER, incarnation=1))
    controller.handle(msgspec.structs.replace(HELLO, worker=OTHER), 0.0)
    return controller


def asked(controller: Controller, about: About, gpu_id: str | None = None, now_s: float = 1.0) -> tuple[Any, Step]:
    step = controller.handle(Ask(question=7, about=about, gpu_id=gpu_id), now_s)
    (answer,) = [reply for reply in step.replies if isinstance(reply, Answer)]
    assert answer.question == 7
    return (answer.refused or (None if answer.body is None else msgspec.json.decode(answer.body))), step


def status(controller: Controller, name: str) -> str:
    return controller.snapshot().gpus[GpuId(name)].status


def aimed(controller: Controller, aims: Mapping[str, GpuAim]) -> Step:
    controller._power.follow({GpuId(name): aim for name, aim in aims.items()}, 2.0)
    return controller._books.step()


def test_an_empty_gpu_is_switched_off_and_used_again_once_it_is_given_back() -> None:
    controller = begun()
    told, step = asked(controller, "drain", W)
    assert told == {"gpu_id": W, "gpu_type": "h100", "status": "draining", "withheld": True, "sessions": 0}
    assert step.records == (Withheld(worker=W),)
    step = controller.handle(EpochOver(), 5.0)
    assert step.switches == (Switch(worker=W, on=False),)
    controller.handle(Goodbye(worker=W, incarnation=1, reason="stopped"), 6.0)
    controller.handle(Available(worker=W), 7.0)
    assert status(controller, W) == "lost", "it could be started, and is not to be"
    assert controller.handle(EpochOver(), 10.0).switches == ()
    told, step = asked(controller, "give back", W)
    assert (told["status"], told["withheld"]) == ("off", False)
    assert step.records == (GivenBack(worker=W),)
    assert aimed(controller, {W: "start"}).switches == (Switch(worker=W, on=True),)


def test_who_is_there_stays_until_it_is_empty() -> None:
    controller = a_controller(created(), Placed(session_id="s", worker=W), Joined(worker=OTHER, incarnation=1))
    told, _ = asked(controller, "drain", W)
    assert told["sessions"] == 1
    assert controller.handle(EpochOver(), 5.0).switches == ()
    assert status(controller, W) == "draining"


def test_another_one_starts_in_place_of_one_that_a_plan_would_keep() -> None:
    controller = begun()
    asked(controller, "drain", W)
    step = aimed(controller, {W: "keep", OTHER: "keep", THIRD: "off"})
    assert step.switches == (Switch(worker=THIRD, on=True),)
    assert (status(controller, W), status(controller, THIRD)) == ("draining", "starting")
    assert aimed(controller, {W: "drain", OTHER: "keep", THIRD: "keep"}).switches == ()


def test_it_is_said_twice_and_done_once() -> None:
    controller = begun()
    words: tuple[tuple[About, int], ...] = (("drain", 1), ("drain", 0), ("give back", 1), ("give back", 0))
    for about, records in words:
        _, step = asked(controller, about, W)
        assert len(step.records) == records
    assert status(controller, W) == "ready"


@pytest.mark.parametrize("name", ["h100-0-2-0", "h100-0-3-0"])
def test_one_that_is_off_is_not_started(name: str) -> None:
    controller = begun()
    told, _ = asked(controller, "drain", name)
    assert told["status"] == "lost"
    assert aimed(controller, {name: "start"}).switches == ()


def test_one_that_starts_does_not_go_on_starting() -> None:
    controller = begun()
    aimed(controller, {THIRD: "start"})
    _, step = asked(controller, "drain", THIRD)
    assert step.switches == (Switch(worker=THIRD, on=False),)
    assert status(controller, THIRD) == "lost"


def test_a_controller_that_begins_anew_knows_of_it() -> None:
    controller = begun()
    asked(controller, "drain", W)
    asked(controller, "drain", THIRD)
    truth = after(controller.truth, [Began(controller_epoch=2)])
    again, _ = Controller.begin(FLEET, truth, 10.0)
    assert (status(again, W), status(again, THIRD), status(again, OTHER)) == ("draining", "lost", "ready")


def test_whoever_starts_no_workers_asks_nobody_for_a_withheld_one() -> None:
    settings = ControllerSettings(starts_workers=False)
    truth = after(begun().truth, [Withheld(worker=W), Began(controller_epoch=2)])
    controller, _ = Controller.begin(FLEET, truth, 0.0, settings)
    assert controller.handle(EpochOver(), 5.0).switches == (Switch(worker=W, on=False),)
    assert controller.handle(Goodbye(worker=W, incarnation=1, reason="stopped"), 6.0).switches == ()
    controller._power.call()
    assert W not in {switch.worker for switch in controller._books.step().switches}
    _, step = asked(controller, "give back", W)
    assert step.switches == (Switch(worker=W, on=True),)


def test_all_gpus_are_told_and_no_others_are_known() -> None:
    controller = begun()
    told, _ = asked(controller, "gpus")
    assert [each["gpu_id"] for each in told] == [W, OTHER, THIRD, "h100-0-3-0"]
    assert asked(controller, "drain", "h100-9-0-0")[0] is None


def test_nothing_is_drained_where_nothing_is_carried_out() -> None:
    controller, _ = Controller.begin(FLEET, begun().truth, 0.0, ControllerSettings(mode="advise"))
    told, step = asked(controller, "drain", W)
    assert told == "nothing is carried out: the controller's mode is advise"
    assert step.records == ()
