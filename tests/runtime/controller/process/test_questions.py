"""What operators are answered: plans with what has become of them, and explanations once they are found."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from runtime.controller.approval import PLANS_KEPT, Approval
from runtime.controller.process.planning import Explained, Made
from runtime.controller.process.questions import WANTED_MAX, Questions
from runtime.gateway.messages import FRAME_BYTES_MAX, About, Answer, Ask, encoded
from scheduler import events
from scheduler.cluster import GpuId, SessionId, Snapshot
from scheduler.cluster_state import ClusterState, all_off
from scheduler.plan import Decision, Plan, Report, Seat, TierReport
from tests.builders import a_fleet

FLEET = a_fleet()
GPU = GpuId(next(iter(all_off(FLEET).gpus)))
TIER = TierReport(tier="serve", unit="", before=0, value=0, bound=0, gap=0, proven=True, proof="")
REPORT = Report(solver="", end_reason="", tiers=(TIER,), stages=(), fallback=None)


def a_snapshot(*names: str) -> Snapshot:
    state = ClusterState(all_off(FLEET))
    for name in names:
        state.apply(events.SessionOpened(session_id=SessionId(name), profile="a"), 0.0)
    return state.snapshot()


def made(version: int, *sessions: str, asks: bool = True) -> Made:
    """A plan that starts a GPU, or asks for nothing; for a fleet where these sessions wait."""
    snapshot = a_snapshot(*sessions)
    seats = {name: Seat() for name in snapshot.sessions}
    plan = Plan(version=version, seats=seats, gpus={GPU: "start" if asks else "off"}, moves=())
    return Made(decision=Decision(plan=plan, report=REPORT, next_step_s=0.0), snapshot=snapshot, now_s=0.0, early=False)


def planned(questions: Questions, approval: Approval, told: Made) -> None:
    """As the loop does."""
    questions.keep(told, approval)
    approval.planned(told.decision.plan, told.snapshot.gpus, early=False, busy=False)


def ask(about: About, version: int | None = None, session_id: str | None = None) -> Ask:
    return Ask(question=1, about=about, version=version, session_id=session_id)


def test_a_plan_is_told_with_what_has_become_of_it() -> None:
    questions, approval = Questions(), Approval("approve")
    assert questions.answer(ask("plan"), approval) == Answer(question=1, body=None)
    planned(questions, approval, made(5, "s"))
    planned(questions, approval, made(6, "s", "t"))  # asks for the same, so that its version is not used
    found = questions.answer(ask("plan"), approval)
    assert found is not None
    assert found.body is not None
    told = msgspec.json.decode(found.body)
    assert (told["version"], told["state"], told["carried_out"], told["proposal"]) == (5, "proposed", "nothing", 5)
    assert (told["mode"], list(told["seats"])) == ("approve", ["s"])
    assert questions.answer(ask("plan", 6), approval) == Answer(question=1, body=None)
    planned(questions, approval, made(5, "s", "t", asks=False))
    again = questions.answer(ask("plan", 5), approval)
    assert again is not None
    assert again.body is not None
    told = msgspec.json.decode(again.body)
    assert (told["state"], told["proposal"], list(told["seats"])) == ("superseded", None, ["s"])


def test_the_last_plans_are_kept() -> None:
    questions, approval = Questions(), Approval("execute")
    for version in range(1, 2 * PLANS_KEPT):
        planned(questions, approval, made(version))
    there = [questions.answer(ask("plan", version), approval) for version in range(1, 2 * PLANS_KEPT)]
    assert [answer is not None and answer.body is not None for answer in there] == [False] * (PLANS_KEPT - 1) + [
        True
    ] * PLANS_KEPT


def test_a_plan_that_is_too_long_for_a_message_is_told_without_seats() -> None:
    questions, approval = Questions(), Approval("execute")
    long = made(1)
    seats = {SessionId(f"{'x' * 200}{number}"): Seat(gpu=GPU) for number in range(6_000)}
    plan = replace(long.decision.plan, seats=seats)
    planned(questions, approval, replace(long, decision=replace(long.decision, plan=plan)))
    found = questions.answer(ask("plan"), approval)
    assert found is not None
    assert found.body is not None
    assert len(encoded(found)) <= FRAME_BYTES_MAX
    assert msgspec.json.decode(found.body)["seats"] is None


def test_an_explanation_is_found_once_and_then_told() -> None:
    questions, approval, told = Questions(), Approval("execute"), made(1, "s", "t")
    planned(questions, approval, told)
    assert questions.answer(ask("explain", 1, "u"), approval) == Answer(question=1, body=None)
    assert questions.wanted() is None
    for _ in range(2):
        assert questions.answer(ask("explain", 1, "s"), approval) is None
    assert questions.answer(ask("explain", 1, "t"), approval) is None
    assert questions.wanted() == (told, SessionId("s"))
    assert questions.answer(ask("explain", 1, "s"), approval) is None, "asked again while it is sought"
    questions.explained(Explained(version=1, session_id=SessionId("s"), body=b"{}"))
    assert questions.answer(ask("explain", 1, "s"), approval) == Answer(question=1, body=b"{}")
    assert questions.wanted() == (told, SessionId("t"))
    questions.explained(Explained(version=1, session_id=SessionId("t"), body=None))
    refused = questions.answer(ask("explain", 1, "t"), approval)
    assert refused == Answer(question=1, body=None, refused="no explanation could be found in time")
    assert questions.wanted() is None, "it is not tried again"


def test_only_so_many_explanations_wait() -> None:
    questions, approval = Questions(), Approval("execute")
    names = [f"s{number}" for number in range(2 * WANTED_MAX)]
    planned(questions, approval, made(1, *names))
    for name in names:
        assert questions.answer(ask("explain", 1, name), approval) is None
    found = list[str]()
    while (wanted := questions.wanted()) is not None:
        found.append(wanted[1])
        questions.explained(Explained(version=1, session_id=wanted[1], body=b"{}"))
    assert found == names[:WANTED_MAX]
