"""Tiny clusters for tests: GPUs that are on, sessions on them, and a budget of work that repeats.

Decides defaults that keep a test short; must never compute with the planner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from scheduler import events
from scheduler.cluster import GpuId, GpuStatus, MoveInFlight, MoveKind, NodeId, Session, SessionId, Snapshot
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from scheduler.gpu_decision import keep_what_is_on
from scheduler.plan import Move, Plan
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings
from scheduler.policy import Budget
from tests.builders import a_fleet

WORK = Budget(work=200)


def two_profiles(changes: Mapping[str, Any] | None = None) -> Fleet:
    """Two nodes of two GPUs, 16 GiB for states each: a takes 4 GiB and 100 ms a session, b 8 GiB and 150 ms."""
    profiles = {
        "a": {"chunk_s": 1.0, "state_gib": 4.0, "latency_ms": {"h100": [100.0, 200.0, 300.0, 400.0]}},
        "b": {"chunk_s": 1.0, "state_gib": 8.0, "latency_ms": {"h100": [150.0, 300.0]}},
    }
    return a_fleet({"profiles": profiles, **(changes or {})})


def gpu(index: int) -> GpuId:
    """The names of a tiny fleet's GPUs: 0 and 1 are on node 0/0, 2 and 3 on node 0/1."""
    return GpuId(f"h100-0-{index // 2}-{index % 2}")


def node(index: int) -> NodeId:
    return NodeId(f"0/{index}")


def a_cluster(
    fleet: Fleet,
    sessions: str = "",
    *,
    on: int = 2,
    status: Mapping[int, GpuStatus] | None = None,
    moves: Mapping[str, tuple[MoveKind, int | None, int | None]] | None = None,
) -> Snapshot:
    """`"a1@0 b1@1~ a2@n0~ a3@n0 b2"`: profile and number; @ a GPU or (n) a node's host memory; ~ is idle.

    A session waits where it has no GPU and is not idle. The first named has its status for the longest time. The
    first `on` GPUs are ready unless `status` says otherwise. `moves` are in flight: kind, source GPU, target GPU.
    """
    empty = all_off(fleet)
    gpus = dict(empty.gpus)
    for index in range(on):
        gpus[gpu(index)] = replace(gpus[gpu(index)], status="ready")
    for index, value in (status or {}).items():
        gpus[gpu(index)] = replace(gpus[gpu(index)], status=value, ready_s=5.0 if value == "starting" else None)
    found: dict[SessionId, Session] = {}
    for age, word in enumerate(sessions.split()):
        name, _, place = word.rstrip("~").partition("@")
        idle = word.endswith("~")
        on_node = place.startswith("n")
        found[SessionId(name)] = Session(
            session_id=SessionId(name),
            profile=name.rstrip("0123456789"),
            status=("idle" if idle else "active") if place and not on_node else "suspended" if idle else "waiting",
            since_s=age - 100.0,
            gpu=gpu(int(place)) if place and not on_node else None,
            node=node(int(place[1:])) if on_node else None,
        )
    flying = {
        SessionId(name): MoveInFlight(
            session_id=SessionId(name),
            kind=kind,
            source=None if source is None else gpu(source),
            target=None if target is None else gpu(target),
            started_s=-1.0,
        )
        for name, (kind, source, target) in (moves or {}).items()
    }
    return replace(empty, gpus=gpus, sessions=found, moves=flying)


def a_plan_for(fleet: Fleet, snapshot: Snapshot, settings: PlannerSettings | None = None, now_s: float = 0.0) -> Plan:
    return Planner(fleet, settings, count_gpus=keep_what_is_on).step(snapshot, now_s, WORK).plan


def switched(plan: Plan, snapshot: Snapshot, fleet: Fleet, now_s: float) -> Iterator[events.GpuEvent]:
    """What an executor tells when it does with GPUs as planned."""
    for gpu_id, aim in plan.gpus.items():
        status = snapshot.gpus[gpu_id].status
        if aim == "start":
            startup_s = fleet.gpu_types[snapshot.gpus[gpu_id].gpu_type].startup_s
            yield events.GpuStarting(gpu_id=gpu_id, ready_s=now_s + startup_s)
        elif aim == "keep" and status == "draining":
            yield events.GpuReady(gpu_id=gpu_id)
        elif aim == "drain" and status == "ready":
            yield events.GpuDraining(gpu_id=gpu_id)
        elif aim == "stop":
            held = {session.gpu for session in snapshot.sessions.values()}
            held |= {end for move in snapshot.moves.values() for end in (move.source, move.target)}
            assert gpu_id not in held, f"{gpu_id} is stopped with somebody on it"
            yield events.GpuStopped(gpu_id=gpu_id)


def become_ready(snapshot: Snapshot, now_s: float) -> Iterator[events.GpuEvent]:
    for gpu_id, one in snapshot.gpus.items():
        if one.status == "starting" and one.ready_s is not None and one.ready_s <= now_s:
            yield events.GpuReady(gpu_id=gpu_id)


def moves_of(plan: Plan, kind: MoveKind | None = None) -> dict[str, Move]:
    return {move.session_id: move for move in plan.moves if kind in (None, move.kind)}
