"""Where sessions are, and where a plan wants them.

Decides what counts as a session's place while it is in flight or its GPU is gone; must never know why it moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scheduler.cluster import Session, SessionId, Snapshot
from scheduler.plan import Plan, Seat


@dataclass(frozen=True, slots=True, eq=False)
class Seats(Mapping[SessionId, Seat]):
    """A seat for every session, worked out when it is asked for: a step moves few, and fleets are large."""

    snapshot: Snapshot
    moved: Mapping[SessionId, Seat]  # whoever is not in it stays

    def __getitem__(self, session_id: SessionId) -> Seat:
        seat = self.moved.get(session_id)
        return place_of(self.snapshot.sessions[session_id], self.snapshot) if seat is None else seat

    def __iter__(self) -> Iterator[SessionId]:
        return iter(self.snapshot.sessions)

    def __len__(self) -> int:
        return len(self.snapshot.sessions)


def place_of(session: Session, snapshot: Snapshot) -> Seat:
    """Where a session is without a plan: moves in flight count as ended, and what was on a GPU that is gone is lost."""
    move = snapshot.moves.get(session.session_id)
    if move is not None and move.target is not None:
        return Seat(gpu=move.target)
    if move is not None and move.source is not None:
        return Seat(node=snapshot.gpus[move.source].node)
    if session.gpu is None:
        return Seat(node=session.node)
    on = session.gpu in snapshot.gpus and snapshot.gpus[session.gpu].status in ("ready", "draining")
    return Seat(gpu=session.gpu) if on else Seat()


def places_of_everybody(snapshot: Snapshot) -> dict[SessionId, Seat]:
    """`place_of` every session in one pass; sessions of one GPU share a seat."""
    shared = {
        gpu_id: Seat(gpu=gpu_id) if gpu.status in ("ready", "draining") else Seat()
        for gpu_id, gpu in snapshot.gpus.items()
        if gpu.status != "off"
    }
    found = {
        session_id: place_of(session, snapshot)
        if session.gpu is None or session.gpu not in shared
        else shared[session.gpu]
        for session_id, session in snapshot.sessions.items()
    }
    for session_id in snapshot.moves:
        found[session_id] = place_of(snapshot.sessions[session_id], snapshot)
    return found


def seats_of_everybody(plan: Plan, snapshot: Snapshot, places: Mapping[SessionId, Seat]) -> Mapping[SessionId, Seat]:
    """The seats of a plan; `places` are those of everybody, from callers who have them anyway."""
    if isinstance(plan.seats, Seats) and plan.seats.snapshot is snapshot:
        return {**places, **plan.seats.moved}
    return plan.seats
