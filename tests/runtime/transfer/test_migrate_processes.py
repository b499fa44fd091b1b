"""Two processes hand a running session over: nothing of it is lost, doubled or changed."""

from __future__ import annotations

import pytest

from runtime.state.ranges import GRANULE_BYTES
from runtime.transfer.messages import Way
from scheduler.cluster import SessionId
from tests.runtime.transfer.processes import a_fleet

BLOCK = 24 << 20
SESSION = SessionId("s")


@pytest.mark.parametrize("way", ["tcp", "gloo"])
def test_a_session_goes_there_and_back(way: Way) -> None:
    with a_fleet() as fleet:
        a, b = fleet.start("a", 2 * BLOCK), fleet.start("b", 2 * BLOCK)
        fleet.open(SESSION, a, BLOCK)
        for target in (b, a):
            outcome = fleet.migrate(SESSION, target, way, BLOCK)
            assert outcome.committed, outcome.reasons
            fleet.check(BLOCK)
        assert a.settled().device.used == BLOCK
        assert b.settled().device.free == 2 * BLOCK


def test_a_full_target_refuses_in_numbers_before_the_source_notices() -> None:
    with a_fleet() as fleet:
        a, b = fleet.start("a", 2 * BLOCK), fleet.start("b", 2 * BLOCK)
        fleet.open(SESSION, a, BLOCK)
        fleet.open(SessionId("other"), b, BLOCK + GRANULE_BYTES)
        outcome = fleet.migrate(SESSION, b, "tcp", BLOCK)
        assert outcome.reasons == ["needs 24 MiB, largest free run is 23.996 MiB of 23.996 MiB free"]
        assert a.ask(SESSION).states[SESSION] == "active"
        fleet.wait_chunks(SESSION, 2)
