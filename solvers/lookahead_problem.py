"""GPUs of each type over the epochs ahead: what is given, what starts and stops lead to, and what that costs.

Decides what a well-formed look-ahead is; must never know how it is solved, or which GPU it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookaheadProblem:
    """Steps 0 .. horizon - 1; step 0 is the epoch that begins now. GPUs change at the beginning of a step.

    limits[i] . usable >= sides[i, step] is wanted of every row i and step. Where GPUs cannot be there in time, what is
    missing is a shortage that no decision could avoid.
    """

    price: IntArray  # [types]: milli-cents per GPU and step, from starting on
    lead: IntArray  # [types]: a GPU started at step h is usable from step h + lead
    usable: IntArray  # [types]: ready now
    draining: IntArray  # [types]: may be taken back at step 0, at once
    becoming: IntArray  # [types, horizon]: starting already, usable from that step on
    off: IntArray  # [types]: may be started
    least: IntArray  # [types]: never stop below
    may_shrink: BoolArray  # [types, horizon]: whether GPUs may be stopped at that step
    limits: FloatArray  # [rows, types]
    sides: FloatArray  # [rows, horizon]

    @property
    def types(self) -> int:
        return len(self.price)

    @property
    def horizon(self) -> int:
        return int(self.becoming.shape[1])

    def most_usable(self) -> IntArray:
        """[types, horizon]: if everything starts now and nothing stops."""
        ready = (self.usable + self.draining)[:, None] + self.becoming.cumsum(axis=1)
        started = np.arange(self.horizon)[None, :] >= self.lead[:, None]
        return np.asarray(ready + np.where(started, self.off[:, None], 0), dtype=np.int64)


def usable_counts(problem: LookaheadProblem, starts: IntArray, stops: IntArray, taken_back: IntArray) -> IntArray:
    """[types, horizon]: what starts and stops lead to."""
    arrived = problem.becoming.copy()
    for t in range(problem.types):
        lead = int(problem.lead[t])
        arrived[t, lead:] += starts[t, : max(0, problem.horizon - lead)]
    first = problem.usable + taken_back
    return np.asarray(first[:, None] + (arrived - stops).cumsum(axis=1), dtype=np.int64)


def price_of(problem: LookaheadProblem, usable: IntArray, starts: IntArray) -> int:
    """A GPU is paid in every step in which it is usable or starts up."""
    paid = usable.sum(axis=1) + waiting_steps(problem)
    for t in range(problem.types):
        in_startup = np.minimum(int(problem.lead[t]), problem.horizon - np.arange(problem.horizon))
        paid[t] += int(starts[t] @ in_startup)
    return int(paid @ problem.price)


def waiting_steps(problem: LookaheadProblem) -> IntArray:
    """[types]: steps that GPUs starting already have to go; paid whatever is decided."""
    return np.asarray(problem.becoming @ np.arange(problem.horizon), dtype=np.int64)
