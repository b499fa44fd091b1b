"""One controller, told one thing after another: what is promised, said and written."""

from __future__ import annotations

import pytest

from bench.world.fleet import FLEET
from runtime.controller.books import NEWS_MAX
from runtime.controller.controller import Controller, ControllerSettings, Ticked
from runtime.controller.sessions import LOSSES_MAX, Admission
from runtime.controller.step import Step, Switch
from runtime.gateway import messages as gate
from runtime.journal.records import (
    Began,
    Committed,
    Created,
    Ended,
    Joined,
    Left,
    Lost,
    Placed,
    Prepared,
    Prompted,
    Record,
)
from runtime.journal.rules import after
from runtime.journal.truth import Truth
from runtime.transfer import messages as moved
from runtime.worker import messages as said
from runtime.worker.messages import Close, Demand, Text
from runtime.worker.process.messages import (
    PROTOCOL,
    Heartbeat,
    Held,
    Hello,
    Inventory,
    Memory,
    ProfileRoom,
    Renew,
    Said,
)

W = "h100-0-0-0"
TOKEN = bytes(32)
ROOM = Memory(used=0, reserved=0, draining=0, free=1, largest_free=1)
HELLO = Hello(
    protocol=PROTOCOL,
    worker=W,
    incarnation=1,
    revision="r",
    profiles=(ProfileRoom(name="a", state_bytes=8192, chunk_s=1.0, sessions_max=7),),
    device_bytes=1 << 20,
    host_bytes=1 << 20,
    coalesce_max=8,
    ways=("tcp",),
    sent_s=0.0,
)

BEAT = Heartbeat(
    worker=W,
    incarnation=1,
    controller_epoch=1,
    sent_s=1.0,
    turn=1,
    turn_age_s=0.0,
    leased=True,
    dropped=0,
    chunks=(),
)


def a_controller(*records: Record, **settings: int) -> Controller:
    """Whose journal has these records after its worker has joined."""
    truth = after(Truth(), [Began(controller_epoch=1), Joined(worker=W, incarnation=1), *records])
    admission = Admission(**settings)
    found, _ = Controller.begin(FLEET, truth, 0.0, ControllerSettings(admission=admission))
    found.handle(HELLO, 0.0)
    return found


def created(name: str = "s") -> Created:
    return Created(session_id=name, profile="a", seed=1, prompt="red circle", token_sha256=TOKEN)


def create(name: str = "s", token: bytes = TOKEN, profile: str = "a") -> gate.Create:
    text = Text(profile=profile, seed=1, prompt="red circle")
    return gate.Create(session_id=name, tenant="", text=text, token_sha256=token)


def report(body: said.Report) -> Said:
    return Said(worker=W, incarnation=1, controller_epoch=1, report=body)


def inventory(controller_epoch: int, question: int, *sessions: Held) -> Inventory:
    return Inventory(
        question=question,
        controller_epoch=controller_epoch,
        hello=HELLO,
        leased=True,
        lanes=0,
        device=ROOM,
        host=ROOM,
        sessions=sessions,
    )


def held(ownership: int) -> Held:
    return Held(session_id="s", state="active", state_bytes=8192, ownership=ownership, active=True, attempt=None)


def answers(step: Step) -> list[gate.ToGateway]:
    return [reply for reply in step.replies if not isinstance(reply, gate.Serving | gate.Status)]


def test_a_session_is_promised_once() -> None:
    controller = a_controller()
    first = controller.handle(create(), 1.0)
    assert first.records == (created(),)
    assert answers(first) == [gate.Created(session_id="s", position=0)]
    again = controller.handle(create(), 1.1)
    assert (again.records, answers(again)) == ((), [gate.Created(session_id="s", position=0)])
    (refused,) = answers(controller.handle(create(token=bytes(31) + b"x"), 1.2))
    assert refused == gate.Refused(session_id="s", refusal="unusable", reason="that session is somebody else's")


def test_who_cannot_be_served_is_refused_with_the_reason() -> None:
    (refused,) = answers(a_controller().handle(create(profile="b"), 1.0))
    assert refused == gate.Refused(session_id="s", refusal="unusable", reason="profile='b' must be one of a")
    (refused,) = answers(a_controller(created("t"), sessions_max=1).handle(create(), 1.0))
    assert isinstance(refused, gate.Refused)
    assert (refused.refusal, refused.reason) == ("full", "1 sessions are there, and no more may be")
    assert refused.retry_after_s > 0
    (refused,) = answers(a_controller(created("t"), waiting_max=1).handle(create(), 1.0))
    assert isinstance(refused, gate.Refused)
    assert (refused.refusal, refused.reason) == ("full", "1 sessions wait for a GPU")


def test_what_an_earlier_controller_has_asked_for_does_not_count() -> None:
    """It may have been answered before that controller's last words were heard."""
    controller = a_controller(created(), Placed(session_id="s", worker=W), Began(controller_epoch=2))
    assert controller.handle(inventory(controller_epoch=1, question=99), 1.0).records == ()
    assert controller.handle(inventory(controller_epoch=2, question=1), 1.1).records == (Lost(session_id="s"),)


def test_what_was_asked_for_before_a_session_was_there_does_not_speak_against_it() -> None:
    """The answer may come late, after the worker has said that the session is there."""
    controller = a_controller(created(), Placed(session_id="s", worker=W))
    question = controller._books.roster.question + 1
    controller.handle(Ticked(), 6.0)  # everybody is asked
    assert controller._books.roster.question == question
    controller.handle(report(said.Moved(session_id="s", state="active", ownership=1)), 6.1)
    assert controller.handle(inventory(1, question), 6.2).records == ()
    assert controller.handle(inventory(1, question, held(ownership=0)), 6.2).words == ()
    controller.handle(BEAT, 6.3)
    controller.handle(Ticked(), 12.0)
    assert controller.handle(inventory(1, question + 1), 12.1).records == (Lost(session_id="s"),)


def test_the_lease_of_who_has_what_is_anothers_does_not_go_on_until_it_is_forgotten() -> None:
    controller = a_controller(created(), Joined(worker="v", incarnation=1), Placed(session_id="s", worker="v"))
    step = controller.handle(inventory(1, 1, held(ownership=0)), 1.0)
    assert [word.body for word in step.words] == [Close(session_id="s")]
    assert controller.handle(BEAT, 1.1).words == ()
    controller.handle(report(said.Closed(session_id="s")), 1.2)
    assert [type(word.body) for word in controller.handle(BEAT, 1.3).words] == [Renew]


def test_who_is_silent_for_longer_than_its_lease_is_to_go_at_once() -> None:
    controller = a_controller(created(), Placed(session_id="s", worker=W))
    assert controller.handle(Ticked(), 10.0).switches == ()
    step = controller.handle(Ticked(), 10.2)
    assert [type(record) for record in step.records] == [Left]
    assert step.switches == (Switch(worker=W, on=False, at_once=True),)
    assert controller.handle(Ticked(), 10.3).switches == ()


def test_who_has_handed_a_session_over_is_told_no_more_of_it() -> None:
    controller = a_controller(created(), Joined(worker="v", incarnation=1), Placed(session_id="s", worker="v"))
    controller._books.order(W, Demand(session_id="s", active=True), 1.0)
    controller.handle(report(said.Refused(session_id="s", reason="is not here")), 1.1)
    assert not controller._books.orders.has(W)


def test_prompts_are_written_once_and_in_order() -> None:
    controller = a_controller(created())
    first = controller.handle(gate.Prompt(session_id="s", serial=2, prompt="blue"), 1.0)
    assert first.records == (Prompted(session_id="s", prompt="blue", serial=2),)
    for serial, prompt in ((2, "blue"), (1, "green")):
        late = controller.handle(gate.Prompt(session_id="s", serial=serial, prompt=prompt), 1.1)
        assert (late.records, answers(late)) == ((), [gate.Prompted(session_id="s", serial=serial)])
    assert controller.truth.sessions["s"].prompt == "blue"


def test_whoever_ends_is_closed_where_it_is() -> None:
    controller = a_controller(created(), Placed(session_id="s", worker=W))
    step = controller.handle(gate.End(session_id="s"), 1.0)
    assert step.records == (Ended(session_id="s"),)
    assert [(word.worker, word.body) for word in step.words] == [(W, Close(session_id="s"))]
    assert answers(step) == [gate.Ended(session_id="s", reason="its client has ended it")]
    assert answers(controller.handle(gate.End(session_id="s"), 1.1)) == [
        gate.Ended(session_id="s", reason="there is no such session")
    ]


def test_whoever_ends_while_it_is_handed_over_is_told_why_when_that_is_over() -> None:
    controller = a_controller(
        created(),
        Joined(worker="v", incarnation=1),
        Placed(session_id="s", worker=W),
        Prepared(session_id="s", attempt=1, target="v"),
        Committed(attempt=1),
    )
    assert controller.handle(gate.End(session_id="s"), 1.0).records == ()
    served = moved.Activated(session_id="s", attempt=1, ownership=2)
    controller.handle(Said(worker="v", incarnation=1, controller_epoch=1, report=served), 1.1)
    controller.handle(report(moved.Released(session_id="s", attempt=1)), 1.2)
    assert "s" in controller.truth.sessions
    step = controller.handle(Ticked(), 1.3)
    assert Ended(session_id="s") in step.records
    assert gate.Ended(session_id="s", reason="its client has ended it") in step.replies


def test_the_owner_is_told_what_the_client_wants() -> None:
    controller = a_controller(created(), Placed(session_id="s", worker=W))
    controller.handle(report(said.Moved(session_id="s", state="active", ownership=1)), 1.0)
    step = controller.handle(gate.Want(session_id="s", active=False), 1.1)
    assert [word.body for word in step.words] == [Demand(session_id="s", active=False)]
    assert [type(reply) for reply in step.replies] == [gate.Serving]
    assert controller.handle(report(said.Moved(session_id="s", state="idle", ownership=1)), 1.2).words == ()
    asked = controller.handle(gate.Want(session_id="s", active=False), 1.3)
    assert [type(reply) for reply in asked.replies] == [gate.Serving], "whoever asks is told, though nothing changes"


def test_a_session_that_is_lost_again_and_again_ends() -> None:
    controller = a_controller(created())
    for number in range(1, LOSSES_MAX + 1):
        controller._books.write(Placed(session_id="s", worker=W))
        step = controller.handle(report(said.Lost(session_id="s", reason="it is poison")), float(number))
        assert Lost(session_id="s") in step.records
        assert (Ended(session_id="s") in step.records) == (number == LOSSES_MAX)
    (ended,) = [reply for reply in step.replies if isinstance(reply, gate.Ended)]
    assert ended.reason == f"its state was lost {LOSSES_MAX} times in a row: it is poison"


def test_a_gateway_hears_of_many_sessions_some_at_a_time_and_then_that_these_were_all() -> None:
    names = [f"s{number:04}" for number in range(2 * NEWS_MAX + 1)]
    controller = a_controller(*map(created, names))
    step = controller.handle(gate.Here(gateway="g", since=2, protocol=1, sent_s=0.0), 1.0)
    told, now_s = list[str](), 1.0
    for _ in range(20):
        new = [reply.session_id for reply in step.replies if isinstance(reply, gate.Serving)]
        assert len(new) <= NEWS_MAX
        for reply in step.replies:
            if isinstance(reply, gate.Status) and reply.told == 2:
                assert told == names, "what is said after a status counts for the next one"
                return
        told += new
        now_s += 0.1
        step = controller.handle(Ticked(), now_s)
    raise AssertionError(f"only {len(told)} were told")


@pytest.mark.parametrize("since", [2, 3])
def test_a_gateway_that_begins_anew_hears_of_every_session_once(since: int) -> None:
    controller = a_controller(created("s"), created("t"))
    here = gate.Here(gateway="g", since=2, protocol=1, sent_s=0.0)
    controller.handle(here, 1.0)
    step = controller.handle(gate.Here(gateway="g", since=since, protocol=1, sent_s=0.0), 1.1)
    told = [reply.session_id for reply in step.replies if isinstance(reply, gate.Serving)]
    assert told == (["s", "t"] if since > 2 else [])
