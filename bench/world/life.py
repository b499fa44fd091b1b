"""One seed: misfortunes for a while, then everything heals; what must have come about by then, and what must not go on.

Decides how often what goes wrong, and for how long; must never repair anything.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.world.fleet import FLEET, JOURNALS
from bench.world.invariants import the_journal_leads_here
from bench.world.world import TICK_S, World
from runtime.controller.suspects import FALLS_MAX
from runtime.gateway.messages import Mode
from scheduler.cluster import GpuId, SessionId

USERS_MAX = 9
STEPS = 120
HEAL_S = 3 * FLEET.epoch_s  # L1: within three epochs all is as it ought to be
APPROVED_S = 12 * FLEET.epoch_s  # where an operator has to approve what is to be done
STILL_S = 2 * FLEET.epoch_s  # L3: and then nothing moves
STILL_EVERY, STILL_TRIES = 10, 8
EMPTY_S, EMPTY_EVERY = 60.0, 25
POISON_EVERY = 20
DRAIN_S, DRAIN_EVERY = 90.0, 20  # an orphan is held for a minute

REACHED = frozenset(  # sometimes, in some life: what is never reached was never tested
    (
        *("place", "resume", "offload", "migrate", "stopped"),
        *("killed", "hung and killed", "zombie", "lose", "poisoned", "lane fails", "checksum", "undelivered"),
        *("controller killed", "two controllers", "superseded", "disk full", "reconnect", "gateway anew"),
        *("late plan", "lost plan", "drain", "give back", "Withheld", "GivenBack", "Cleared"),
        *("Created", "Prompted", "Joined", "Left", "Placed", "Lost", "Ended"),
        *("Prepared", "Committed", "Aborted", "Reactivated", "Finished"),
        *("Moved", "Refused", "Closed", "Ready", "Nack", "Frozen", "Sent", "Staged", "AttemptFailed"),
        *("Activated", "Released", "Undelivered"),
        *("client away", "client back", "client slow", "turned away", "ended", "discontinuity", "gap"),
        *("chunk taken", "chunk refused", "chunk unknown"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What has become of one seed."""

    seed: int
    problem: str  # empty: all that was promised held
    reached: dict[str, int]
    history: str  # equal only if everything that was said and written was equal


def live(seed: int, mode: Mode = "execute") -> Life:
    """Raises nothing: an assertion that fails is the life's problem."""
    with tempfile.TemporaryDirectory(prefix="epochal-world-", dir=JOURNALS) as folder:
        world = World(seed, Path(folder) / "journal", mode)
        try:
            problem = _lived(world, seed)
        except AssertionError as error:
            problem = f"at {world.now_s:.1f} s: {error}"
        finally:
            world.close()
        return Life(seed=seed, problem=problem, reached=dict(world.reached), history=world.history.hexdigest())


def _lived(world: World, seed: int) -> str:
    for _ in range(STEPS):
        misfortune(world)
        world.step()
    world.heal()
    heal_s = HEAL_S if world.operator is None else APPROVED_S
    left = _until(world, lambda: unsettled(world), heal_s)
    if left:
        return f"L1: {heal_s:g} s after all had healed: {'; '.join(left[:3])}"
    if seed % STILL_EVERY == 0:
        moved = _moved(world)
        if moved:
            return f"L3: nobody wants anything else, and there were {moved}"
    if seed % POISON_EVERY == 3:
        left = poisoned(world, heal_s)
        if left:
            return f"L4: {heal_s:g} s after somebody had come who takes workers down: {'; '.join(left[:3])}"
    if seed % DRAIN_EVERY == 7 and world.operator is None:
        left = drained(world)
        if left:
            return f"{DRAIN_S:g} s after an operator had a GPU drained: {'; '.join(left[:3])}"
    if seed % EMPTY_EVERY == 1:
        left = emptied(world)
        if left:
            return f"L1: {EMPTY_S:g} s after most had left: {'; '.join(left[:3])}"
    the_journal_leads_here(world)
    return ""


def _moved(world: World) -> str:
    """What moves although nothing changes, once nothing has moved for as long and GPUs have come to rest, too."""
    for _ in range(STILL_TRIES):
        if _moves(world) == {}:
            moves = _moves(world)
            if moves is not None:
                return ", ".join(f"{count} of {kind}" for kind, count in moves.items())
    return "moves, or GPUs that start and stop, without end"


def _moves(world: World) -> dict[str, int] | None:
    """How many of which kind begin in `STILL_S`; None: GPUs have not been at rest."""
    before, gpus = +world.reached, _statuses(world)
    at_rest = True
    for _ in range(round(STILL_S / TICK_S)):
        world.step()
        at_rest = at_rest and _statuses(world) == gpus
    if not at_rest:
        return None
    counts = {kind: world.reached[kind] - before[kind] for kind in ("place", "resume", "migrate")}
    return {kind: count for kind, count in counts.items() if count}


def _statuses(world: World) -> list[str]:
    gpus = world.control.controller.snapshot().gpus.values()
    return sorted(f"{gpu.gpu_id} {gpu.status}" for gpu in gpus)


def emptied(world: World) -> list[str]:
    """Most users leave and the others rest, so that fewer workers will do; what is still wrong in the end."""
    for user in world.clients.users:
        if world.chance.random() < 0.6:
            user.ending = True
        else:
            world.clients.pause(user, world.now_s, paused=True)
    before = world.reached["stopped"]

    def wrong() -> list[str]:
        return unsettled(world) + (["no worker was stopped"] if world.reached["stopped"] == before else [])

    return _until(world, wrong, EMPTY_S)


def poisoned(world: World, seconds: float) -> list[str]:
    """Somebody comes who takes down whoever computes for him, as often as he may; what is still wrong after that."""
    user = world.clients.come(world.now_s, poison_chance=1.0)
    world.deadly = lambda session_id: session_id == user.session_id  # others may have been cleared meanwhile
    left = _until(world, lambda: ["he is still there"] if user in world.clients.users else [], seconds)
    world.deadly = lambda _: False
    downed = world.poisoned[user.session_id]
    if downed != FALLS_MAX:
        left.append(f"{downed} workers have gone down")
    return left or _until(world, lambda: unsettled(world), seconds)


def drained(world: World) -> list[str]:
    """An operator has the GPU drained that holds most, and then gives it back; what is still wrong after each."""
    name = max(sorted(world.workers), key=lambda name: len(world.workers[name].table.records))
    lost = _lost(world)
    world.maintain(name, withhold=True)

    def wrong() -> list[str]:
        return unsettled(world) + ([f"{name} is still there"] if name in world.workers else [])

    left = _until(world, wrong, DRAIN_S)
    if _lost(world) > lost:
        left.append("a state was lost")
    world.maintain(name, withhold=False)

    def unusable() -> list[str]:
        status = world.control.controller.snapshot().gpus[GpuId(name)].status
        return unsettled(world) + ([f"{name} is {status}"] if status == "lost" else [])

    return left or _until(world, unusable, DRAIN_S)


def _lost(world: World) -> int:
    """States that were lost, and workers that have left though nobody had stopped them."""
    return world.reached["Lost"] + world.reached["fallen"]


def _until(world: World, wrong: Callable[[], list[str]], seconds: float) -> list[str]:
    """What is still wrong after that time."""
    for step in range(round(seconds / TICK_S)):
        if step % 5 == 4 and not wrong():
            return []
        world.step()
    return wrong()


def misfortune(world: World) -> None:
    """What happens to anybody in a tenth of a second."""
    chance, clients, now_s = world.chance, world.clients, world.now_s
    if len(clients.users) < USERS_MAX and chance.random() < 0.2:
        clients.come(now_s)
    if clients.users:
        user = chance.choice(clients.users)
        luck = chance.random()
        if luck < 0.06:
            clients.pause(user, now_s, paused=not user.paused)
        elif luck < 0.10:
            clients.steer(user, now_s)
        elif luck < 0.12:
            clients.go_away(user, now_s, chance.uniform(0.1, 4.0))
        elif luck < 0.125:
            user.slow_s = now_s + 4.0
        elif luck < 0.145:
            user.ending = user.promised
    for chance_of, what in _MISFORTUNES:
        if chance.random() < chance_of:
            what(world)
    world.disk_full = chance.random() < (0.9 if world.disk_full else 0.005)


def _kill(world: World) -> None:
    if world.workers:
        world.gone(world.chance.choice(sorted(world.workers)), "killed")


def _hang(world: World) -> None:
    """The whole process stands still; later it goes on, or is killed."""
    awake = [name for name, worker in sorted(world.workers.items()) if not worker.hangs]
    if awake:
        name = world.chance.choice(awake)
        world.workers[name].hangs = True
        world.hanging[name] = (world.now_s + world.chance.uniform(0.5, 6.0), world.chance.random() < 0.7)
        world.reached["hangs"] += 1


def _lose(world: World) -> None:
    there = [(worker, name) for worker in world.workers.values() for name in worker.table.records]
    if there:
        worker, session_id = world.chance.choice(there)
        worker.lose(session_id)
        world.reached["lose"] += 1


def _maintain(world: World) -> None:
    """An operator drains a GPU, or gives one back that was drained."""
    if world.operator is not None:
        return
    withheld = world.control.controller.truth.withheld
    if withheld and world.chance.random() < 0.7:
        world.maintain(world.chance.choice(withheld), withhold=False)
    else:
        world.maintain(world.chance.choice(sorted(world.control.controller.snapshot().gpus)), withhold=True)


def fail_lanes(world: World) -> None:
    for attempt in world.attempts():
        for worker in world.workers.values():
            if attempt in worker.lanes.open and world.chance.random() < 0.7:
                worker.lanes.end(attempt, "peer lost")
                world.reached["lane fails"] += 1


def _reconnect(world: World) -> None:
    """Of a worker's connections, or of the gateway's to the controller."""
    world.reached["reconnect"] += 1
    if world.links and world.chance.random() < 0.7:
        for wire in world.links[world.chance.choice(sorted(world.links))].all:
            wire.reconnect()
        return
    world.reconnect_gateway()


_MISFORTUNES: tuple[tuple[float, Callable[[World], None]], ...] = (
    (0.012, _kill),
    (0.012, _hang),
    (0.015, _lose),
    (0.05, fail_lanes),
    (0.015, _maintain),
    (0.02, _reconnect),
    (0.012, World.restart_controller),
    (0.008, World.take_over),
    (0.006, World.restart_gateway),
)


def unsettled(world: World) -> list[str]:
    """What is not as it ought to be once the world has healed."""
    truth, found = world.control.controller.truth, list[str]()
    found += [f"hand-over {attempt} has not ended" for attempt in truth.handovers]
    for user in world.clients.users:
        name = user.session_id or "somebody"
        if not user.promised or user.ending:
            found.append(f"{name} was not answered")
            continue
        owned = truth.sessions.get(user.session_id)
        if owned is None or owned.worker is None:
            found += [] if user.paused else [f"L2: {name} waits"]
            continue
        worker = world.workers.get(owned.worker)
        record = None if worker is None else worker.table.records.get(SessionId(user.session_id))
        state = "nowhere" if record is None else record.state
        if state not in (("active",) if not user.paused else ("idle", "suspended")):
            found.append(f"{name} is {state} at {owned.worker}, and paused={user.paused}")
        elif not user.paused and not world.clients.shows_what_was_asked(user):
            found.append(f"{name} does not show what was asked for")
    users = {user.session_id for user in world.clients.users}
    found += [f"nobody wants {name}" for name in truth.sessions if name not in users]
    for worker in world.workers.values():
        for session_id in worker.table.records:
            owned = truth.sessions.get(session_id)
            if owned is not None and owned.worker != worker.name:  # whom nobody knows is held for a minute
                found.append(f"{worker.name} still holds {session_id}")
    return found
