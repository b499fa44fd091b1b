"""Moves in waves: what may run at once without a memory or a link that is too full.

Decides the order in which moves run; must never know why they are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from scheduler.cluster import GpuId, MoveInFlight, NodeId, Snapshot
from scheduler.cluster_checks import held_mib
from scheduler.fleet import Fleet
from scheduler.plan import Move
from scheduler.planner_settings import MoveLimits
from scheduler.sizes import host_room_mib, room_mib, state_mib

Place = tuple[str, str]  # ("gpu" or "node", its id): a memory
Link = tuple[str, str]  # (what is limited, GPU or node id)
Held = tuple[Mapping[GpuId, int], Mapping[NodeId, int]]  # MiB on GPUs and in host memories


def links_of(move: Move) -> list[Link]:
    """What a transfer uses. A session without a state is placed without one."""
    if move.kind == "place":
        return []
    uses: list[Link] = []
    if move.source is not None:
        uses.append(("gpu_out", move.source))
    if move.target is not None:
        uses.append(("gpu_in", move.target))
    if move.kind in ("resume", "offload"):
        uses.append(("device_host", str(move.target or move.source)))
    elif move.source_node == move.target_node:
        uses.append(("device_device", str(move.source_node)))
    if move.source_node != move.target_node:
        uses += [("node_node", str(move.source_node)), ("node_node", str(move.target_node))]
    return uses


def in_flight_links(snapshot: Snapshot) -> Counter[Link]:
    """What moves in flight use already."""
    used: Counter[Link] = Counter()
    for flight in snapshot.moves.values():
        used.update(links_of(_as_move(flight, snapshot)))
    return used


def arrange(
    moves: Sequence[Move], snapshot: Snapshot, fleet: Fleet, limits: MoveLimits, *, held: Held | None = None
) -> tuple[tuple[Move, ...], tuple[Move, ...]]:
    """The moves with their waves, in order, and those for which there is no wave.

    `moves` come the most urgent first, and each runs in the first wave that has room for it. A wave's arrivals occupy
    room from its beginning, what leaves frees room at its end; moves in flight never end before the last wave, so that
    a plan does not rest on them, but they use links in the first wave only, which may be left empty for them. `held` is
    what `held_mib` says of the snapshot, from callers who know it already.
    """
    ledger = Ledger(snapshot, fleet, held)
    limit: Mapping[str, int] = limits.model_dump()
    used = in_flight_links(snapshot)
    done: list[Move] = []
    left = list(moves)
    wave = 0
    while left:
        later: list[Move] = []
        begun: list[Move] = []
        for move in left:
            links = links_of(move)
            if all(used[link] < limit[link[0]] for link in links) and ledger.takes(move):
                used.update(links)
                begun.append(replace(move, wave=wave) if wave else move)
            else:
                later.append(move)
        ledger.release(begun)
        if not begun and wave:
            break
        done += begun
        left, used = later, Counter()
        wave += 1
    return tuple(done), tuple(left)


class Ledger:
    """MiB free in every memory while waves run."""

    def __init__(self, snapshot: Snapshot, fleet: Fleet, held: Held | None = None) -> None:
        self._on_gpu, self._on_node = held or held_mib(snapshot, fleet)
        self._size = {profile: state_mib(fleet, profile) for profile in fleet.profiles}
        self._snapshot, self._fleet = snapshot, fleet
        self._free: dict[Place, int | None] = {}  # None: no limit

    def takes(self, move: Move) -> bool:
        """Occupy the target if it has room; host memory without a limit always has."""
        mib = self._size[self._snapshot.sessions[move.session_id].profile]
        place: Place = ("gpu", move.target) if move.target is not None else ("node", str(move.target_node))
        free = self._left(place)
        if free is None:
            return True
        if free < mib:
            return False
        self._free[place] = free - mib
        return True

    def release(self, moves: Iterable[Move]) -> None:
        """The wave has ended: sources hold the states no longer."""
        for move in moves:
            if move.source is None and move.source_node is None:
                continue
            mib = self._size[self._snapshot.sessions[move.session_id].profile]
            place: Place = ("gpu", move.source) if move.source is not None else ("node", str(move.source_node))
            free = self._left(place)
            if free is not None:
                self._free[place] = free + mib

    def _left(self, place: Place) -> int | None:
        """Looked up when first asked for: few places of a fleet take part in a plan."""
        if place not in self._free:
            what, name = place
            if what == "gpu":
                room = room_mib(self._fleet, self._snapshot.gpus[GpuId(name)].gpu_type)
                self._free[place] = room - self._on_gpu.get(GpuId(name), 0)
            else:
                host = host_room_mib(self._fleet, NodeId(name))
                self._free[place] = None if host is None else host - self._on_node.get(NodeId(name), 0)
        return self._free[place]


def _as_move(flight: MoveInFlight, snapshot: Snapshot) -> Move:
    """A move in flight as one that is planned, for the links that it uses."""

    def node(gpu_id: GpuId | None) -> NodeId | None:
        return None if gpu_id is None else snapshot.gpus[gpu_id].node

    session = snapshot.sessions[flight.session_id]
    source_node = node(flight.source) or session.node
    return Move(
        session_id=flight.session_id,
        kind=flight.kind,
        source=flight.source,
        target=flight.target,
        source_node=source_node,
        target_node=node(flight.target) or source_node,
        state_bytes=0,
        wave=0,
        reason="in flight",
    )
