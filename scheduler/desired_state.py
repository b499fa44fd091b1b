"""Aims for GPUs and moves as the complete desired state of the fleet.

Decides what a plan says about those whom no move is about; must never know why GPUs switch or sessions move.
"""

from __future__ import annotations

from collections.abc import Mapping

from scheduler.cluster import GpuId, Snapshot
from scheduler.gpu_decision import STEADY
from scheduler.plan import GpuAim, Move, Plan, Seat
from scheduler.seats import Seats


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
