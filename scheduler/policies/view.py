"""A snapshot as heuristics look at it, counted in one pass: who is on which GPU, what room is left, who waits.

Decides what is counted and in which order people wait; must never know a rule. Counts change as orders are given.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from scheduler.cluster import Gpu, GpuId, NodeId, Session, Snapshot
from scheduler.policies.fleet_facts import Counts, FleetFacts
from scheduler.sizes import host_room_mib


@dataclass(slots=True, eq=False)
class Place:
    """A GPU that is ready or draining; moves in flight count where they go, their states on both sides."""

    gpu: Gpu
    order: int  # in the snapshot
    share: list[int]  # of the GPU, by profile
    counts: list[int]  # active sessions, by profile
    held_mib: int = 0  # as the snapshot has it
    free_mib: int = 0  # beside what is there and what was ordered to come
    load: int = 0  # sum of the shares of its active sessions; `FULL` is a full GPU
    idle_mib: int = 0  # of idle sessions that may be offloaded
    ends: int = 0  # of moves in flight
    active: list[Session] = field(default_factory=list)  # may migrate
    idle: list[Session] = field(default_factory=list)  # may be offloaded

    @property
    def content(self) -> Counts:
        return tuple(self.counts)

    @property
    def empty(self) -> bool:
        return not (self.held_mib or self.ends)

    def add(self, k: int, sessions: int) -> None:
        self.counts[k] += sessions
        self.load += sessions * self.share[k]


class View:
    """One snapshot; `waiting` comes by priority, then who waits longest."""

    def __init__(self, facts: FleetFacts, snapshot: Snapshot) -> None:
        self.facts, self.snapshot = facts, snapshot
        classes = len(facts.profiles)
        self.places: dict[GpuId, Place] = {}
        for gpu in snapshot.gpus.values():
            if gpu.status in ("ready", "draining"):
                place = Place(gpu, len(self.places), facts.share[gpu.gpu_type], [0] * classes)
                self.places[gpu.gpu_id] = place
        self.host_mib: defaultdict[NodeId, int] = defaultdict(int)
        self.waiting: list[Session] = []
        self.wanted = [0] * classes  # sessions that want chunks, by profile
        self._count_sessions()
        if snapshot.moves:
            self._count_moves()
        for place in self.places.values():
            place.free_mib = facts.room_mib[place.gpu.gpu_type] - place.held_mib
        self.host_free: dict[NodeId, float] = {}
        self._index: dict[GpuId, int] = {}
        if len(self.waiting) > 1:
            self.waiting.sort(key=lambda session: (-session.priority, session.since_s, session.session_id))

    def _count_sessions(self) -> None:
        places, column, sizes, host_mib = self.places, self.facts.column, self.facts.state_mib, self.host_mib
        waiting, wanted = self.waiting, self.wanted
        for session in self.snapshot.sessions.values():
            k = column[session.profile]
            status, place = session.status, None
            if session.gpu is not None:
                place = places.get(session.gpu)
            elif session.node is not None:
                host_mib[session.node] += sizes[k]
            if status == "active":
                wanted[k] += 1
                if place is None:  # its GPU is gone
                    waiting.append(session)
                    continue
                place.held_mib += sizes[k]
                place.counts[k] += 1
                place.load += place.share[k]
                place.active.append(session)
            elif status == "waiting":
                wanted[k] += 1
                waiting.append(session)
            elif place is not None:
                place.held_mib += sizes[k]
                place.idle_mib += sizes[k]
                place.idle.append(session)

    def _count_moves(self) -> None:
        """Who is in flight runs where it is going, if it wants to, and is not moved again."""
        places, snapshot, sizes = self.places, self.snapshot, self.facts.state_mib
        self.waiting[:] = [session for session in self.waiting if session.session_id not in snapshot.moves]
        for session_id, move in snapshot.moves.items():
            session = snapshot.sessions[session_id]
            k = self.facts.column[session.profile]
            source = places.get(move.source) if move.source is not None else None
            target = places.get(move.target) if move.target is not None else None
            if source is not None:
                source.ends += 1
                if session.gpu is None:
                    source.held_mib += sizes[k]
                elif session.status == "active":
                    source.active.remove(session)
                    source.add(k, -1)
                else:
                    source.idle.remove(session)
                    source.idle_mib -= sizes[k]
            if target is not None:
                target.ends += 1
                target.held_mib += sizes[k]
                if session.status in ("active", "waiting"):
                    target.add(k, 1)
            elif move.source is not None:
                self.host_mib[snapshot.gpus[move.source].node] += sizes[k]

    def index_of(self, place: Place) -> int:
        """Where a GPU is in the order of the fleet."""
        if not self._index:
            self._index.update((gpu_id, index) for index, gpu_id in enumerate(self.snapshot.gpus))
        return self._index[place.gpu.gpu_id]

    def held(self) -> tuple[dict[GpuId, int], dict[NodeId, int]]:
        """MiB on GPUs and in host memories, as `held_mib` of the snapshot has it."""
        return {gpu_id: place.held_mib for gpu_id, place in self.places.items()}, self.host_mib

    def host_free_mib(self, node: NodeId) -> float:
        """Host memory left on a node, what was ordered to go there taken off."""
        free = self.host_free.get(node)
        if free is None:
            room = host_room_mib(self.facts.fleet, node)
            free = self.host_free[node] = float("inf") if room is None else room - self.host_mib.get(node, 0)
        return free
