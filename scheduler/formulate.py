"""A snapshot as numbers for the placement solvers, and which number is whose.

Decides who may move, what room there is and what budgets are left; must never know how the problem is solved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scheduler.cluster import GpuId, NodeId, Session, SessionId, Snapshot
from scheduler.fleet import Fleet
from scheduler.patience import Places, held_back
from scheduler.plan import GpuAim
from scheduler.planner_settings import PlannerSettings
from scheduler.priorities import lateness_weights, queues, ranks, without_holes
from scheduler.round_tables import round_tables
from scheduler.sizes import MIB_PER_GIB, host_room_mib, room_mib, state_mib
from scheduler.transfers import transfer_s
from solvers.placement.problem import UNLIMITED, BoolArray, IntArray, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Formulated:
    """A placement problem and what its indexes mean.

    Rows are the GPUs that are ready or draining; classes are the profiles in use. Sessions of one profile cost the same
    whatever their priority, and a batch holds them together, so that priorities only say who of them is served first.
    """

    problem: Problem
    gpu_ids: tuple[GpuId, ...]  # by row
    profiles: tuple[str, ...]  # by class
    row_of: Mapping[GpuId, int] = field(repr=False)
    movable: Mapping[tuple[int, int], Sequence[Session]] = field(repr=False)  # by row and class: may migrate
    waiting: tuple[tuple[Session, ...], ...] = field(repr=False)  # by class, in the order in which they are served
    levels: tuple[IntArray, ...]  # waiting sessions per class of each level, served first to last; they add up
    idle: Mapping[int, Sequence[Session]] = field(repr=False)  # by row: idle sessions that can be offloaded
    host_mib: Mapping[NodeId, int] = field(repr=False)  # in host memory, offloads in flight included
    held: Mapping[SessionId, float]  # who waits for a place on time, and until when; not part of the problem
    idle_room_mib: IntArray  # [rows]: room beside running sessions, moves in flight and what cannot be offloaded


def formulate(
    snapshot: Snapshot, fleet: Fleet, settings: PlannerSettings, now_s: float, aims: Mapping[GpuId, GpuAim]
) -> Formulated:
    """Scale everything once into the solvers' numbers. `aims` says which of the GPUs are to be emptied."""
    rows = [gpu for gpu in snapshot.gpus.values() if gpu.status in ("ready", "draining")]
    row_of = {gpu.gpu_id: row for row, gpu in enumerate(rows)}
    type_index = {name: t for t, name in enumerate(fleet.gpu_types)}
    leaving = np.array([aims[gpu.gpu_id] in ("drain", "stop") for gpu in rows], np.bool_)
    ready = np.array([gpu.status == "ready" for gpu in rows], np.bool_)
    found = _sorted_out(snapshot, row_of)
    profiles = tuple(p for p in fleet.profiles if p in found.profiles) or tuple(fleet.profiles)[:1]
    class_of = {name: k for k, name in enumerate(profiles)}
    size = {name: state_mib(fleet, name) for name in fleet.profiles}
    movable = {(row, class_of[p]): sessions for (row, p), sessions in found.running.items()}
    running = np.zeros((len(rows), len(profiles)), np.int64)
    for (row, k), sessions in movable.items():
        running[row, k] = len(sessions)
    room = np.array([room_mib(fleet, gpu.gpu_type) for gpu in rows], np.int64)
    out_max, in_max = np.full((2, len(rows)), UNLIMITED, np.int64)
    budget = _Budget(fleet, out_max, in_max)
    for past in snapshot.history.migrated_now:
        budget.spend(size[past.profile], row_of.get(past.source, -1), row_of.get(past.target, -1))
    _respect_moves_in_flight(snapshot, row_of, class_of, size, running, room, budget)
    host_mib = _host_mib(snapshot, size)
    idle = _offloadable(snapshot, fleet, found.idle, host_mib, size, room)
    sizes = np.array([size[name] for name in profiles], np.int64)
    target_us = np.array([round(fleet.target_ms(name) * 1000) for name in profiles], np.int64)
    places = Places(
        tables=round_tables(fleet, profiles),
        gpu_type=np.array([type_index[gpu.gpu_type] for gpu in rows], np.int32),
        running=running,
        free_mib=room - running @ sizes,
        receives=ready & ~leaving,
        state_mib=sizes,
        target_us=target_us,
    )
    may_wait = settings.meet and settings.wait_for_place
    held = held_back(found.waiting, class_of, places, fleet, now_s) if may_wait else {}
    asking = [session for session in found.waiting if session.session_id not in held]
    waiting, levels = queues(asking, class_of, settings, now_s)
    problem = Problem(
        tables=places.tables,
        gpu_type=places.gpu_type,
        running=running,
        waiting=np.array([len(queue) for queue in waiting], np.int64),
        receives=places.receives,
        leaving=leaving,
        memory_mib=room,
        state_mib=sizes,
        target_us=target_us,
        transfer_us=_transfers_us(fleet, profiles, running[leaving].sum(axis=0) > 0),
        lateness_weight=lateness_weights(snapshot, class_of, settings),
        priority_rank=ranks(levels, len(profiles)),
        moves_max=max(0, budget.moves),
        moved_mib_max=max(0, budget.mib),
        out_max=np.maximum(out_max, 0),
        in_max=np.maximum(in_max, 0),
        tiers=settings.tiers(),
    )
    return Formulated(
        problem=problem,
        gpu_ids=tuple(row_of),
        profiles=profiles,
        row_of=row_of,
        movable=movable,
        waiting=waiting,
        levels=levels,
        idle=idle,
        host_mib=host_mib,
        idle_room_mib=places.free_mib,
        held=held,
    )


def admitting(problem: Problem, admitted: IntArray, asking: IntArray) -> Problem:
    """The same fleet with fewer who wait: classes that only ask come after those admitted already."""
    rank = np.where((admitted == 0) & (asking > 0), 1, 0).astype(np.int32)
    return replace(problem, waiting=admitted + asking, priority_rank=without_holes(rank))


@dataclass(slots=True)
class _Found:
    """Sessions by what can be done with them."""

    profiles: set[str]
    running: dict[tuple[int, str], list[Session]]  # by row and profile
    idle: dict[int, list[Session]]  # by row
    waiting: list[Session]


def _sorted_out(snapshot: Snapshot, row_of: Mapping[GpuId, int]) -> _Found:
    """Whoever is active where no GPU runs is as good as waiting; sessions in flight are left out."""
    running: dict[tuple[int, str], list[Session]] = {}
    idle: dict[int, list[Session]] = {}
    waiting: list[Session] = []
    moves = snapshot.moves
    profiles: set[str] = set()
    for session_id, session in snapshot.sessions.items():
        status = session.status
        if status == "suspended":
            continue
        if session_id in moves:
            profiles.add(session.profile)
            continue
        if status == "waiting":
            waiting.append(session)
            continue
        row = row_of.get(session.gpu, -1) if session.gpu is not None else -1
        if status == "active":
            if row < 0:
                waiting.append(session)
            elif (key := (row, session.profile)) in running:
                running[key].append(session)
            else:
                running[key] = [session]
        elif row >= 0:
            idle.setdefault(row, []).append(session)
    profiles.update(profile for _, profile in running)
    profiles.update(session.profile for session in waiting)
    return _Found(profiles=profiles, running=running, idle=idle, waiting=waiting)


class _Budget:
    """What is left of the fleet's move budget; limits per GPU are changed in place."""

    def __init__(self, fleet: Fleet, out_max: IntArray, in_max: IntArray) -> None:
        budget = fleet.budget
        self.moves = UNLIMITED if budget.moves_per_epoch is None else budget.moves_per_epoch
        self.mib = UNLIMITED if budget.gib_per_epoch is None else int(budget.gib_per_epoch * MIB_PER_GIB + 1e-6)
        self.out_max, self.in_max = out_max, in_max
        self.out_max[:] = UNLIMITED if budget.moves_out_per_gpu is None else budget.moves_out_per_gpu
        self.in_max[:] = UNLIMITED if budget.moves_in_per_gpu is None else budget.moves_in_per_gpu

    def spend(self, mib: int, source: int, target: int) -> None:
        """One migration, of this epoch or under way; rows of GPUs that are not there any more are negative."""
        self.moves -= 1
        self.mib -= mib
        if source >= 0:
            self.out_max[source] -= 1
        if target >= 0:
            self.in_max[target] -= 1


def _respect_moves_in_flight(
    snapshot: Snapshot,
    row_of: Mapping[GpuId, int],
    class_of: Mapping[str, int],
    size: Mapping[str, int],
    running: IntArray,
    room: IntArray,
    budget: _Budget,
) -> None:
    """Sessions in flight run where they are going to, occupy both sides, use up budget, and are not moved again."""
    fixed: Counter[tuple[int, int]] = Counter()
    free = running.copy()
    for session_id, move in snapshot.moves.items():
        session = snapshot.sessions[session_id]
        source = row_of.get(move.source, -1) if move.source is not None else -1
        target = row_of.get(move.target, -1) if move.target is not None else -1
        if source >= 0:
            room[source] -= size[session.profile]
        if target >= 0 and session.status in ("active", "waiting"):
            running[target, class_of[session.profile]] += 1
            fixed[target, class_of[session.profile]] += 1
        elif target >= 0:
            room[target] -= size[session.profile]
        if move.kind == "migrate":
            budget.spend(size[session.profile], source, target)
    for row, k in fixed:
        # Which sessions of a class leave is not the solver's to say, so no more may leave than are free to.
        budget.out_max[row] = min(budget.out_max[row], free[row, k])


def _offloadable(
    snapshot: Snapshot,
    fleet: Fleet,
    idle: Mapping[int, list[Session]],
    host_mib: Mapping[NodeId, int],
    size: Mapping[str, int],
    room: IntArray,
) -> dict[int, list[Session]]:
    """Idle sessions for which host memory has room; the others take room on their GPU. Who idles longest goes first."""
    found: dict[int, list[Session]] = {}
    by_node: dict[NodeId, list[tuple[int, Session]]] = {}
    for row, sessions in idle.items():
        node = snapshot.gpus[sessions[0].gpu].node  # type: ignore[index]  # an idle session is on a GPU
        by_node.setdefault(node, []).extend((row, session) for session in sessions)
    for node, sessions_there in by_node.items():
        host = host_room_mib(fleet, node)
        free = UNLIMITED if host is None else host - host_mib.get(node, 0)
        if sum(size[session.profile] for _, session in sessions_there) > free:
            sessions_there.sort(key=lambda entry: (entry[1].since_s, entry[1].session_id))
        for row, session in sessions_there:
            mib = size[session.profile]
            if mib <= free:
                free -= mib
                found.setdefault(row, []).append(session)
            else:
                room[row] -= mib
    return found


def _host_mib(snapshot: Snapshot, size: Mapping[str, int]) -> Counter[NodeId]:
    """MiB in host memory, offloads in flight included."""
    used: Counter[NodeId] = Counter()
    for session in snapshot.sessions.values():
        if session.gpu is None and session.node is not None:
            used[session.node] += size[session.profile]
    for session_id, move in snapshot.moves.items():
        if move.kind == "offload" and move.source is not None:
            used[snapshot.gpus[move.source].node] += size[snapshot.sessions[session_id].profile]
    return used


def _transfers_us(fleet: Fleet, profiles: Sequence[str], drained: BoolArray) -> IntArray:
    """The slowest way that a migration can take in this fleet; none for classes on GPUs that are to be emptied.

    Those have to go, and pay the transfer once whenever they do. If it counted as lateness, a profile whose transfer
    alone exceeds what its target leaves could never be drained, because targets come before drains.
    """
    one_node = sum(pool.nodes for pool in fleet.pools) == 1
    slowest_us = [round(transfer_s(fleet, name, same_node=one_node) * 1_000_000) for name in profiles]
    return np.where(drained, 0, np.array(slowest_us, np.int64))
