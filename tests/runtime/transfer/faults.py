"""What goes wrong with processes while a state is on its way, and what must hold afterwards.

Decides who is hurt and when; must never know how a transfer is done.
"""

from __future__ import annotations

import random
import signal
import threading
from dataclasses import dataclass
from typing import Literal

from runtime.transfer.messages import AttemptId, Way
from scheduler.cluster import SessionId
from tests.runtime.transfer.processes import Fleet, Outcome, Process, Worker
from tests.runtime.transfer.small_worker import Fault

BLOCK = 24 << 20
SESSION = SessionId("s")
Victim = Literal["source", "target", "store"]
OTHER: dict[Way, Way] = {"tcp": "gloo", "gloo": "tcp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One signal at one moment of one transfer."""

    way: Way
    victim: Victim
    kill: bool  # SIGKILL; otherwise SIGSTOP
    share: float  # of the block that the source has sent by then

    def __str__(self) -> str:
        return f"{self.way}-{'kill' if self.kill else 'stop'}-{self.victim}-{self.share:.0%}"


def both(fleet: Fleet) -> tuple[Worker, Worker]:
    """Workers a and b alive, and the session on a."""
    for name in ("a", "b"):
        if name not in fleet.workers or not fleet.workers[name].lives:
            fleet.start(name, 2 * BLOCK)
    a, b = fleet.workers["a"], fleet.workers["b"]
    owner = fleet.owner.get(SESSION)
    if owner is None:
        fleet.open(SESSION, a, BLOCK)
    elif owner[0] == "b":
        assert fleet.migrate(SESSION, a, "tcp", BLOCK).committed
    return a, b


def strike(fleet: Fleet, scenario: Scenario) -> Outcome:
    """One migration from a to b with the fault in it, and the check of everything that is left."""
    a, b = both(fleet)
    victims: dict[Victim, Process] = {"source": a, "target": b, "store": fleet.store}
    number = signal.SIGKILL if scenario.kill else signal.SIGSTOP

    def fault(attempt: AttemptId) -> tuple[Worker, Fault]:
        signals = ((victims[scenario.victim].pid, int(number)),)
        return a, Fault(attempt=attempt, at_bytes=max(1, int(scenario.share * BLOCK)), signals=signals)

    outcome = fleet.migrate(SESSION, b, scenario.way, BLOCK, fault=fault)
    look_after(fleet)
    return outcome


def strike_at_any_time(fleet: Fleet, rng: random.Random) -> Outcome:
    """A kill at a random moment, from before the first message to after the last one."""
    a, b = both(fleet)
    victim = rng.choice([a, b])
    way: Way = rng.choice(list(OTHER))
    timer = threading.Timer(rng.uniform(0.0, 0.12), victim.signal, [signal.SIGKILL])
    timer.start()
    outcome = fleet.migrate(SESSION, b, way, BLOCK)
    timer.join()
    victim.join()
    look_after(fleet)
    return outcome


def look_after(fleet: Fleet) -> None:
    """What died takes its sessions with it; all the rest must be as if nothing had happened."""
    name = fleet.owner[SESSION][0]
    fleet.listen()
    if not fleet.workers[name].lives:
        fleet.forget(SESSION)
    fleet.check(BLOCK)


def try_again(fleet: Fleet, way: Way) -> Outcome:
    """The next attempt, with a new incarnation of the pair."""
    _, b = both(fleet)
    outcome = fleet.migrate(SESSION, b, way, BLOCK)
    fleet.check(BLOCK)
    return outcome
