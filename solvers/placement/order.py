"""In which order sessions are placed: higher priorities first, then those that are hardest to place.

Decides how hard a class is to place; must never know where it is placed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from solvers.placement.problem import NEVER_US, IntArray, Problem


def class_sizes(problem: Problem) -> npt.NDArray[np.float64]:
    """What one session of each class adds to f, roughly, in microseconds on the GPU types of the fleet [classes]."""
    tables = problem.tables
    present = np.unique(problem.gpu_type)
    alone = np.minimum(tables.alone_us[present], NEVER_US).astype(np.float64)
    last = alone.shape[2] - 1
    counts = np.minimum(np.array([2, 3]), last)
    possible = alone[:, :, counts[-1]] < NEVER_US
    slope = np.where(possible, alone[:, :, counts[-1]] - alone[:, :, max(counts[-1] - 1, 0)], 0.0)
    first = np.where(alone[:, :, min(1, last)] < NEVER_US, alone[:, :, min(1, last)], 0.0)
    base = np.where(tables.base_us[present] < NEVER_US, tables.base_us[present], 0)
    return np.asarray((0.85 * slope + 0.15 * first + base).mean(axis=0) + 1.0, dtype=np.float64)


def placing_order(problem: Problem) -> IntArray:
    """Classes, highest priority first, then the largest first."""
    return np.lexsort((-class_sizes(problem), problem.priority_rank)).astype(np.int64)
