"""The most that any choice of kept intervals is worth while their sizes fit into one memory.

Decides an upper bound by linear programming; must never know what an interval stands for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def kept_bound(start: Ints, end: Ints, size: Ints, capacity: int) -> float:
    """At most this much size can be kept: intervals [start, end) [n] are kept whole or in part, at `capacity` at once.

    max size . x subject to sum of size x over the intervals that hold t <= capacity, 0 <= x <= 1. It is enough to ask
    at starts that an end follows: between them intervals only begin, so that the last one sees them all.
    """
    import highspy

    if not len(start):
        return 0.0
    times = np.unique(start)
    ends = np.sort(end)
    next_end = ends[np.minimum(np.searchsorted(ends, times, side="right"), len(ends) - 1)]
    times = times[next_end <= np.append(times[1:], np.iinfo(np.int64).max)]
    first, last = np.searchsorted(times, start), np.searchsorted(times, end)  # rows [first, last) of each interval
    counts = last - first
    rows = np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(start), len(times)
    lp.col_cost_ = -size.astype(np.float64)
    lp.col_lower_, lp.col_upper_ = np.zeros(len(start)), np.ones(len(start))
    lp.row_lower_ = np.full(len(times), -highspy.kHighsInf)
    lp.row_upper_ = np.full(len(times), float(capacity))
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    lp.a_matrix_.index_ = rows.astype(np.int32)
    lp.a_matrix_.value_ = np.repeat(size, counts).astype(np.float64)
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    highs.passModel(lp)
    highs.run()
    status = highs.getModelStatus()
    assert status == highspy.HighsModelStatus.kOptimal, f"a bounded, feasible program ended as {status}"
    return -float(highs.getInfo().objective_function_value)
