"""Aims for GPUs and moves as the complete desired state of the fleet.

Decides what a plan says about those whom no move is about; must never know why GPUs switch or sessions move.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scheduler.cluster import GpuId, SessionId, Snapshot
from scheduler.gpu_decision import STEADY
from scheduler.plan import GpuAim, Move, Plan, Seat
from scheduler.plan_check import place_of


@dataclass(frozen=True, slots=True, eq=False)
class Seats(Mapping[SessionId, Seat]):
    """A seat for every session, worked out when it is asked for: a step moves few, and fleets are large."""

    snapshot: Snapshot
    moved: Mapping[SessionId, Seat]

    def __getitem__(self, session_id: SessionId) -> Seat:
        seat = self.moved.get(session_id)
        return place_of(self.snapshot.sessions[session_id], self.snapshot) if seat is None else seat

    def __iter__(self) -> Iterator[SessionId]:
        return iter(self.snapshot.sessions)

    def __len__(self) -> int:
        return len(self.snapshot.sessions)


def desired_state(snapshot: Snapshot, aims: Mapping[GpuId, GpuAim], moves: tuple[Move, ...]) -> Plan:
    """Whoever does not move stays; the plan has a new version if it asks for anything."""
    moved = {
        move.session_id: Seat(gpu=move.target) if move.target is not None else Seat(node=move.target_node)
        for move in moves
    }
    gpus = snapshot.gpus
    asks = bool(moves) or any(aim != STEADY[gpus[gpu_id].status] for gpu_id, aim in aims.items())
    return Plan(version=snapshot.version + asks, seats=Seats(snapshot, moved), gpus=aims, moves=moves)


def stopped_when_empty(aims: Mapping[GpuId, GpuAim], snapshot: Snapshot) -> Mapping[GpuId, GpuAim]:
    """A GPU that is to be emptied and holds nothing is switched off."""
    if "drain" not in aims.values():
        return aims
    held = {session.gpu for session in snapshot.sessions.values()}
    for move in snapshot.moves.values():
        held |= {move.source, move.target}
    return {gpu_id: "stop" if aim == "drain" and gpu_id not in held else aim for gpu_id, aim in aims.items()}
