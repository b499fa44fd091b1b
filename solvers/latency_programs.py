"""Linear and integer programs over contents at one instant of a fixed fleet.

Decides what a fleet can hold, and at which latency, at one demand; must never know time or the lattice of latencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from solvers.contents import TOLERANCE, ContentTable

FloatArray = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]


def largest_contents(table: ContentTable, latency_ms_max: float) -> Int32Array:
    """Contents [rows, classes] with f <= `latency_ms_max` to which no session can be added within it."""
    within = table.latency_ms <= latency_ms_max + TOLERANCE
    grows = (table.add >= 0) & within[np.maximum(table.add, 0)]
    return np.asarray(table.counts[within & ~grows.any(axis=1)])


class _Program:
    """Contents in use, at most so many of each type, cover a demand; only the demand changes between calls."""

    def __init__(
        self,
        contents: Sequence[Int32Array],
        gpus: FloatArray,
        cost: Sequence[FloatArray],
        shortfall: bool,
        integer: bool,
    ) -> None:
        import highspy

        patterns = np.concatenate(contents).astype(np.float64)
        type_of = np.repeat(np.arange(len(contents)), [len(rows) for rows in contents])
        classes, extra = patterns.shape[1], patterns.shape[1] if shortfall else 0
        matrix = np.zeros((classes + len(contents), len(patterns) + extra))
        matrix[:classes, : len(patterns)] = patterns.T
        matrix[np.arange(extra), len(patterns) + np.arange(extra)] = 1.0
        matrix[classes + type_of, np.arange(len(patterns))] = 1.0
        lp = highspy.HighsLp()
        lp.num_row_, lp.num_col_ = matrix.shape
        lp.col_cost_ = np.concatenate([*cost, np.ones(extra)])
        lp.col_lower_ = np.zeros(lp.num_col_)
        lp.col_upper_ = np.full(lp.num_col_, highspy.kHighsInf)
        lp.row_lower_ = np.concatenate([np.zeros(classes), np.full(len(contents), -highspy.kHighsInf)])
        lp.row_upper_ = np.concatenate([np.full(classes, highspy.kHighsInf), gpus])
        rows, cols = np.nonzero(matrix)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.searchsorted(rows, np.arange(lp.num_row_ + 1)).astype(np.int32)
        lp.a_matrix_.index_ = cols.astype(np.int32)
        lp.a_matrix_.value_ = matrix[rows, cols]
        if integer:
            lp.integrality_ = [highspy.HighsVarType.kInteger] * lp.num_col_
        self._highs: Any = highspy.Highs()
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        self._highs.passModel(lp)
        self._classes = classes
        self._infinity = highspy.kHighsInf
        self._optimal = highspy.HighsModelStatus.kOptimal
        self._infeasible = highspy.HighsModelStatus.kInfeasible

    def _run(self, counts: Int32Array) -> bool:
        """Solve for this demand; True if optimal."""
        for k in range(self._classes):
            self._highs.changeRowBounds(k, float(counts[k]), self._infinity)
        self._highs.run()
        return bool(self._highs.getModelStatus() == self._optimal)

    def _duals(self) -> FloatArray:
        duals = np.array(self._highs.getSolution().row_dual, dtype=np.float64)[: self._classes]
        return np.maximum(duals, 0.0)


class ShortfallProgram(_Program):
    """The least number of sessions without a place, fractions of contents allowed."""

    def __init__(self, tables: Sequence[ContentTable], gpus: FloatArray, latency_ms_max: float) -> None:
        contents = [largest_contents(table, latency_ms_max) for table in tables]
        super().__init__(contents, gpus, [np.zeros(len(rows)) for rows in contents], shortfall=True, integer=False)

    def shortfall(self, counts: Int32Array) -> tuple[float, FloatArray]:
        """Sessions short, and the class weights that prove it; 0 and no weight where there is no answer."""
        if not self._run(counts):
            return 0.0, np.zeros(self._classes)
        return float(self._highs.getInfo().objective_function_value), self._duals()


class MeanProgram(_Program):
    """The least sum over GPUs of sessions times f_g, fractions of contents allowed."""

    def __init__(self, tables: Sequence[ContentTable], gpus: FloatArray, latency_ms_max: float) -> None:
        within = [table.latency_ms <= latency_ms_max + TOLERANCE for table in tables]
        self._contents = [table.counts[rows] for table, rows in zip(tables, within, strict=True)]
        self._cost = [
            counts.sum(axis=1) * table.latency_ms[rows]
            for counts, table, rows in zip(self._contents, tables, within, strict=True)
        ]
        self._gpus = gpus
        super().__init__(self._contents, gpus, self._cost, shortfall=False, integer=False)

    def weights(self, counts: Int32Array) -> FloatArray | None:
        """The class weights that bound the sum best at this demand; None if the fleet cannot hold it."""
        return self._duals() if self._run(counts) else None

    def paid(self, weights: FloatArray) -> float:
        """sum_t gpus[t] * max over contents x of (weights . x - n(x) f(x)), exactly."""
        most = [float((counts @ weights - cost).max()) for counts, cost in zip(self._contents, self._cost, strict=True)]
        return float(self._gpus @ np.array(most))


class PackingProgram(_Program):
    """Whether whole contents cover a demand."""

    def __init__(self, tables: Sequence[ContentTable], gpus: FloatArray, latency_ms_max: float) -> None:
        contents = [largest_contents(table, latency_ms_max) for table in tables]
        super().__init__(contents, gpus, [np.zeros(len(rows)) for rows in contents], shortfall=False, integer=True)

    def impossible(self, counts: Int32Array, limit_s: float) -> bool:
        """True if provably no packing exists; False if there is one, or nothing was proven within `limit_s`."""
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + limit_s)
        self._run(counts)
        return bool(self._highs.getModelStatus() == self._infeasible)
