"""A controller that is killed again and again while clients watch, steer, rest, come and leave.

Decides when it is killed and the gates; must never know how a client or a process is kept. Workers, gateway and
controller are processes of their own, as `epochal serve` begins them; the chunks are emulated.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.console import Console

from bench.kills_system import System, Tail, truth_of
from bench.kills_users import Seen, User
from bench.render import Format, show
from bench.result import BenchResult, Cell, Gate, Size
from runtime.client import Client
from runtime.journal.truth import Truth
from runtime.recording import events
from runtime.worker.process.lease import LEASE_S

PACE_S = 0.3  # of a chunk, for its client
AGAIN_S = 0.2  # until the supervisor of `epochal serve` begins the controller again
WAIT_S_MAX = 120.0  # for anything that must come about
MOMENT_S = 4.0  # at most so long is waited for a move of the wanted kind
PAUSE_S = 1.0  # at most, between two kills
LOOK_S, HEALTH_S, STEP_S = 0.002, 0.02, 0.1
TAKING_OVER_S = 2.5  # after it has begun, a controller is killed again within so long
ABSENT_S = LEASE_S + 5.0  # the last time nobody begins the controller again for so long
SLACK_S = 2.0  # of a lease: the last heartbeat that was echoed, and a client's pace
MOMENTS = ("any", "migrate", "place", "taking over", "offload", "resume", "switch")  # in turn: what is to be under way
PROFILE = "a"
FLEET: dict[str, Any] = {
    "format": "epochal.fleet/1",
    "epoch_s": 1.0,
    "batching": "grouped",
    "gpu_types": {"h100": {"memory_gib": 0.5, "weights_gib": 0.4, "price_per_hour": 3.6, "startup_s": 4.0}},
    "pools": [{"gpu_type": "h100", "nodes": 6, "gpus_per_node": 1, "gpus_min": 4, "host_memory_gib": 0.25}],
    "links": {"device_host_gb_s": 50.0, "device_device_gb_s": 300.0, "node_node_gb_s": 35.0, "latency_ms": 8.0},
    "profiles": {PROFILE: {"chunk_s": PACE_S, "state_gib": 0.025, "latency_ms": {"h100": [40.0, 60.0, 80.0]}}},
    "target": {"chunk_latency_ms": 1000 * PACE_S, "first_chunk_ms": 3000.0},
    "budget": {"moves_per_epoch": 8, "moves_out_per_gpu": 4, "moves_in_per_gpu": 4, "gib_per_epoch": 20.0},
}
PLANNER: dict[str, Any] = {"scaling": {"service_level": 0.5, "horizon_epochs": 4, "scale_in_hold_s": 1.0}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """`ready_s_max`: from the kill until everybody was taken over; `silent_s`: until who plays has got a chunk."""

    kills: int
    users: int = 20
    ready_s_max: float = 5.0
    silent_s: float = 1.5
    seed: int = 0


SCALES: dict[Size, Scale] = {  # small runs share their machine with others
    "small": Scale(kills=5, ready_s_max=30.0, silent_s=4.0),
    "standard": Scale(kills=500),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One of them, and what followed."""

    under_way: str
    ready_s: float
    playing: int  # sessions that were served, whose clients wanted chunks before and after it
    silent: int  # of those, without a chunk in time
    others: int  # whose clients wanted chunks, too, but whose states were on their way, or who were still to be served
    others_silent: int
    gone: int  # workers that held sessions and have ended meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    kills: Sequence[Kill]
    streamed_s: float  # chunks came for so long without a controller
    seen: Seen


def run(size: Size) -> BenchResult:
    return run_scale(SCALES[size])


def run_scale(scale: Scale) -> BenchResult:
    outcome = killed(scale)
    return BenchResult(
        name="kills",
        settings={
            "kills": scale.kills,
            "clients": scale.users,
            "workers": FLEET["pools"][0]["nodes"],
            "seed": scale.seed,
            "load at the end": os.getloadavg()[0],
            "sessions": outcome.seen.created,
            "chunks": outcome.seen.chunks,
            "steered": outcome.seen.steers,
            "rests": outcome.seen.rests,
            "s between chunks p99": _quantile(outcome.seen.waits_s, 0.99),
            "s between chunks max": _quantile(outcome.seen.waits_s, 1.0),
        },
        rows=_rows(outcome.kills),
        gates=gates(scale, outcome),
    )


def killed(scale: Scale) -> Outcome:
    """So many kills in one serving. Raises `TimeoutError` where something does not come about."""
    with tempfile.TemporaryDirectory() as folder, System(Path(folder), FLEET, PLANNER) as system:
        return asyncio.run(_killed(scale, system))


def gates(scale: Scale, outcome: Outcome) -> tuple[Gate, ...]:
    wrong, kills = outcome.seen.wrong, outcome.kills
    silent, playing = sum(kill.silent for kill in kills), sum(kill.playing for kill in kills)
    gone, slowest = sum(kill.gone for kill in kills), max(kill.ready_s for kill in kills)
    return (
        Gate(
            claim="no session is lost or begins anew, and no chunk is missing or out of order",
            ok=not wrong,
            measured=f"{len(wrong)} of {outcome.seen.created} sessions{''.join(f'; {each}' for each in wrong[:3])}",
        ),
        Gate(
            claim=f"{scale.silent_s:g} s after a kill everybody who was served has got a chunk",
            ok=silent == 0,
            measured=f"{silent} of {playing} got no chunk",
        ),
        Gate(
            claim=f"without a controller they go on for a lease of {LEASE_S:g} s, and no longer",
            ok=abs(outcome.streamed_s - LEASE_S) <= SLACK_S,
            measured=f"{outcome.streamed_s:.1f} s",
        ),
        Gate(claim="no worker that holds a session ends", ok=gone == 0, measured=f"{gone} of {len(kills)} kills"),
        Gate(
            claim=f"after at most {scale.ready_s_max:g} s the next controller has taken over",
            ok=slowest <= scale.ready_s_max,
            measured=f"{slowest:.2f} s (the slowest of {len(kills)})",
        ),
    )


def _rows(kills: Sequence[Kill]) -> tuple[dict[str, Cell], ...]:
    kinds = sorted({kill.under_way for kill in kills})
    return (*(_row(kind, [kill for kill in kills if kill.under_way == kind]) for kind in kinds), _row("all", kills))


def _row(kind: str, kills: Sequence[Kill]) -> dict[str, Cell]:
    ready_s = [kill.ready_s for kill in kills]
    return {
        "under way": kind,
        "kills": len(kills),
        "s to adopt p50": _quantile(ready_s, 0.5),
        "s to adopt p99": _quantile(ready_s, 0.99),
        "s to adopt max": _quantile(ready_s, 1.0),
        "playing": sum(kill.playing for kill in kills),
        "silent": sum(kill.silent for kill in kills),
        "others": sum(kill.others for kill in kills),
        "others silent": sum(kill.others_silent for kill in kills),
    }


def _quantile(values: Sequence[float], share: float) -> float | None:
    return round(float(np.quantile(values, share)), 2) if values else None


_OF_SESSION = (
    events.SessionCreated
    | events.SessionWanted
    | events.SessionRestarted
    | events.MoveBegan
    | events.MoveEnded
    | events.MoveFailed
)


@dataclass
class Picture:
    """What the recording tells of sessions, moves and GPUs."""

    tail: Tail
    moves: dict[str, str] = field(default_factory=dict)  # kinds of those that have begun and not ended, by session
    switching: set[str] = field(default_factory=set)  # GPUs that start or are emptied
    resting: set[str] = field(default_factory=set)  # sessions that want no chunk, as the controller knows
    in_host: set[str] = field(default_factory=set)  # sessions that are suspended
    last: dict[str, deque[events.Event]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=8)))

    def look(self) -> None:
        for event in self.tail.new():
            if isinstance(event, _OF_SESSION):
                self.last[event.session_id].append(event)
            match event:
                case events.Began():
                    self.moves, self.switching = {}, set()
                case events.MoveBegan():
                    self.moves[event.session_id] = event.move
                case events.MoveEnded() | events.MoveFailed():
                    self.moves.pop(event.session_id, None)
                    if isinstance(event, events.MoveEnded):
                        (self.in_host.add if event.move == "offload" else self.in_host.discard)(event.session_id)
                case events.SessionWanted():
                    (self.resting.discard if event.active else self.resting.add)(event.session_id)
                case events.SessionEnded():
                    for known in (self.moves, self.last):
                        known.pop(event.session_id, None)
                    for names in (self.resting, self.in_host):
                        names.discard(event.session_id)
                case events.GpuChanged(status="starting" | "draining"):
                    self.switching.add(event.gpu_id)
                case events.GpuChanged():
                    self.switching.discard(event.gpu_id)
                case _:
                    pass

    def not_served(self) -> set[str]:
        """Sessions that get no chunk before a controller has done something."""
        return self.moves.keys() | self.resting | self.in_host

    def has(self, moment: str) -> bool:
        return bool(self.switching) if moment == "switch" else moment in self.moves.values()


async def _killed(scale: Scale, system: System) -> Outcome:
    chance, seen, picture = random.Random(scale.seed), Seen(), Picture(Tail(system.events))
    client = Client(system.place.url)
    await _ready(system, 0)
    users = [User(client, PROFILE, PACE_S, chance.getrandbits(32), seen) for _ in range(scale.users)]
    tasks = [asyncio.create_task(user.run()) for user in users]
    async with asyncio.timeout(WAIT_S_MAX):
        while sum(user.number > 0 for user in users) < len(users) / 2:
            await asyncio.sleep(STEP_S)
    kills = list[Kill]()
    for number in range(scale.kills):
        await asyncio.sleep(chance.uniform(0.0, PAUSE_S))
        moment = MOMENTS[number % len(MOMENTS)]
        before: Collection[str] = ()
        if moment == "taking over":
            system.kill_controller()
            copy = system.journal_copied()
            picture.look()
            system.begin_controller()
            before = _not_served(picture, await asyncio.to_thread(truth_of, copy))
            await asyncio.sleep(chance.uniform(0.0, TAKING_OVER_S))
        else:
            await _moment(moment, picture)
        kill = await _kill(system, users, picture, scale.silent_s, before)
        kills.append(replace(kill, under_way=moment) if moment == "taking over" else kill)
        if len(kills) * 10 % scale.kills < 10:
            print(f"kills: {len(kills)} of {scale.kills}", file=sys.stderr, flush=True)
        if seen.wrong:
            break  # what follows from it would hide it
    streamed_s = await _absent(system, users, seen)
    for user in users:
        user.leave()
    done, hanging = await asyncio.wait(tasks, timeout=WAIT_S_MAX)
    for task in hanging:
        task.cancel()
    seen.wrong += [f"{user.session_id}: not served" for user, task in zip(users, tasks, strict=True) if task in hanging]
    await asyncio.gather(*done)
    return Outcome(kills=kills, streamed_s=streamed_s, seen=seen)


async def _moment(wanted: str, picture: Picture) -> None:
    """Until something of the kind is under way, if that comes about."""
    end_s = time.monotonic() + MOMENT_S
    picture.look()
    while wanted != "any" and not picture.has(wanted) and time.monotonic() < end_s:
        await asyncio.sleep(LOOK_S)
        picture.look()


async def _kill(
    system: System, users: Sequence[User], picture: Picture, silent_s: float, before: Collection[str]
) -> Kill:
    """`before`: who was not served when the controller before this one was killed, and so may still not be."""
    pids = system.workers()
    playing = [(user, user.session_id, user.turn, user.number) for user in users if user.plays]
    for user in users[::2]:  # the others come, rest and leave meanwhile
        user.stays = True
    killed_s = time.monotonic()
    system.kill_controller()
    copy = system.journal_copied()
    await asyncio.sleep(AGAIN_S)
    system.begin_controller()
    picture.look()
    truth = await asyncio.to_thread(truth_of, copy)
    not_served = _not_served(picture, truth).union(before)
    under_way = _under_way(picture, handed_over=bool(truth.handovers))
    ready = asyncio.create_task(_ready(system, truth.controller_epoch - 1))
    await asyncio.sleep(max(0.0, killed_s + silent_s - time.monotonic()))
    silent = {
        session_id: number == user.number
        for user, session_id, turn, number in playing
        if user.plays and (user.session_id, user.turn) == (session_id, turn)
    }
    served = {session_id: is_silent for session_id, is_silent in silent.items() if session_id not in not_served}
    for session_id in (name for name, is_silent in served.items() if is_silent):
        told = "; ".join(map(str, picture.last[session_id]))
        print(
            f"kills: {session_id} got no chunk: {truth.sessions.get(session_id)}; {told}", file=sys.stderr, flush=True
        )
    for user in users:
        user.stays = False
    ready_s = await ready - killed_s
    owners, now = {owned.worker for owned in truth.sessions.values()}, system.workers()
    return Kill(
        under_way=under_way,
        ready_s=ready_s,
        playing=len(served),
        silent=sum(served.values()),
        others=len(silent) - len(served),
        others_silent=sum(silent.values()) - sum(served.values()),
        gone=sum(gpu in owners and now.get(gpu) != pid for gpu, pid in pids.items()),
    )


async def _absent(system: System, users: Sequence[User], seen: Seen) -> float:
    """For how long chunks come when nobody begins the controller again for longer than a lease."""
    for user in users:
        user.stays = True
    async with asyncio.timeout(WAIT_S_MAX):
        while sum(user.plays for user in users) < len(users) / 2:
            await asyncio.sleep(STEP_S)
    system.kill_controller()
    killed_s = time.monotonic()
    await asyncio.sleep(ABSENT_S)
    streamed_s = seen.last_s - killed_s
    system.begin_controller()
    await _ready(system, 0)
    for user in users:
        user.stays = False
    return streamed_s


def _not_served(picture: Picture, truth: Truth) -> set[str]:
    """As journal and recording have it at a kill."""
    return picture.not_served() | {handover.session_id for handover in truth.handovers.values()}


def _under_way(picture: Picture, *, handed_over: bool) -> str:
    if handed_over:
        return "a hand-over"
    if picture.moves:
        return f"{min(picture.moves.values())}"
    return "GPUs are switched" if picture.switching else "nothing"


async def _ready(system: System, epoch: int) -> float:
    """When a later controller has taken everybody over."""
    end_s = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < end_s:
        health = await system.health()
        if health.get("status") == "ok" and health["controller_epoch"] > epoch:
            return time.monotonic()
        await asyncio.sleep(HEALTH_S)
    raise TimeoutError(f"no controller after {epoch} is ready: {system.told()}")


def main() -> int:
    """So many kills as are asked for, with the gates of the standard size."""
    parser = argparse.ArgumentParser(description="Kill a controller again and again while clients watch.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--format", choices=get_args(Format), default="table")
    given = parser.parse_args()
    result = run_scale(replace(SCALES["standard"], kills=given.kills))
    show([result], given.format, Console(width=200))
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
