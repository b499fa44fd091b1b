"""A session that stands still for a hand-over, on a worker without threads."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from bench.world.fleet import STATE_BYTES
from bench.world.worker import SimulatedWorker
from runtime.transfer.messages import AttemptId, Prepare, Route, Sent, Start
from runtime.worker.messages import Command, Frozen, Lost, Open, Text, Uncredited
from runtime.worker.process.messages import Credit, Renew, Said, Told, from_worker, to_gateway
from scheduler.cluster import SessionId

S = SessionId("s")
ROUTE = Route(way="tcp", peer="w", incarnation=1)
START = Start(session_id=S, attempt=1, route=ROUTE, deadline_s=60.0)


def tell(worker: SimulatedWorker, body: Any) -> None:
    worker.hear([Command(controller_epoch=1, incarnation=1, version=1, body=body)])
    worker.turn()


def said(worker: SimulatedWorker) -> list[object]:
    messages = map(from_worker, worker.frames("controller"))
    return [message.report for message in messages if isinstance(message, Said)]


def credit(worker: SimulatedWorker, up_to: int) -> list[object]:
    """What it answers the gateway."""
    worker.hear([Credit(controller_epoch=1, incarnation=1, session_id=S, lineage=0, up_to=up_to)])
    worker.turn()
    messages = map(to_gateway, worker.frames("gateway"))
    return [message.report for message in messages if isinstance(message, Told)]


@pytest.fixture
def source() -> SimulatedWorker:
    """All of the session has been sent after two chunks."""
    source, target = (SimulatedWorker(name, 1, lambda: 1.0, Random(1), lambda *_: True) for name in "st")
    source.hear([Renew(controller_epoch=1, incarnation=1, sent_s=1.0)])
    text = Text(profile="a", seed=1, prompt="red circle")
    tell(source, Open(session_id=S, state_bytes=STATE_BYTES, ownership=1, text=text))
    credit(source, 2)
    for _ in range(8):
        source.turn()
    prepare = Prepare(
        session_id=S, attempt=1, state_bytes=STATE_BYTES, route=ROUTE, active=True, deadline_s=60.0, horizon=0
    )
    tell(target, prepare)
    tell(source, START)
    for _ in range(8):
        lane = source.lanes.open.get(AttemptId(1))
        if lane is not None and lane.rounds:
            source.lanes.send_to(target.lanes, AttemptId(1), flip=False)
        source.turn()
    assert source.table.records[S].state == "frozen"
    assert [type(report) for report in said(source)][-2:] == [Frozen, Sent]
    source.frames("gateway")
    return source


def test_it_answers_credit_with_how_far_it_has_come(source: SimulatedWorker) -> None:
    """Otherwise the hand-over would wait for chunks that are lost."""
    assert credit(source, 5) == [Uncredited(session_id=S, lineage=0, chunk_number=2)]


def test_who_has_lost_it_since_says_again_that_it_was_sent(source: SimulatedWorker) -> None:
    source.lose(S)
    source.turn()
    assert any(isinstance(report, Lost) for report in said(source))
    tell(source, START)
    assert [type(report) for report in said(source)] == [Sent]
