"""A placement in numbers as changes of sessions: who of a class moves, and where to.

Decides which of several interchangeable sessions is meant; must never know how the placement was found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from scheduler.cluster import GpuId, NodeId, Session, Snapshot
from scheduler.fleet import Fleet
from scheduler.formulate import Formulated
from scheduler.plan import Move
from scheduler.sizes import state_bytes
from solvers.placement.problem import NO_TARGET_US, IntArray
from solvers.placement.solution import Placement

_NO_SLACK_MS = float("-inf")  # not known: it may be due at once


def changes(formulated: Formulated, placement: Placement, snapshot: Snapshot, fleet: Fleet) -> list[Move]:
    """Every migration, resume and first place, the most urgent first; all still in wave 0."""
    return [
        *_places(formulated, placement, snapshot, fleet),
        *_migrations(formulated, placement, snapshot, fleet),
    ]


def _places(formulated: Formulated, placement: Placement, snapshot: Snapshot, fleet: Fleet) -> Iterator[Move]:
    """First who waits longest; a state goes to a GPU of the node that holds it if one is free there."""
    for k, profile in enumerate(formulated.profiles):
        slots = _slots(formulated, snapshot, placement.placed[:, k])
        count = sum(len(gpus) for gpus in slots.values())
        chosen = formulated.waiting[k][:count]
        at_home = [_taken(slots, state_node(session)) for session in chosen]
        for session, home in zip(chosen, at_home, strict=True):
            node = state_node(session)
            target = home or _taken_anywhere(slots)
            yield Move(
                session_id=session.session_id,
                kind="place" if node is None else "resume",
                source=None,
                target=target,
                source_node=node,
                target_node=snapshot.gpus[target].node,
                state_bytes=0 if node is None else state_bytes(fleet, profile),
                wave=0,
                reason="waiting",
            )


def _migrations(formulated: Formulated, placement: Placement, snapshot: Snapshot, fleet: Fleet) -> list[Move]:
    """Sessions that can best afford a pause go, to a GPU of their node where they can; late and drained ones first."""
    reasons = _reasons(formulated)
    moves = []
    for k, profile in enumerate(formulated.profiles):
        slots = _slots(formulated, snapshot, placement.arrived[:, k])
        gone = [
            (session, int(row))
            for row in np.flatnonzero(placement.out[:, k])
            for session in leavers(formulated.movable[int(row), k], int(placement.out[row, k]))
        ]
        near = [_taken(slots, snapshot.gpus[formulated.gpu_ids[row]].node) for _, row in gone]
        for (session, row), home in zip(gone, near, strict=True):
            source = formulated.gpu_ids[row]
            target = home or _taken_anywhere(slots)
            moves.append(
                Move(
                    session_id=session.session_id,
                    kind="migrate",
                    source=source,
                    target=target,
                    source_node=snapshot.gpus[source].node,
                    target_node=snapshot.gpus[target].node,
                    state_bytes=state_bytes(fleet, profile),
                    wave=0,
                    reason=reasons[row],
                )
            )
    return sorted(moves, key=lambda move: _URGENCY.index(move.reason))


_URGENCY = ("repair", "late", "drain", "balance")


def _reasons(formulated: Formulated) -> list[str]:
    """Per row, what is wrong there before anybody moves."""
    problem = formulated.problem
    latency_us = problem.latency_us(problem.running)
    target_us = np.where(problem.running > 0, problem.target_us, NO_TARGET_US).min(axis=1, initial=NO_TARGET_US)
    full = problem.running @ problem.state_mib > problem.memory_mib
    return [
        "repair" if full[row] else "drain" if problem.leaving[row] else "late" if late else "balance"
        for row, late in enumerate(latency_us > target_us)
    ]


def leavers(sessions: Sequence[Session], count: int) -> list[Session]:
    """Most slack first, then whoever has not moved for the longest time."""

    def order(session: Session) -> tuple[float, float, str]:
        slack = _NO_SLACK_MS if session.slack_ms is None else session.slack_ms
        moved_s = _NO_SLACK_MS if session.moved_s is None else session.moved_s
        return (-slack, moved_s, session.session_id)

    return sorted(sessions, key=order)[:count]


def _slots(formulated: Formulated, snapshot: Snapshot, counts: IntArray) -> dict[NodeId, list[GpuId]]:
    """Places to be filled, by node."""
    slots: dict[NodeId, list[GpuId]] = defaultdict(list)
    for row in np.flatnonzero(counts):
        gpu_id = formulated.gpu_ids[row]
        slots[snapshot.gpus[gpu_id].node] += [gpu_id] * int(counts[row])
    return slots


def _taken(slots: dict[NodeId, list[GpuId]], node: NodeId | None) -> GpuId | None:
    return slots[node].pop() if node is not None and slots.get(node) else None


def _taken_anywhere(slots: dict[NodeId, list[GpuId]]) -> GpuId:
    node = next(node for node, gpus in slots.items() if gpus)
    gpu_id = slots[node].pop()
    if not slots[node]:
        del slots[node]
    return gpu_id


def state_node(session: Session) -> NodeId | None:
    """Where the state of a waiting session is; lost with its GPU if it still claims one."""
    return session.node if session.gpu is None else None
