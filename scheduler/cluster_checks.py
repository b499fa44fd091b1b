"""Whether a snapshot makes sense: one place per session, memory that suffices, moves that lead somewhere.

Decides which snapshots are consistent with a fleet; must never know how they came about or what is planned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from scheduler.cluster import GpuId, MoveInFlight, NodeId, Session, Snapshot
from scheduler.fleet import Fleet
from scheduler.history import EPOCHS_MAX, IDLE_TIMES_MAX
from scheduler.sizes import host_room_mib, room_mib, state_mib

_USABLE = ("ready", "draining")


def validate(snapshot: Snapshot, fleet: Fleet) -> list[str]:
    """Everything that is inconsistent, in words; empty if nothing is."""
    unknown = [
        f"session {s.session_id}: profile {s.profile} is not of the fleet"
        for s in snapshot.sessions.values()
        if s.profile not in fleet.profiles
    ]
    if unknown:
        return unknown
    return [
        *_gpus_are_of_the_fleet(snapshot, fleet),
        *_sessions_have_one_place(snapshot),
        *_moves_lead_somewhere(snapshot),
        *_states_fit(snapshot, fleet),
        *_history_is_bounded(snapshot),
    ]


def _gpus_are_of_the_fleet(snapshot: Snapshot, fleet: Fleet) -> Iterator[str]:
    pools = {f"{p}/{i}": pool for p, pool in enumerate(fleet.pools) for i in range(pool.nodes)}
    count: Counter[NodeId] = Counter()
    for gpu_id, gpu in snapshot.gpus.items():
        count[gpu.node] += 1
        pool = pools.get(gpu.node)
        if gpu.gpu_id != gpu_id:
            yield f"GPU {gpu_id} is listed under another name, {gpu.gpu_id}"
        if pool is None or pool.gpu_type != gpu.gpu_type:
            yield f"GPU {gpu_id}: the fleet has no node {gpu.node} of type {gpu.gpu_type}"
        if (gpu.status == "starting") != (gpu.ready_s is not None):
            yield f"GPU {gpu_id}: a GPU has a time at which it will be ready exactly while it starts"
    for node, gpus in count.items():
        if node in pools and gpus > pools[node].gpus_per_node:
            yield f"node {node}: {gpus} GPUs, it has {pools[node].gpus_per_node}"


def _sessions_have_one_place(snapshot: Snapshot) -> Iterator[str]:
    nodes = {gpu.node for gpu in snapshot.gpus.values()}
    for session_id, session in snapshot.sessions.items():
        if session.session_id != session_id:
            yield f"session {session_id} is listed under another name, {session.session_id}"
        on_gpu = session.status in ("active", "idle")
        if on_gpu and (session.gpu is None or session.node is not None):
            yield f"session {session_id}: {session.status} means on a GPU, and there alone"
        if not on_gpu and session.gpu is not None:
            yield f"session {session_id}: {session.status} means on no GPU, and it is on {session.gpu}"
        if session.gpu is not None and session.gpu not in snapshot.gpus:
            yield f"session {session_id}: there is no GPU {session.gpu}"
        elif session.gpu is not None and snapshot.gpus[session.gpu].status not in _USABLE:
            yield f"session {session_id}: its GPU {session.gpu} is {snapshot.gpus[session.gpu].status}"
        if session.node is not None and session.node not in nodes:
            yield f"session {session_id}: there is no node {session.node}"


def _moves_lead_somewhere(snapshot: Snapshot) -> Iterator[str]:
    for session_id, move in snapshot.moves.items():
        session = snapshot.sessions.get(session_id)
        if session is None or move.session_id != session_id:
            yield f"move of {session_id}: there is no such session"
            continue
        for gpu_id in (move.source, move.target):
            if gpu_id is not None and gpu_id not in snapshot.gpus:
                yield f"move of {session_id}: there is no GPU {gpu_id}"
            elif gpu_id is not None and snapshot.gpus[gpu_id].status not in _USABLE:
                yield f"move of {session_id}: its GPU {gpu_id} is {snapshot.gpus[gpu_id].status}"
        yield from _ends_suit(session, move)
        target = snapshot.gpus.get(move.target) if move.target is not None else None
        if target is not None and target.status == "draining" and move.started_s > target.since_s:
            yield f"move of {session_id}: it began to {target.gpu_id} after that GPU was to be emptied"


def _ends_suit(session: Session, move: MoveInFlight) -> Iterator[str]:
    ends = (move.source is not None, move.target is not None)
    wanted = {"place": (False, True), "resume": (False, True), "migrate": (True, True), "offload": (True, False)}
    if ends != wanted[move.kind]:
        yield f"move of {session.session_id}: a {move.kind} does not lead from {move.source} to {move.target}"
    awaited = move.kind == "offload" and session.status == "waiting"  # it came back while its state was on the way
    if move.source is not None and session.gpu != move.source and not awaited:
        yield f"move of {session.session_id}: it leaves {move.source}, and the session is on {session.gpu}"
    if move.source is None and session.gpu is not None:
        yield f"move of {session.session_id}: a {move.kind} of a session that is on {session.gpu}"


def _states_fit(snapshot: Snapshot, fleet: Fleet) -> Iterator[str]:
    """Both sides of a move in flight hold the state."""
    on_gpu, on_node = held_mib(snapshot, fleet)
    for gpu_id, mib in on_gpu.items():
        if gpu_id in snapshot.gpus:
            room = room_mib(fleet, snapshot.gpus[gpu_id].gpu_type)
            if mib > room:
                yield f"GPU {gpu_id}: states of {mib} MiB, it has room for {room}"
    for node, mib in on_node.items():
        host = host_room_mib(fleet, node)
        if host is not None and mib > host:
            yield f"node {node}: states of {mib} MiB in host memory, it has room for {host}"


def held_mib(snapshot: Snapshot, fleet: Fleet) -> tuple[dict[GpuId, int], dict[NodeId, int]]:
    """MiB of states on each GPU and in each node's host memory, moves in flight on both sides; only places in use."""
    size = {profile: state_mib(fleet, profile) for profile in fleet.profiles}
    on_gpu: Counter[GpuId] = Counter()
    on_node: Counter[NodeId] = Counter()
    for session in snapshot.sessions.values():
        if session.gpu is not None:
            on_gpu[session.gpu] += size[session.profile]
        elif session.node is not None:
            on_node[session.node] += size[session.profile]
    for session_id, move in snapshot.moves.items():
        owner = snapshot.sessions.get(session_id)
        if owner is None:
            continue
        if move.target is not None:
            on_gpu[move.target] += size[owner.profile]
        elif move.source is not None:
            on_node[snapshot.gpus[move.source].node] += size[owner.profile]
            if owner.gpu is None:
                on_gpu[move.source] += size[owner.profile]
    return dict(on_gpu), dict(on_node)


def _history_is_bounded(snapshot: Snapshot) -> Iterator[str]:
    for profile, counts in snapshot.history.active_max.items():
        if len(counts) > EPOCHS_MAX:
            yield f"history of {profile}: {len(counts)} epochs, at most {EPOCHS_MAX} are kept"
    for profile, lengths in snapshot.history.idle_s.items():
        if len(lengths) + snapshot.history.gone.get(profile, 0) > IDLE_TIMES_MAX:
            yield f"history of {profile}: more than {IDLE_TIMES_MAX} ends of idle times"
