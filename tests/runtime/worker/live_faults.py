"""What goes wrong with real workers while a state is on its way, and what must hold afterwards.

Decides who is hurt and when; must never weaken what is checked after each.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable
from dataclasses import replace

from runtime.transfer.messages import AttemptId, Way
from runtime.worker.messages import Moved, Resume, Suspend
from scheduler.cluster import SessionId
from tests.runtime.transfer.faults import Scenario, Victim
from tests.runtime.transfer.processes import Process
from tests.runtime.transfer.small_worker import Fault
from tests.runtime.worker.live import LiveFleet, LiveWorker
from tests.runtime.worker.live_migrations import Outcome, migrate
from tests.runtime.worker.live_sessions import Script, state_bytes

MOVER = SessionId("mover")
WAYS: tuple[Way, ...] = ("tcp", "gloo")
_CHANGES: tuple[tuple[int, str | None, str | None], ...] = ((2, "green square", None), (4, None, "up"), (9, None, ""))


def revive(fleet: LiveFleet, names: tuple[str, ...], homes: dict[SessionId, str]) -> None:
    """All of these workers live, and each session is served; if its state was lost, in a new lineage at its home."""
    gone = [name for name in names if name not in fleet.workers or not fleet.workers[name].lives]
    fresh = [fleet.start(name, wait=False) for name in gone]
    assert fleet.until(lambda: all(worker.heartbeat and worker.heartbeat.leased for worker in fresh))
    lost = [session_id for session_id in homes if session_id not in fleet.owner]
    for session_id in lost:
        seed = sum(session_id.encode())
        script = Script(model=fleet.model, profile="ab"[seed % 2], seed=seed, changes=_CHANGES)
        if fleet.model == "emulated":  # its controls are free text
            script = replace(script, prompt=f"prompt of {session_id}")
        lineage = fleet.sink.lineages.get(session_id, -1) + 1
        fleet.open(session_id, fleet.workers[homes[session_id]], script, lineage=lineage)
    for session_id in lost:
        fleet.wait_chunks(session_id, 2)


def look_after(fleet: LiveFleet) -> list[SessionId]:
    """What died takes its own sessions with it; all the rest must be as if nothing had happened."""
    fleet.listen(0)
    lost = [session_id for session_id, (name, _) in fleet.owner.items() if not fleet.workers[name].lives]
    for session_id in lost:
        fleet.forget(session_id)
    fleet.check()
    return lost


def strike(fleet: LiveFleet, scenario: Scenario) -> Outcome:
    """One migration from a to b with the fault in it, beside neighbours on both."""
    revive(fleet, ("a", "b"), {MOVER: "a", SessionId("at a"): "a", SessionId("at b"): "b"})
    a, b = fleet.workers["a"], fleet.workers["b"]
    if fleet.owner[MOVER][0] == "b":
        assert migrate(fleet, MOVER, a, "tcp").committed
    victims: dict[Victim, Process] = {"source": a, "target": b, "store": fleet.store}
    number = signal.SIGKILL if scenario.kill else signal.SIGSTOP

    def fault(attempt: AttemptId) -> tuple[LiveWorker, Fault]:
        size = state_bytes(fleet.model, fleet.sink.scripts[MOVER].profile)
        signals = ((victims[scenario.victim].pid, int(number)),)
        return a, Fault(attempt=attempt, at_bytes=max(1, int(scenario.share * size)), signals=signals)

    outcome = migrate(fleet, MOVER, b, scenario.way, fault=fault)
    if scenario.kill and scenario.victim != "store":
        assert look_after(fleet) == [s for s in (MOVER, SessionId("at a")) if scenario.victim == "source"] + [
            SessionId("at b") for _ in range(scenario.victim == "target")
        ]
    else:
        assert look_after(fleet) == []
    return outcome


NAMES = ("a", "b", "c")
HOMES = {SessionId(f"session {at}"): NAMES[at % len(NAMES)] for at in range(5)}


def strike_at_any_time(fleet: LiveFleet, rng: random.Random) -> str:
    """A kill of any worker at a random moment of a migration or of a suspension; how that ended."""
    revive(fleet, NAMES, HOMES)
    session_id = rng.choice(list(HOMES))
    source = fleet.workers[fleet.owner[session_id][0]]
    others = [fleet.workers[name] for name in NAMES if name != source.name]
    target, victim = rng.choice(others), rng.choice([source, *others])
    timer = threading.Timer(rng.uniform(0.0, 0.6), victim.signal, [signal.SIGKILL])
    timer.start()
    if rng.random() < 0.25:
        ended = "suspended and resumed" if _there_and_back(source, session_id) else "suspension ended by the kill"
    else:
        outcome = migrate(fleet, session_id, target, rng.choice(WAYS))
        ended = "committed" if outcome.committed else "aborted"
    timer.join()
    victim.join()
    on_victim = {session_id for session_id, (name, _) in fleet.owner.items() if name == victim.name}
    assert set(look_after(fleet)) == on_victim
    return ended


def _there_and_back(worker: LiveWorker, session_id: SessionId) -> bool:
    steps: tuple[tuple[Callable[..., Suspend | Resume], str], ...] = ((Suspend, "suspended"), (Resume, "active"))
    for step, state in steps:
        worker.command(step(session_id=session_id))
        if worker.wait(Moved, session_id=session_id, state=state) is None:
            assert not worker.lives
            return False
    return True
