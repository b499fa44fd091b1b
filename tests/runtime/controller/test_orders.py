"""What workers were told and have not confirmed is said again, until they do."""

from __future__ import annotations

import pytest

from runtime.controller.handover import SAY_AGAIN_S
from runtime.controller.orders import Orders
from runtime.controller.step import Word
from runtime.worker.messages import Close, Demand, Desired, Open, Resume, Suspend

OPEN = Open(session_id="s", state_bytes=1, ownership=1)
RESUME, SUSPEND, CLOSE = Resume(session_id="s"), Suspend(session_id="s"), Close(session_id="s")


def test_an_order_is_said_again_until_it_is_confirmed() -> None:
    orders = Orders()
    assert orders.give("w", OPEN, 0.0) == Word(worker="w", body=OPEN)
    assert orders.due(["w"], SAY_AGAIN_S - 0.01) == ()
    assert orders.due(["w"], SAY_AGAIN_S) == (Word(worker="w", body=OPEN),)
    assert orders.due(["w"], SAY_AGAIN_S + 0.01) == ()
    orders.moved("w", "s", "active")
    assert orders.due(["w"], 10.0) == ()
    assert not orders.has("w")


def test_nothing_is_said_to_whoever_is_not_there() -> None:
    orders = Orders()
    orders.give("w", OPEN, 0.0)
    assert orders.due(["v"], 10.0) == ()
    orders.left("w")
    assert orders.due(["w"], 10.0) == ()


def test_a_later_order_takes_the_place_of_an_earlier_one() -> None:
    orders = Orders()
    orders.give("w", SUSPEND, 0.0)
    orders.give("w", RESUME, 0.1)
    assert orders.of("w", "s") == RESUME
    assert orders.due(["w"], 10.0) == (Word(worker="w", body=RESUME),)


@pytest.mark.parametrize(
    ("body", "state", "done"),
    [
        (OPEN, "opening", False),
        (OPEN, "idle", True),
        (RESUME, "resuming", False),
        (RESUME, "active", True),
        (SUSPEND, "suspending", False),
        (SUSPEND, "suspended", True),
        (Demand(session_id="s", active=True), "idle", False),
        (Demand(session_id="s", active=True), "active", True),
        (Demand(session_id="s", active=False), "active", False),
        (Demand(session_id="s", active=False), "idle", True),
        (Demand(session_id="s", active=True), "suspended", True),
        (Demand(session_id="s", active=True), "opening", False),
        (CLOSE, "lost", False),
    ],
)
def test_what_confirms_an_order(body: Desired, state: str, done: bool) -> None:
    orders = Orders()
    orders.give("w", body, 0.0)
    orders.moved("w", "s", state)
    assert (orders.of("w", "s") is None) == done


def test_what_is_given_on_a_copy_is_forgotten_with_it() -> None:
    orders = Orders()
    trial = orders.copy()
    trial.give("w", OPEN, 0.0)
    assert orders.of("w", "s") is None
