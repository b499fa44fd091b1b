"""The look-ahead over GPU counts as a mixed-integer program.

Decides columns and rows, one method for each rule; must never know how the program is solved.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from solvers.lookahead_problem import LookaheadProblem, waiting_steps
from solvers.placement.linear_program import Sheet

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

EPSILON = 1e-7


class LookaheadModel:
    """Columns: starts, stops and usable GPUs per type and step, GPUs taken back per type."""

    def __init__(self, problem: LookaheadProblem, sides: FloatArray, most: IntArray, gap: float) -> None:
        self._problem, self._gap = problem, gap
        self.sheet = Sheet()
        cells = problem.types * problem.horizon
        shape = (problem.types, problem.horizon)
        in_time = np.arange(problem.horizon)[None, :] + problem.lead[:, None] < problem.horizon
        may_start = np.where(in_time, problem.off[:, None], 0)
        may_stop = np.where(problem.may_shrink, most, 0)
        least = np.minimum(problem.least[:, None], most)
        # With whole counts of usable GPUs the rest is a flow, whole by itself.
        self._starts = self.sheet.add_columns(cells, 0, may_start.ravel()).reshape(shape)
        self._stops = self.sheet.add_columns(cells, 0, may_stop.ravel()).reshape(shape)
        self._usable = self.sheet.add_columns(cells, least.ravel(), most.ravel(), whole=_decided_now(problem)).reshape(
            shape
        )
        self._back = self.sheet.add_columns(problem.types, 0, problem.draining)
        self._balance_counts()
        self._start_no_more_than_are_off()
        self._hold_what_is_expected(sides)

    def columns(self) -> tuple[IntArray, IntArray, IntArray]:
        return self._starts, self._stops, self._back

    @property
    def usable_columns(self) -> IntArray:
        return self._usable

    def everything_now(self) -> tuple[IntArray, IntArray, IntArray]:
        """What always satisfies every row: all GPUs on."""
        starts = np.zeros((self._problem.types, self._problem.horizon), dtype=np.int64)
        starts[:, 0] = np.where(self._problem.lead < self._problem.horizon, self._problem.off, 0)
        return starts, np.zeros_like(starts), self._problem.draining

    def cost(self) -> FloatArray:
        """Usable steps and start-ups at their price."""
        problem = self._problem
        cost = np.zeros(self.sheet.columns)
        in_startup = np.minimum(problem.lead[:, None], problem.horizon - np.arange(problem.horizon)[None, :])
        cost[self._starts] = problem.price[:, None] * in_startup
        cost[self._usable] = np.broadcast_to(problem.price[:, None], self._usable.shape)
        return cost

    def fixed_cost(self) -> int:
        """What GPUs that start already cost until they are usable."""
        return int(waiting_steps(self._problem) @ self._problem.price)

    def _balance_counts(self) -> None:
        """A step has what the one before had, and what became usable, and not what was stopped."""
        problem = self._problem
        known = problem.becoming.astype(np.float64)
        known[:, 0] += problem.usable
        rows = self.sheet.add_rows(known.size, known.ravel(), known.ravel()).reshape(known.shape)
        self.sheet.put(rows, self._usable, 1.0)
        self.sheet.put(rows[:, 1:], self._usable[:, :-1], -1.0)
        self.sheet.put(rows, self._stops, 1.0)
        self.sheet.put(rows[:, 0], self._back, -1.0)
        for t in range(problem.types):
            lead = int(problem.lead[t])
            if lead < problem.horizon:
                self.sheet.put(rows[t, lead:], self._starts[t, : problem.horizon - lead], -1.0)

    def _start_no_more_than_are_off(self) -> None:
        """A GPU that was stopped may start again; GPUs in start-up are off no more."""
        problem = self._problem
        until = np.tri(problem.horizon, dtype=np.bool_)  # [step, steps up to it]
        for t in range(problem.types):
            rows = self.sheet.add_rows(problem.horizon, upper=float(problem.off[t]))
            step, past = np.nonzero(until)
            self.sheet.put(rows[step], self._starts[t, past], 1.0)
            step, past = np.nonzero(until)
            self.sheet.put(rows[step], self._stops[t, past], -1.0)

    def _hold_what_is_expected(self, sides: FloatArray) -> None:
        """Capacity is at least the demand's quantile, in every row and step."""
        problem = self._problem
        if problem.types == 1:  # whole GPUs: sides round up, and the program is totally unimodular
            limit = problem.limits[:, :1]
            useful = limit[:, 0] > EPSILON
            if useful.any():
                need = np.ceil(sides[useful] / limit[useful] - EPSILON).max(axis=0)
                rows = self.sheet.add_rows(problem.horizon, lower=need)
                self.sheet.put(rows, self._usable[0], 1.0)
            return
        for step in range(problem.horizon):
            strong = _undominated(problem.limits, sides[:, step], self._gap)
            rows = self.sheet.add_rows(len(strong), lower=sides[strong, step] - EPSILON)
            self.sheet.put(rows[:, None], self._usable[None, :, step], problem.limits[strong])


def _decided_now(problem: LookaheadProblem) -> BoolArray:
    """Counts [types x horizon] that must be whole: those that starts and stops of now lead to, and their neighbours.

    With one type the program is totally unimodular, so that whole counts cost nothing.
    """
    step = np.arange(problem.horizon)[None, :]
    lead = problem.lead[:, None]
    near = (step <= 1) | ((step >= lead) & (step <= lead + 1))
    return np.asarray((near | (problem.types == 1)).ravel(), dtype=np.bool_)


def _undominated(limits: FloatArray, side: FloatArray, gap: float) -> IntArray:
    """Rows that ask for more, to a relative gap, than every other row, whatever GPUs there are."""
    rows = np.flatnonzero(side > EPSILON)
    asks = limits[rows] / side[rows, None]  # asks . usable >= 1: the smaller, the more
    order = np.argsort(asks.sum(axis=1), kind="stable")
    asks = asks[order]
    implied: BoolArray = np.all(asks[:, None, :] <= asks[None, :, :] * (1.0 + gap) + 1e-12, axis=2)  # [by, which]
    kept: list[int] = []
    for row in range(len(asks)):
        if not implied[kept, row].any():
            kept.append(row)
    return np.asarray(rows[order[kept]], dtype=np.int64)
