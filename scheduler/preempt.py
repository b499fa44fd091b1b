"""Who gives way where a batch may not run and nobody can be migrated out of it.

Decides the fewest active sessions that go to host memory so that the others go on; must never know why they came.
"""

from __future__ import annotations

import numpy as np

from scheduler.cluster import GpuId, Session, SessionId, Snapshot
from scheduler.fleet import Fleet
from scheduler.formulate import Formulated
from scheduler.plan import Move
from scheduler.sizes import state_bytes
from solvers.placement.problem import NEVER_US, IntArray, Problem
from solvers.placement.solution import Placement


def preemptions(
    formulated: Formulated, placement: Placement, snapshot: Snapshot, fleet: Fleet, moved: set[SessionId]
) -> list[Move]:
    """Offloads of active sessions from GPUs that stay broken after the placement; they wait from then on.

    A batch becomes too large when idle sessions return to a full GPU. Least priority goes first, then who was active
    for the shortest time. `moved` leave anyway.
    """
    problem = formulated.problem
    after = placement.after(problem)
    broken = (problem.latency_us(after) >= NEVER_US) | (after @ problem.state_mib > problem.memory_mib)
    moves: list[Move] = []
    for row in np.flatnonzero(broken):
        gpu = snapshot.gpus[formulated.gpu_ids[row]]
        candidates = [
            (k, session)
            for k in range(problem.classes)
            for session in formulated.movable.get((int(row), k), ())
            if session.session_id not in moved
        ]
        gone = _until_it_runs(problem, int(row), after[row].copy(), candidates)
        moves += [_offload(session, gpu.gpu_id, snapshot, fleet) for session in gone]
    return moves


def _until_it_runs(
    problem: Problem, row: int, content: IntArray, candidates: list[tuple[int, Session]]
) -> list[Session]:
    """The sessions that go, one after another; only those whose absence helps."""
    gone: list[Session] = []
    for k, session in sorted(candidates, key=lambda one: (one[1].priority, -one[1].since_s, one[1].session_id)):
        now = _excess(problem, row, content)
        if not now:
            break
        content[k] -= 1
        if _excess(problem, row, content) < now:
            gone.append(session)
        else:
            content[k] += 1
    return gone


def _excess(problem: Problem, row: int, content: IntArray) -> int:
    """How far a content is from one that may run: MiB beyond memory, and sessions beyond the end of each table."""
    tables, t = problem.tables, int(problem.gpu_type[row])
    columns = tables.alone_us.shape[2]
    over = max(0, int(content @ problem.state_mib) - int(problem.memory_mib[row]))
    for k, count in enumerate(content):
        runs = tables.base_us[t, k] < NEVER_US
        most = int(np.count_nonzero(tables.alone_us[t, k] < NEVER_US)) - 1 if runs else 0
        over += max(0, int(count) - most) if most < columns - 1 else 0
    most = int(np.count_nonzero(tables.common_us[t] < NEVER_US)) - 1
    return over + (max(0, int(content.sum()) - most) if most < columns - 1 else 0)


def _offload(session: Session, gpu_id: GpuId, snapshot: Snapshot, fleet: Fleet) -> Move:
    node = snapshot.gpus[gpu_id].node
    return Move(
        session_id=session.session_id,
        kind="offload",
        source=gpu_id,
        target=None,
        source_node=node,
        target_node=node,
        state_bytes=state_bytes(fleet, session.profile),
        wave=0,
        reason="repair",
    )
