"""Plans under each mode: what goes by itself, what waits for an operator, and what an operator's word is worth."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from bench.world.fleet import FLEET
from runtime.controller.approval import PLANS_KEPT, Approval, Ruling, Standing
from runtime.controller.books import VERSIONS
from runtime.controller.controller import Controller, ControllerSettings, Planned, Ticked
from runtime.controller.step import Step, Switch
from runtime.gateway import messages as gate
from runtime.journal.records import Began, Joined, Placed
from runtime.journal.rules import after
from runtime.journal.truth import Truth
from scheduler.cluster import Gpu, GpuId, GpuStatus, MoveKind, NodeId, SessionId
from scheduler.gpu_decision import STEADY
from scheduler.plan import GpuAim, Move, Plan
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings
from scheduler.policy import Budget
from tests.runtime.controller.test_controller import HELLO, W, answers, create

NAMES = ("g0", "g1", "g2")
OTHER = "h100-0-1-0"


def gpus(**status: GpuStatus) -> dict[GpuId, Gpu]:
    """Ready ones, unless something else is said."""
    return {
        GpuId(name): Gpu(
            gpu_id=GpuId(name), gpu_type="h100", node=NodeId(name), status=status.get(name, "ready"), since_s=0.0
        )
        for name in NAMES
    }


def a_move(session: str, kind: MoveKind, source: str | None, target: str | None) -> Move:
    return Move(
        session_id=SessionId(session),
        kind=kind,
        source=None if source is None else GpuId(source),
        target=None if target is None else GpuId(target),
        source_node=None,
        target_node=None,
        state_bytes=1,
        wave=0,
        reason="because",
    )


def a_plan(version: int, *moves: Move, **aims: GpuAim) -> Plan:
    plain: dict[GpuId, GpuAim] = {name: STEADY[gpu.status] for name, gpu in gpus().items()}
    plain |= {GpuId(name): aim for name, aim in aims.items()}
    return Plan(version=version, seats={}, gpus=plain, moves=moves)


PLACE = a_move("w", "place", None, "g0")
RESUME = a_move("r", "resume", None, "g1")
MIGRATE = a_move("m", "migrate", "g1", "g2")


def told(approval: Approval, plan: Plan, *, early: bool = False, busy: bool = False) -> bool:
    return approval.planned(plan, gpus(), early=early, busy=busy)


def state(approval: Approval, version: int) -> tuple[str, str]:
    standing = approval.standings[version]
    return standing.state, standing.carried_out


def test_by_default_every_plan_is_carried_out() -> None:
    approval = Approval("execute")
    assert approval.at_once(a_plan(1, MIGRATE), gpus()).moves == (MIGRATE,)
    assert told(approval, a_plan(1, MIGRATE))
    assert told(approval, a_plan(2, g2="drain"), early=True)
    assert (state(approval, 1), state(approval, 2)) == (("superseded", "all"), ("executing", "all"))
    assert approval.proposal is None
    assert "the controller's mode is execute" in approval.rule(2, "approve").refused


def test_a_plan_waits_until_its_version_is_approved_and_then_goes_once() -> None:
    approval, plan = Approval("approve"), a_plan(1, MIGRATE, g0="drain")
    assert approval.at_once(plan, gpus()).is_empty
    assert told(approval, plan)
    assert (approval.proposal, state(approval, 1)) == (1, ("proposed", "nothing"))
    assert approval.rule(1, "approve") == Ruling(plan=plan)
    assert (approval.proposal, state(approval, 1)) == (None, ("executing", "all"))
    assert approval.rule(1, "approve") == Ruling(), "who says it again is answered, and nothing follows"
    told(approval, a_plan(2, MIGRATE))
    assert approval.rule(1, "approve") == Ruling()
    assert approval.rule(2, "approve") == Ruling(plan=a_plan(2, MIGRATE))
    assert state(approval, 1) == ("superseded", "all")


def test_a_newer_plan_takes_the_place_of_a_proposal_and_the_old_one_is_refused() -> None:
    approval = Approval("approve")
    told(approval, a_plan(1, MIGRATE))
    told(approval, a_plan(2, g0="drain"))
    assert state(approval, 1) == ("superseded", "nothing")
    for verb in ("approve", "reject"):
        ruling = approval.rule(1, verb)
        assert (ruling.plan, ruling.refused) == (None, "plan 1 is superseded; 2 waits for approval")
    assert not told(approval, a_plan(2)), "it asks for nothing, and uses no version"
    assert (approval.proposal, state(approval, 2)) == (None, ("superseded", "nothing"))
    assert approval.rule(3, "approve").refused == "plan 3 is not among the last plans; none waits for approval"


def test_a_plan_that_asks_for_the_same_leaves_the_proposal_as_it_is() -> None:
    approval = Approval("approve")
    told(approval, a_plan(1, MIGRATE, g0="drain"))
    assert not told(approval, a_plan(2, MIGRATE, g0="drain"))
    assert told(approval, a_plan(2, PLACE, MIGRATE, g0="drain")), "somebody enters beside that"
    assert (approval.proposal, state(approval, 2)) == (1, ("executing", "entries"))


def test_what_was_rejected_is_not_proposed_again_until_something_else_is_wanted() -> None:
    approval = Approval("approve")
    told(approval, a_plan(1, MIGRATE))
    assert approval.rule(1, "reject") == approval.rule(1, "reject") == Ruling()
    assert approval.rule(1, "approve").refused == "plan 1 is rejected; none waits for approval"
    assert not told(approval, a_plan(2, MIGRATE))
    assert approval.proposal is None
    told(approval, a_plan(2))
    assert told(approval, a_plan(2, MIGRATE))
    assert approval.proposal == 2


def test_who_waits_enters_a_gpu_that_nobody_is_asked_to_leave() -> None:
    approval, plan = Approval("approve"), a_plan(1, PLACE, RESUME, MIGRATE)
    assert approval.at_once(plan, gpus()).moves == (PLACE,)
    assert told(approval, plan)
    assert (approval.proposal, state(approval, 1)) == (1, ("proposed", "entries"))
    assert told(approval, a_plan(2, PLACE, MIGRATE, g2="stop"), early=True)
    assert (approval.proposal, state(approval, 2)) == (1, ("executing", "entries")), "the rest is left out"
    assert not told(approval, a_plan(3, MIGRATE), early=True)
    assert approval.rule(1, "approve") == Ruling(plan=plan)


def test_what_drains_is_switched_off_when_it_is_empty() -> None:
    """It was approved that it drains."""
    approval, plan = Approval("approve"), a_plan(1, g0="stop", g1="stop")
    assert approval.at_once(plan, gpus(g0="draining")).aims == {"g0": "stop"}
    assert approval.planned(plan, gpus(g0="draining"), early=False, busy=False)
    assert state(approval, 1) == ("proposed", "entries")


def test_nothing_is_proposed_while_an_approved_plan_has_moves_to_begin() -> None:
    approval = Approval("approve")
    assert not told(approval, a_plan(1, MIGRATE), busy=True)
    assert told(approval, a_plan(1, MIGRATE))


def test_advice_is_only_shown() -> None:
    approval = Approval("advise")
    for version, plan in ((1, a_plan(1, PLACE)), (2, a_plan(2, MIGRATE))):
        assert approval.at_once(plan, gpus()).is_empty
        assert told(approval, plan)
        assert state(approval, version) == ("proposed", "nothing")
    assert state(approval, 1)[0] == "superseded"
    assert approval.proposal is None
    assert "advise" in approval.rule(2, "approve").refused


def test_as_many_plans_are_kept_as_are_allowed_and_always_those_that_count() -> None:
    approval = Approval("approve")
    told(approval, a_plan(1, MIGRATE))
    approval.rule(1, "approve")
    told(approval, a_plan(2, g2="drain"))
    for version in range(3, 3 * PLANS_KEPT):
        told(approval, a_plan(version, PLACE), early=True)
    assert len(approval.standings) == PLANS_KEPT
    assert (state(approval, 1), state(approval, 2)) == (("executing", "all"), ("proposed", "nothing"))


# ---------------------------------------------------------------------- the controller


def a_controller(mode: gate.Mode, epoch: int = 1) -> Controller:
    """With one worker, and a session that waits."""
    began = [Began(controller_epoch=number) for number in range(1, epoch + 1)]
    truth = after(Truth(), [*began, Joined(worker=W, incarnation=1)])
    found, _ = Controller.begin(FLEET, truth, 0.0, ControllerSettings(mode=mode))
    found.handle(HELLO, 0.0)
    found.handle(create(), 0.0)
    return found


def planned(controller: Controller, aims: dict[str, GpuAim], *, now_s: float = 1.0) -> tuple[int, Step]:
    """The planner's plan, and besides that these aims; its version."""
    decision = Planner(FLEET, PlannerSettings(pay=False)).step(controller.snapshot(), now_s, Budget(work=20))
    gpus = dict(decision.plan.gpus) | {GpuId(name): aim for name, aim in aims.items()}
    version = controller.snapshot().version + 1
    decision = replace(decision, plan=replace(decision.plan, gpus=gpus, version=version))
    return version, controller.handle(Planned(decision=decision, made_s=now_s), now_s)


def ruled(controller: Controller, version: int, about: gate.About = "approve") -> Step:
    return controller.handle(gate.Ask(question=1, about=about, version=version), 2.0)


def test_with_approve_who_waits_is_placed_and_gpus_wait_for_the_operator() -> None:
    controller = a_controller("approve")
    version, step = planned(controller, {OTHER: "start"})
    assert (step.records, step.switches) == ((Placed(session_id="s", worker=W),), ())
    (status,) = [reply for reply in controller.handle(Ticked(), 1.5).replies if isinstance(reply, gate.Status)]
    assert (status.mode, status.proposal) == ("approve", version)
    forgotten = ruled(controller.copy(), version)
    assert forgotten.switches == (Switch(worker=OTHER, on=True),)
    first, again = ruled(controller, version), ruled(controller, version)
    assert first.switches == (Switch(worker=OTHER, on=True),), "what was decided on a copy has not happened"
    assert (again.switches, answers(again)) == ((), answers(first))
    (answer,) = answers(first)
    assert isinstance(answer, gate.Answer)
    assert answer.body is not None
    standing = msgspec.json.decode(answer.body, type=Standing)
    assert standing == Standing(version=version, state="executing", carried_out="all")


def test_with_advise_nothing_happens_and_plans_are_numbered_all_the_same() -> None:
    controller = a_controller("advise")
    first, step = planned(controller, {OTHER: "start"})
    assert (step.records, step.switches) == ((), ())
    second, step = planned(controller, {OTHER: "keep", W: "drain"})
    assert (step.records, step.switches, second) == ((), (), first + 1)
    assert [controller.approval.standings[each].state for each in (first, second)] == ["superseded", "proposed"]
    assert controller.waiting == 1


def test_the_plan_of_an_earlier_controller_cannot_be_approved() -> None:
    """A restart plans anew: no version of one controller is one of another."""
    before, _ = planned(a_controller("approve"), {OTHER: "start"})
    controller = a_controller("approve", epoch=2)
    version, _ = planned(controller, {OTHER: "start"})
    assert (before // VERSIONS, version // VERSIONS) == (1, 2)
    step = ruled(controller, before)
    (answer,) = answers(step)
    assert isinstance(answer, gate.Answer)
    assert answer.refused == f"plan {before} is not among the last plans; {version} waits for approval"
    assert step.switches == ()
