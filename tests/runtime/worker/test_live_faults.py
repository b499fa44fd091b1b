"""A real worker that dies or hangs costs its own sessions at most: all others go on, and their bytes are the same."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.runtime.transfer.faults import Scenario
from tests.runtime.worker.live import LiveFleet, a_live_fleet
from tests.runtime.worker.live_faults import MOVER, WAYS, revive, strike, strike_at_any_time
from tests.runtime.worker.live_migrations import migrate
from tests.runtime.worker.random_kills import EMULATED_BYTES, SHARES, SIDES, WIDE_BYTES

STALL_S, RENDEZVOUS_S = 1.5, 3.0  # each test that stops somebody waits as long
_SAMPLE = [
    Scenario(way=way, victim=victim, kill=kill, share=SHARES[(at + shift) % len(SHARES)])
    for shift, way in enumerate(WAYS)
    for kill in (True, False)
    for at, victim in enumerate(SIDES)
]


@pytest.fixture(scope="module")
def fleet() -> Iterator[LiveFleet]:
    with a_live_fleet("wide", pace_s=0.3, stall_s=STALL_S, device_bytes=WIDE_BYTES) as found:
        yield found


@pytest.mark.parametrize("scenario", _SAMPLE, ids=str)
def test_who_is_not_on_the_killed_worker_goes_on(fleet: LiveFleet, scenario: Scenario) -> None:
    assert not strike(fleet, scenario).committed


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_a_lost_store_costs_new_pairs_and_no_session(kill: bool) -> None:
    """The transfer over a pair that is made goes on; the next pair cannot be made, and TCP needs none."""
    with a_live_fleet("wide", pace_s=0.3, stall_s=STALL_S, rendezvous_s=RENDEZVOUS_S, device_bytes=WIDE_BYTES) as fleet:
        outcome = strike(fleet, Scenario(way="gloo", victim="store", kill=kill, share=0.5))
        assert outcome.committed, outcome.reasons
        refused = migrate(fleet, MOVER, fleet.workers["a"], "gloo")
        assert not refused.committed
        assert any("no pair with" in reason for reason in refused.reasons)
        assert migrate(fleet, MOVER, fleet.workers["a"], "tcp").committed
        fleet.check()


def test_kills_at_any_moment_lose_no_session_of_the_living() -> None:
    rng = random.Random(5)
    with a_live_fleet("emulated", device_bytes=EMULATED_BYTES, host_bytes=EMULATED_BYTES) as fleet:
        for _ in range(8):
            strike_at_any_time(fleet, rng)


def test_a_target_that_is_full_refuses_in_numbers(fleet: LiveFleet) -> None:
    """The source has noticed nothing."""
    revive(fleet, ("a", "b"), {MOVER: "a"})
    small = fleet.start("small", device_bytes=8 << 20)
    outcome = migrate(fleet, MOVER, small, "tcp")
    assert not outcome.committed
    assert outcome.reasons[0].endswith("largest free run is 8 MiB of 8 MiB free")
    fleet.stop("small")
    del fleet.workers["small"]
    fleet.check()
