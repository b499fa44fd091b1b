"""A process that dies or hangs during a transfer costs its own sessions at most; the next attempt succeeds."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from runtime.transfer.messages import AttemptId, Way
from runtime.worker.messages import Demand
from tests.runtime.transfer.bad_network import FlippingProxy
from tests.runtime.transfer.faults import (
    BLOCK,
    OTHER,
    SESSION,
    Scenario,
    Victim,
    both,
    strike,
    strike_at_any_time,
    try_again,
)
from tests.runtime.transfer.processes import Fleet, Worker, a_fleet
from tests.runtime.transfer.small_worker import Fault

SHARES = (0.1, 0.5, 0.99)
WAYS: tuple[Way, ...] = ("tcp", "gloo")
SIDES: tuple[Victim, ...] = ("source", "target")
_SAMPLE = [
    Scenario(way=way, victim=victim, kill=kill, share=SHARES[(at + shift) % len(SHARES)])
    for shift, way in enumerate(WAYS)
    for kill in (True, False)
    for at, victim in enumerate(SIDES)
]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with a_fleet() as found:
        yield found


@pytest.mark.parametrize("scenario", _SAMPLE, ids=str)
def test_a_lost_or_hanging_side_ends_the_attempt_and_nothing_else(fleet: Fleet, scenario: Scenario) -> None:
    outcome = strike(fleet, scenario)
    assert not outcome.committed
    again = try_again(fleet, OTHER[scenario.way])
    assert again.committed, again.reasons


@pytest.mark.parametrize("way", WAYS)
def test_bits_that_flip_on_their_way_are_noticed(fleet: Fleet, way: Way) -> None:
    """The session is idle, so that no later round mends the byte by chance."""
    a, b = both(fleet)
    a.command(Demand(session_id=SESSION, active=False))

    def flip(attempt: AttemptId) -> tuple[Worker, Fault]:
        return b, Fault(attempt=attempt, at_bytes=BLOCK // 3, flip=True)

    outcome = fleet.migrate(SESSION, b, way, BLOCK, fault=flip)
    assert not outcome.committed
    assert "checksum" in outcome.reasons[0]
    a.command(Demand(session_id=SESSION, active=True))
    fleet.check(BLOCK)
    assert try_again(fleet, way).committed


@pytest.mark.parametrize("at_byte", [40, 200, BLOCK // 2], ids=["greeting", "note", "state"])
def test_a_bit_that_flips_between_two_sockets_is_noticed(fleet: Fleet, at_byte: int) -> None:
    """Wherever it is: in the greeting, in a note, in a header or in the state."""
    a, b = both(fleet)
    a.command(Demand(session_id=SESSION, active=False))
    proxy = FlippingProxy(at_byte)
    outcome = fleet.migrate(SESSION, b, "tcp", BLOCK, through=proxy.before)
    assert proxy.flipped
    assert not outcome.committed
    proxy.close()
    a.command(Demand(session_id=SESSION, active=True))
    fleet.check(BLOCK)


def test_kills_at_any_moment_lose_no_session_of_the_living(fleet: Fleet) -> None:
    rng = random.Random(7)
    for _ in range(6):
        strike_at_any_time(fleet, rng)


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_a_lost_store_costs_new_pairs_and_no_transfer(kill: bool) -> None:
    """A transfer over a pair that is made goes on; the next pair cannot be made, and TCP needs none."""
    with a_fleet() as fleet:
        outcome = strike(fleet, Scenario(way="gloo", victim="store", kill=kill, share=0.5))
        assert outcome.committed, outcome.reasons
        both(fleet)
        outcome = try_again(fleet, "gloo")
        assert not outcome.committed
        assert any("no pair with" in reason for reason in outcome.reasons)
        assert try_again(fleet, "tcp").committed
