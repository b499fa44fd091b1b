"""Who is served first, and what lateness counts.

Decides what a session's priority and waiting time mean to the solvers; must never know GPUs or budgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from scheduler.cluster import Session, Snapshot
from scheduler.planner_settings import PlannerSettings
from solvers.placement.problem import IntArray

Ranks = npt.NDArray[np.int32]


def queues(
    waiting: Sequence[Session], class_of: Mapping[str, int], settings: PlannerSettings, now_s: float
) -> tuple[tuple[tuple[Session, ...], ...], tuple[IntArray, ...]]:
    """Per class the order in which it is served, and the counts of each level: priority, then urgency.

    Among sessions of one priority those that waited too long come first, so that small states cannot starve large ones.
    """

    def level(session: Session) -> tuple[int, bool]:
        return (-session.priority, now_s - session.since_s < settings.urgent_after_s)

    queues: list[list[Session]] = [[] for _ in class_of]
    counts: dict[tuple[int, bool], IntArray] = {}
    for session in sorted(waiting, key=lambda s: (level(s), s.since_s, s.session_id)):
        k = class_of[session.profile]
        queues[k].append(session)
        counts.setdefault(level(session), np.zeros(len(class_of), np.int64))[k] += 1
    return tuple(tuple(queue) for queue in queues), tuple(counts[key] for key in sorted(counts))


def lateness_weights(snapshot: Snapshot, class_of: Mapping[str, int], settings: PlannerSettings) -> IntArray:
    """Per class the mean weight of those who want chunks: a batch holds priorities together and is late for all."""
    if not settings.lateness_weights:
        return np.ones(len(class_of), np.int64)
    total, count = np.zeros((2, len(class_of)), np.int64)
    for session in snapshot.sessions.values():
        if session.status in ("active", "waiting"):
            total[class_of[session.profile]] += settings.lateness_weight(session.priority)
            count[class_of[session.profile]] += 1
    return np.maximum(1, np.rint(total / np.maximum(count, 1)).astype(np.int64))


def ranks(levels: Sequence[IntArray], classes: int) -> Ranks:
    """Per class the level of the first of it that waits; classes of which nobody waits are of no matter."""
    rank = np.zeros(classes, np.int32)
    for index in reversed(range(len(levels))):
        rank[levels[index] > 0] = index
    return without_holes(rank)


def without_holes(rank: Ranks) -> Ranks:
    return np.unique(rank, return_inverse=True)[1].astype(np.int32)
