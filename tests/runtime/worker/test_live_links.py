"""A worker, its controller and the gateway: who is silent, gone, another one, or says what is no message of theirs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest

from runtime.worker.messages import Moved, Resume, Suspend, Undelivered
from runtime.worker.process.messages import (
    FRAME_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    AskInventory,
    Credit,
    Renew,
    Steer,
    WantKeyFrame,
    encoded,
)
from runtime.worker.process.outbox import CHUNKS_MAX
from runtime.worker.process.sockets import SENT_MAX
from scheduler.cluster import SessionId
from tests.runtime.worker.live import AHEAD, REST_S, LiveFleet, LiveWorker, a_live_fleet
from tests.runtime.worker.live_ends import End
from tests.runtime.worker.live_sessions import Script

LEASE_S = 4.0
S, PEER, OTHER = SessionId("s"), SessionId("peer"), SessionId("other")
Side = Literal["controller", "gateway"]


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveFleet]:
    with a_live_fleet("poisonous", lease_s=LEASE_S) as found:
        found.start("a")
        yield found


@pytest.fixture
def fleet(shared: LiveFleet) -> Iterator[LiveFleet]:
    """With a worker `a` that holds nothing, before and after."""
    yield shared
    shared.silent.clear()
    for session_id in list(shared.owner):
        shared.shut(session_id)
    worker = shared.workers["a"]
    assert worker.settled().device.used == 0
    worker.reports.clear()
    worker.told.clear()


def a_script(**changes: Any) -> Script:
    return Script(model="poisonous", **changes)


def open_all(fleet: LiveFleet, *names: SessionId) -> LiveWorker:
    worker = fleet.workers["a"]
    for at, session_id in enumerate(names):
        fleet.open(session_id, worker, a_script(seed=at))
    fleet.wait_more(2)
    return worker


def steer_now(fleet: LiveFleet, session_id: SessionId, **change: str) -> int:
    """A change that the session takes from a chunk on that is not begun; its serial is the first."""
    from_chunk = fleet.credited[session_id] + 1
    changes = ((from_chunk, change.get("prompt"), change.get("control")),)
    fleet.sink.scripts[session_id] = replace(fleet.sink.scripts[session_id], changes=changes)
    fleet.serve(session_id)
    return from_chunk


def end_of(fleet: LiveFleet, side: Side) -> End:
    return fleet.controller if side == "controller" else fleet.gateway


def test_while_the_gateway_is_gone_sessions_rest_and_the_controller_is_heard(fleet: LiveFleet) -> None:
    """Whatever the credit says. What no socket has taken is for the next gateway, whose credit they go on with."""
    names = (S, PEER, OTHER)
    a = open_all(fleet, *names)
    for session_id in names:
        fleet.demand(session_id, active=False)
    assert fleet.until(lambda: not any(held.active for held in a.ask().sessions))
    a.at_rest()
    for session_id in names:
        fleet.give_credit(session_id, 20)
        steer_now(fleet, session_id, prompt="green triangle")  # after that: once it is confirmed, both are heard
    assert fleet.until(lambda: all(fleet.confirmed[session_id] == 1 for session_id in names))
    fleet.close_gateway()
    taken = dict(fleet.sink.taken)
    for session_id in names:
        fleet.demand(session_id, active=True)
    assert fleet.until(lambda: all(a.numbers.get(name, 0) >= taken[name] + CHUNKS_MAX for name in names))
    rest = a.at_rest()
    assert sum(rest.values()) - sum(taken[name] for name in names) <= len(names) * CHUNKS_MAX + SENT_MAX["gateway"]
    for step, state in ((Suspend, "suspended"), (Resume, "active")):
        a.command(step(session_id=S))
        assert a.wait(Moved, session_id=S, state=state) is not None
    fleet.gateway.open()
    for session_id in names:
        fleet.wait_chunks(session_id, taken[session_id] + 24)
        assert fleet.sink.lost[session_id] == rest[session_id] - CHUNKS_MAX - taken[session_id]


def test_a_gateway_that_has_lost_what_it_had_credit_for_learns_where_its_sessions_are(fleet: LiveFleet) -> None:
    """Otherwise it would wait for chunks, and they for credit."""
    a = open_all(fleet, S, PEER)
    fleet.gateway.read(reads=False)
    assert fleet.until(lambda: all(a.numbers.get(name) == fleet.credited[name] for name in (S, PEER)))
    a.at_rest()  # its socket has taken them all, and the gateway has not looked at them
    fleet.close_gateway()
    lost = dict(fleet.sink.holes)
    assert set(lost.values()) <= set(range(1, AHEAD + 1))
    fleet.gateway.open()
    fleet.wait_more(4)
    assert {session_id: fleet.sink.lost[session_id] for session_id in lost} == lost


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_without_a_controller_sessions_go_on_with_the_gateway_until_the_lease_ends(fleet: LiveFleet, how: str) -> None:
    a = open_all(fleet, S, PEER)
    fleet.silent.add("a")
    if how == "gone":
        fleet.controller.close()
    from_chunk = steer_now(fleet, S, prompt="green triangle", control="up")
    fleet.wait_chunks(S, from_chunk + 2)  # the change is in their bytes
    fleet.wait_chunks(PEER, fleet.sink.taken[PEER] + 2)
    wait_for_rest(fleet)  # though credit comes again and again
    if how == "gone":
        fleet.controller.open()
    assert fleet.until(lambda: a.heartbeat is not None and not a.heartbeat.leased)
    numbers = a.at_rest()
    assert {held.session_id: held.state for held in a.ask().sessions} == {S: "active", PEER: "active"}
    assert a.heartbeat is not None
    future = a.heartbeat.sent_s + 1000.0
    a.send(Renew(controller_epoch=fleet.controller_epoch, incarnation=a.incarnation, sent_s=future))
    assert a.at_rest() == numbers  # an echo of what was never sent renews nothing
    fleet.silent.clear()
    fleet.wait_more(2)


def wait_for_rest(fleet: LiveFleet) -> None:
    """Until no chunk has come for a while."""
    taken, since_s = dict(fleet.sink.taken), time.monotonic()

    def rests() -> bool:
        nonlocal taken, since_s
        if taken != fleet.sink.taken:
            taken, since_s = dict(fleet.sink.taken), time.monotonic()
        return time.monotonic() > since_s + REST_S

    assert fleet.until(rests)


def test_a_new_controller_adopts_and_the_old_one_is_not_heard_any_more(fleet: LiveFleet) -> None:
    a = open_all(fleet, S)
    fleet.controller_epoch += 1
    assert fleet.until(lambda: a.heartbeat is not None and a.heartbeat.controller_epoch == fleet.controller_epoch)
    assert [held.session_id for held in a.ask().sessions] == [S]
    fleet.controller_epoch -= 1
    fleet.demand(S, active=False)
    fleet.controller_epoch += 1
    fleet.wait_chunks(S, fleet.sink.taken[S] + 3)
    assert [held.active for held in a.ask().sessions] == [True]


def test_a_gateway_that_does_not_know_the_new_controller_is_not_heard(fleet: LiveFleet) -> None:
    """Nor one that means another incarnation."""
    a = open_all(fleet, S)
    fleet.controller_epoch += 1
    assert fleet.until(lambda: a.heartbeat is not None and a.heartbeat.controller_epoch == fleet.controller_epoch)
    for back, ahead in ((1, 0), (0, 1)):
        steer = Steer(
            controller_epoch=fleet.controller_epoch - back,
            incarnation=a.incarnation + ahead,
            session_id=S,
            lineage=0,
            serial=1,
            prompt="blue square",
        )
        a.tell(steer)
    from_chunk = steer_now(fleet, S, prompt="green triangle")
    fleet.wait_chunks(S, from_chunk + 2)  # green
    assert fleet.confirmed[S] == 1


def test_what_is_said_to_a_lineage_that_is_over_has_no_effect_on_the_next(fleet: LiveFleet) -> None:
    """Two connections have no order: the gateway may hear of the new one later than the worker."""
    a = open_all(fleet, S)
    fleet.credit[S] = fleet.credited[S]
    fleet.wait_chunks(S, fleet.credited[S])
    fleet.shut(S)
    a.reports.clear()
    fleet.open(S, a, a_script(seed=5), lineage=1, credit=0)
    assert a.wait(Moved, session_id=S, state="active") is not None
    fence = {"controller_epoch": fleet.controller_epoch, "incarnation": a.incarnation}
    a.tell(Credit(**fence, session_id=S, lineage=0, up_to=50))
    a.tell(Steer(**fence, session_id=S, lineage=0, serial=1, prompt="blue square", control="up"))
    fleet.credit[S] = 4
    fleet.wait_chunks(S, 4)  # as the new script has them
    assert a.at_rest() == {S: 4}


@pytest.mark.parametrize("side", ["controller", "gateway"])
def test_messages_that_are_none_are_counted_and_dropped(fleet: LiveFleet, side: Side) -> None:
    """So are those that are for the other to say."""
    a = open_all(fleet, S)
    assert a.heartbeat is not None
    before = a.heartbeat.dropped
    told = {"controller_epoch": fleet.controller_epoch, "incarnation": a.incarnation}
    words = {
        "controller": encoded(AskInventory(**told, question=0)),
        "gateway": encoded(WantKeyFrame(**told, session_id=S)),
    }
    good = words.pop(side)
    (of_other,) = words.values()
    unknown = good.replace(b"W", b"V").replace(b"A", b"B")
    end = end_of(fleet, side)
    bad = [b"", b"\xc1", good[:-1], b"\x00" * 100, unknown, of_other, b"x" * MESSAGE_BYTES_MAX]
    for frame in bad:
        a.send_raw(end, frame)
    a.send_raw(end, good + b" " * MESSAGE_BYTES_MAX)
    a.send_raw(end, good, good)
    assert fleet.until(lambda: a.heartbeat is not None and a.heartbeat.dropped == before + len(bad) + 2)
    fleet.wait_chunks(S, fleet.sink.taken[S] + 3)


@pytest.mark.parametrize("side", ["controller", "gateway"])
def test_a_message_without_bounds_costs_the_connection_and_not_the_session(fleet: LiveFleet, side: Side) -> None:
    """The socket reads none of it; the worker comes back by itself."""
    a = open_all(fleet, S)
    dropped = a.heartbeat.dropped if a.heartbeat is not None else 0
    fleet.expect_holes()
    a.send_raw(end_of(fleet, side), b"\x00" * (FRAME_BYTES_MAX + 1))
    sent_s = a.heartbeat.sent_s if a.heartbeat is not None else 0.0
    assert fleet.until(lambda: a.heartbeat is not None and a.heartbeat.sent_s > sent_s + 0.5)
    for _ in range(3):
        fleet.wait_chunks(S, fleet.sink.taken[S] + 3)
        assert [held.session_id for held in a.ask().sessions] == [S]
    assert a.heartbeat is not None
    assert a.heartbeat.dropped == dropped


def test_who_is_to_open_a_session_anew_and_who_waits_for_its_chunks_hear_that_they_are_lost(fleet: LiveFleet) -> None:
    a = open_all(fleet, PEER)
    fleet.open(S, a, a_script(prompt="unfit"), encoding="mjpeg")
    assert fleet.until(lambda: bool(a.told))
    assert fleet.until(lambda: any(isinstance(report, Undelivered) for report in a.reports))
    (told, *_), (said, *_) = a.told, [report for report in a.reports if isinstance(report, Undelivered)]
    assert isinstance(told, Undelivered)
    assert told == said
    assert (told.session_id, told.number, told.count) == (S, 0, 1)
    assert told.reason.startswith("frames are uint8")
    fleet.wait_chunks(PEER, fleet.sink.taken[PEER] + 3)
