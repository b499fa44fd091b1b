"""Replays a plan, wave by wave, and finds what is wrong with it.

Decides which plans may be carried out; must never know how they came about.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from scheduler.cluster import GpuId, Session, SessionId, Snapshot
from scheduler.cluster_checks import held_mib
from scheduler.fleet import Fleet
from scheduler.latency import chunk_latency_ms
from scheduler.plan import Move, Plan, Seat
from scheduler.planner_settings import MoveLimits
from scheduler.seats import place_of, places_of_everybody, seats_of_everybody
from scheduler.sizes import MIB_PER_GIB, host_room_mib, room_mib, state_bytes, state_mib
from scheduler.waves import Link, in_flight_links, links_of

_AIMS = {
    "off": ("off", "start"),
    "starting": ("keep", "stop"),
    "ready": ("keep", "drain", "stop"),
    "draining": ("keep", "drain", "stop"),
    "lost": ("off",),
}


def check_plan(snapshot: Snapshot, fleet: Fleet, plan: Plan, limits: MoveLimits | None = None) -> list[str]:
    """Every rule that the plan breaks, in words; empty if it may be carried out."""
    places = places_of_everybody(snapshot)
    plan = replace(plan, seats=seats_of_everybody(plan, snapshot, places))
    broken = [*_aims_are_possible(snapshot, plan), *_moves_are_possible(snapshot, fleet, plan)]
    if broken:
        return broken
    return [
        *_seats_are_where_moves_lead(plan, places),
        *_memories_hold(snapshot, fleet, plan),
        *_links_hold(snapshot, plan, limits or MoveLimits()),
        *_budgets_hold(snapshot, fleet, plan),
        *_batches_may_run(snapshot, fleet, plan),
    ]


def _aims_are_possible(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    if plan.gpus.keys() != snapshot.gpus.keys():
        yield "the plan says what becomes of other GPUs than there are"
        return
    held = {seat.gpu for seat in plan.seats.values()} if "stop" in plan.gpus.values() else set()
    for gpu_id, aim in plan.gpus.items():
        status = snapshot.gpus[gpu_id].status
        if aim not in _AIMS[status]:
            yield f"GPU {gpu_id} is {status}: it cannot be told to {aim}"
        if aim == "stop" and gpu_id in held:
            yield f"GPU {gpu_id} is to stop, and somebody is to be on it"


def _moves_are_possible(snapshot: Snapshot, fleet: Fleet, plan: Plan) -> Iterator[str]:
    """Each session moves once, from where it is, in the right way, to a GPU that receives."""
    seen: set[str] = set()
    if [move.wave for move in plan.moves] != sorted(move.wave for move in plan.moves):
        yield "the moves are not in the order of their waves"
    for move in plan.moves:
        session = snapshot.sessions.get(move.session_id)
        name = f"{move.kind} of {move.session_id}"
        if session is None or move.session_id in snapshot.moves or move.session_id in seen:
            yield f"{name}: there is no such session, or it moves already"
            continue
        seen.add(move.session_id)
        now = place_of(session, snapshot)
        here = (move.source, move.source_node)
        if here != (now.gpu, snapshot.gpus[now.gpu].node if now.gpu is not None else now.node):
            yield f"{name}: it is not at {here}"
        if move.kind not in _kinds(session, now):
            yield f"{name}: it is {session.status}"
        if (move.kind == "offload") != (move.target is None):
            yield f"{name}: it leads to {move.target}"
        if move.target is not None:
            gpu = snapshot.gpus.get(move.target)
            if gpu is None or gpu.status != "ready" or plan.gpus[move.target] != "keep":
                yield f"{name}: {move.target} receives nobody"
            elif gpu.node != move.target_node or move.target == move.source:
                yield f"{name}: it does not lead from {move.source} to {move.target} on {move.target_node}"
        elif move.target_node != move.source_node:
            yield f"{name}: a state goes to the host memory of its own node"
        wanted = 0 if move.kind == "place" else state_bytes(fleet, session.profile)
        if move.state_bytes != wanted:
            yield f"{name}: {move.state_bytes} bytes, its state has {wanted}"


def _kinds(session: Session, now: Seat) -> tuple[str, ...]:
    """The ways in which a session may move."""
    if now.gpu is not None:
        return ("migrate", "offload") if session.status == "active" else ("offload",)
    if session.status in ("active", "waiting"):
        return ("resume",) if now.node is not None else ("place",)
    return ()


def _seats_are_where_moves_lead(plan: Plan, places: Mapping[SessionId, Seat]) -> Iterator[str]:
    if plan.seats.keys() != places.keys():
        yield "the plan has seats for other sessions than there are"
        return
    moved = {
        move.session_id: Seat(gpu=move.target) if move.target is not None else Seat(node=move.target_node)
        for move in plan.moves
    }
    for session_id, seat in plan.seats.items():
        wanted = moved.get(session_id) or places[session_id]
        if seat is not wanted and seat != wanted:
            yield f"session {session_id}: its seat is {seat}, and it will be at {wanted}"


def _memories_hold(snapshot: Snapshot, fleet: Fleet, plan: Plan) -> Iterator[str]:
    """In each wave targets hold what arrives and sources still hold what leaves; in flight counts on both sides."""
    gpu_mib, node_mib = held_mib(snapshot, fleet)
    on_gpu, on_node = defaultdict(int, gpu_mib), defaultdict(int, node_mib)
    for wave in _waves(plan):
        for move in wave:
            mib = state_mib(fleet, snapshot.sessions[move.session_id].profile)
            if move.target is not None:
                on_gpu[move.target] += mib
            elif move.target_node is not None:
                on_node[move.target_node] += mib
        for gpu_id in sorted({move.target for move in wave if move.target is not None}):
            room = room_mib(fleet, snapshot.gpus[gpu_id].gpu_type)
            if on_gpu[gpu_id] > room:
                yield f"wave {wave[0].wave}: {on_gpu[gpu_id]} MiB on {gpu_id}, it has room for {room}"
        for node in sorted({m.target_node for m in wave if m.target is None and m.target_node is not None}):
            host = host_room_mib(fleet, node)
            if host is not None and on_node[node] > host:
                yield f"wave {wave[0].wave}: {on_node[node]} MiB in host memory of {node}, it has room for {host}"
        for move in wave:
            mib = state_mib(fleet, snapshot.sessions[move.session_id].profile)
            if move.source is not None:
                on_gpu[move.source] -= mib
            elif move.source_node is not None:
                on_node[move.source_node] -= mib


def _links_hold(snapshot: Snapshot, plan: Plan, limits: MoveLimits) -> Iterator[str]:
    limit = limits.model_dump()
    for wave in _waves(plan):
        planned = Counter(link for move in wave for link in links_of(move))
        used: Counter[Link] = planned + in_flight_links(snapshot) if wave[0].wave == 0 else planned
        for what, where in planned:
            if used[what, where] > limit[what]:
                yield f"wave {wave[0].wave}: {used[what, where]} transfers by {what} of {where}, at most {limit[what]}"


def _waves(plan: Plan) -> list[list[Move]]:
    waves: dict[int, list[Move]] = defaultdict(list)
    for move in plan.moves:
        waves[move.wave].append(move)
    return [waves[wave] for wave in sorted(waves)]


def _budgets_hold(snapshot: Snapshot, fleet: Fleet, plan: Plan) -> Iterator[str]:
    """Migrations of the plan and in flight; where those in flight exceed a budget already, there is none left."""
    planned = [(move.source, move.target, move.session_id) for move in plan.moves if move.kind == "migrate"]
    flying = [(move.source, move.target, move.session_id) for move in snapshot.moves.values() if move.kind == "migrate"]
    every = planned + flying
    budget = fleet.budget
    if planned and budget.moves_per_epoch is not None and len(every) > budget.moves_per_epoch:
        yield f"{len(every)} migrations, {budget.moves_per_epoch} are allowed"
    mib = sum(state_mib(fleet, snapshot.sessions[session_id].profile) for _, _, session_id in every)
    if planned and budget.gib_per_epoch is not None and mib > budget.gib_per_epoch * MIB_PER_GIB + 1e-6:
        yield f"{mib} MiB migrated, {budget.gib_per_epoch:g} GiB are allowed"
    for side, most, name in ((0, budget.moves_out_per_gpu, "out of"), (1, budget.moves_in_per_gpu, "into")):
        count = Counter(ends[side] for ends in every)
        for gpu_id in {ends[side] for ends in planned}:
            if most is not None and count[gpu_id] > most:
                yield f"{count[gpu_id]} migrations {name} {gpu_id}, {most} are allowed"


def _batches_may_run(snapshot: Snapshot, fleet: Fleet, plan: Plan) -> Iterator[str]:
    """Whoever receives somebody can run its batch in the end."""
    column = {name: k for k, name in enumerate(fleet.profiles)}
    receivers = {move.target for move in plan.moves if move.target is not None}
    contents = {gpu_id: np.zeros(len(column), np.int64) for gpu_id in receivers}
    for session_id, seat in plan.seats.items():
        if seat.gpu not in contents:
            continue
        session = snapshot.sessions[session_id]
        if session.status in ("active", "waiting"):
            contents[seat.gpu][column[session.profile]] += 1
    by_type: dict[str, list[GpuId]] = defaultdict(list)
    for gpu_id in contents:
        by_type[snapshot.gpus[gpu_id].gpu_type].append(gpu_id)
    for gpu_type, gpu_ids in by_type.items():
        latency_ms = chunk_latency_ms(fleet, gpu_type, np.array([contents[gpu_id] for gpu_id in gpu_ids]))
        for gpu_id, value in zip(gpu_ids, latency_ms, strict=True):
            if not np.isfinite(value):
                yield f"GPU {gpu_id}: its batch may not run"
