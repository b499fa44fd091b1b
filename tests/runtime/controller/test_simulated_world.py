"""Seeds of a world in which all that may go wrong does: what was promised holds, and afterwards all is well."""

from __future__ import annotations

from functools import cache

import pytest

from runtime.gateway import messages as gate
from tests.runtime.controller.simulated_world import SimulatedWorld

SEEDS, STEPS, HEAL_S, EMPTY_S = 24, 300, 90.0, 120.0
REACHED = {  # sometimes, in some world: what is never reached was never tested
    *("place", "resume", "offload", "migrate", "stopped"),
    *("killed", "lose", "lane fails", "restart", "disk full"),
    *("Created", "Joined", "Left", "Placed", "Lost", "Ended", "Prepared", "Committed", "Aborted", "Finished"),
    *("Moved", "Refused", "Closed", "Ready", "Nack", "Frozen", "Sent", "Staged", "AttemptFailed"),
    *("Activated", "Released"),
}


def misfortune(world: SimulatedWorld) -> None:
    """What happens to anybody in a tenth of a second."""
    chance = world.chance
    if len(world.wanted) + len(world.creating) < 14 and chance.random() < 0.2:
        world.create()
    if chance.random() < 0.15:
        world.toggle()
    if chance.random() < 0.02:
        world.end()
    if chance.random() < 0.01:
        world.kill()
    if chance.random() < 0.01:
        world.lose()
    if chance.random() < 0.05:
        world.fail_lanes()
    if chance.random() < 0.015:
        world.restart()
    world.rule()
    if chance.random() < 0.02:
        world.disk_full = not world.disk_full and chance.random() < 0.5


def run(seed: int, steps: int = STEPS, mode: gate.Mode = "execute") -> SimulatedWorld:
    """Misfortunes for half a minute; then the world heals, and in some worlds most clients leave."""
    world = SimulatedWorld(seed, mode=mode)
    for _ in range(steps):
        misfortune(world)
        world.step()
    world.disk_full = False
    world.heal(HEAL_S)
    if seed % 4 == 0:
        world.empty(EMPTY_S)
    return world


@cache
def ended(seed: int) -> tuple[list[str], frozenset[str], int]:
    """What is not as it ought to be, what was reached, and a hash of all that was written."""
    world = run(seed)
    return world.unsettled(), frozenset(world.reached), hash(tuple(map(str, world.records)))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_was_promised_holds_whatever_happens(seed: int) -> None:
    assert ended(seed)[0] == []


def test_every_fault_and_every_transition_was_reached() -> None:
    assert set().union(*(ended(seed)[1] for seed in range(SEEDS))) >= REACHED


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_an_operator_who_approves_at_random_is_obeyed_and_breaks_nothing(seed: int) -> None:
    """The world asserts that nothing begins which nobody has approved; healed, its operator approves all."""
    world = run(seed, mode="approve")
    assert world.unsettled() == []
    assert {"ruled", "refused", "migrate", "restart"} <= set(world.reached)
    assert seed % 4 or "stopped" in world.reached


def test_the_same_seed_is_the_same_run() -> None:
    again = run(0)
    assert hash(tuple(map(str, again.records))) == ended(0)[2]
