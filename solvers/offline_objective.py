"""What an offline solution is worth, and the one place from where its rules and spans are reached.

Decides the value of every tier; must never know how a solution was found, nor whether it keeps the rules.
"""

from __future__ import annotations

import numpy as np

from solvers.contents import TOLERANCE
from solvers.offline_problem import FloatArray, Int64Array, OfflineObjective, OfflineProblem, OfflineSolution
from solvers.offline_spans import spans_for
from solvers.offline_timeline import Timeline, migrations, timeline
from solvers.offline_violations import violations

__all__ = ["evaluate", "spans_for", "violations"]

HOUR_US = 3_600_000_000


def evaluate(problem: OfflineProblem, solution: OfflineSolution) -> OfflineObjective:
    """The objective of a solution that keeps the rules; vectorised for millions of pieces."""
    late_us, latency_max, latency_mean = _latency_tiers(problem, timeline(problem, solution))
    move_dollars, moves = _moves(problem, solution)
    paid_us = np.zeros(len(problem.types), dtype=np.int64)
    np.add.at(paid_us, problem.gpu_type[solution.span_gpu], solution.span_off_us - solution.span_on_us)
    return OfflineObjective(
        unserved_us=_unserved_us(problem, solution),
        late_us=late_us,
        gpu_dollars=float((paid_us / HOUR_US) @ np.array(problem.price_per_hour)),
        move_dollars=move_dollars,
        migrations=moves,
        latency_ms_max=latency_max,
        latency_ms_mean=latency_mean,
        gpu_hours=float(paid_us.sum() / HOUR_US),
    )


def _unserved_us(problem: OfflineProblem, solution: OfflineSolution) -> tuple[int, ...]:
    priorities, level = np.unique(problem.priority, return_inverse=True)
    unserved = np.zeros(len(priorities), dtype=np.int64)
    np.add.at(unserved, level, problem.end_us - problem.start_us)
    np.subtract.at(unserved, level[solution.piece_period], solution.piece_end_us - solution.piece_start_us)
    return tuple(int(value) for value in unserved[::-1])


def _latency_tiers(problem: OfflineProblem, line: Timeline) -> tuple[int, float, float]:
    """Late session-microseconds, worst f_g and its mean over session-time."""
    if not len(line.gpu):
        return 0, 0.0, 0.0
    latency, late = latency_and_late(problem, line)
    sessions = line.counts.sum(axis=1, dtype=np.int64)[line.content]
    duration_us = line.end_us - line.start_us
    session_us = sessions * duration_us
    mean = float((latency * session_us).sum() / session_us.sum())
    return int((late * duration_us).sum()), float(latency.max()), mean


def latency_and_late(problem: OfflineProblem, line: Timeline) -> tuple[FloatArray, Int64Array]:
    """f_g and the number of late sessions of every stretch."""
    targets = np.array(problem.target_ms)
    latency = np.stack([limits.costs.latency_ms(line.counts) for limits in problem.types])
    missed = latency[:, :, None] > targets + TOLERANCE
    late = np.where(missed, line.counts, 0).sum(axis=2, dtype=np.int64)
    gpu_type = problem.gpu_type[line.gpu]
    return latency[gpu_type, line.content], late[gpu_type, line.content]


def _moves(problem: OfflineProblem, solution: OfflineSolution) -> tuple[float, int]:
    """Dollars and number of migrations."""
    moves = migrations(solution)
    class_index = problem.class_index[moves.period]
    same_node = problem.gpu_node[moves.source] == problem.gpu_node[moves.target]
    transfer_s = np.where(
        same_node,
        np.array(problem.transfer_same_s, dtype=np.float64)[class_index],
        np.array(problem.transfer_cross_s, dtype=np.float64)[class_index],
    )
    price = np.array(problem.price_per_hour, dtype=np.float64)[problem.gpu_type[moves.target]]
    return float((transfer_s / 3600 * price).sum()), len(moves)
