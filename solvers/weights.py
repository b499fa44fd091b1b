"""Weights that prove how many GPUs are needed: dual prices of the configuration LP.

Decides which linear inequalities `sum_t limit[t] * gpus_on[t] >= weights . demand` hold for every schedule, because no
content x of a GPU of type t has weights . x > limit[t]; must never know time or prices paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from solvers.contents import ContentTable

FloatArray = npt.NDArray[np.float64]

_NO_PLACE = 1e4  # dollars per session without a place: more than any GPU's epoch costs
DIGITS = 9  # weights closer than this are one inequality


@dataclass(frozen=True, slots=True, kw_only=True)
class Inequality:
    """sum_t limit[t] * gpus_on[t] >= weights . demand, at every instant, in every schedule without lateness."""

    weights: tuple[float, ...]  # [classes], >= 0
    limit: tuple[float, ...]  # [types]: the largest weights . content, exactly


class Weigher:
    """Finds the strongest inequality for a demand; keeps every one it has found."""

    def __init__(self, tables: Sequence[ContentTable], prices: Sequence[float], gpus_max: Sequence[int]) -> None:
        self._contents = [table.counts[table.maximal()].astype(np.float64) for table in tables]
        self._prices = np.array(prices, dtype=np.float64)
        self._gpus_max = np.array(gpus_max, dtype=np.float64)
        self._known: dict[tuple[float, ...], Inequality] = {}
        self._lp = _ConfigurationLp(self._contents, self._prices, self._gpus_max)

    @property
    def found(self) -> list[Inequality]:
        return list(self._known.values())

    def restart(self) -> None:
        """Forget everything: from here on answers are those of a new weigher."""
        self._known.clear()
        self._lp.restart()

    def strongest(self, demand: npt.NDArray[np.int32], prices: FloatArray | None = None) -> Inequality | None:
        """The inequality that the configuration LP's duals give for this demand; None if no demand or LP answer."""
        if len(demand) == 1:  # one row says it all, whatever the demand
            return self.add(np.ones(1)) if demand[0] > 0 else None
        weights = self._lp.duals(demand, self._prices if prices is None else prices)
        if weights is None or not np.any(weights > 0):
            return None
        return self.add(weights)

    def violated(self, demand: npt.NDArray[np.int32], gpus: npt.NDArray[np.float64]) -> Inequality | None:
        """An inequality that these GPUs violate at this demand, or None if they can hold it (fractionally)."""
        if len(demand) == 1:
            one = self.strongest(demand)
            return one if one is not None and one.weights[0] * demand[0] > np.dot(one.limit, gpus) else None
        weights = self._lp.duals(demand, np.zeros(len(gpus)), gpus)
        if weights is None or not np.any(weights > 0):
            return None
        return self.add(weights)

    def shares(self, demands: npt.NDArray[np.int32]) -> FloatArray:
        """Which part of each class cheapest fractional packings have on each type [types, classes]."""
        served = np.zeros((len(self._contents), self._contents[0].shape[1]))
        for demand in demands:
            if self._lp.duals(demand, self._prices) is not None:
                served += self._lp.served()
        total = served.sum(axis=0)
        return np.asarray(served / np.maximum(total, 1e-12), dtype=np.float64)

    def add(self, weights: FloatArray) -> Inequality | None:
        """Make any non-negative weights an inequality, scaled so that the largest limit is 1."""
        weights = np.maximum(weights, 0.0)
        limit = np.array([float((contents @ weights).max(initial=0.0)) for contents in self._contents])
        if limit.max(initial=0.0) <= 0:
            return None
        weights, limit = weights / limit.max(), limit / limit.max()
        key = tuple(np.round([*weights, *limit], DIGITS))
        if key not in self._known:
            self._known[key] = Inequality(weights=tuple(weights.tolist()), limit=tuple(limit.tolist()))
        return self._known[key]


class _ConfigurationLp:
    """min prices . gpus s.t. contents in use cover the demand; only the demand and the prices change between calls."""

    def __init__(self, contents: Sequence[FloatArray], prices: FloatArray, gpus_max: FloatArray) -> None:
        import highspy

        self._types = len(contents)
        self._classes = contents[0].shape[1]
        patterns = np.concatenate(contents)
        type_of = np.repeat(np.arange(self._types), [len(c) for c in contents])
        columns = len(patterns) + self._types + self._classes  # contents in use, GPUs, sessions without a place
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = columns, self._classes + self._types
        lp.col_cost_ = np.concatenate([np.zeros(len(patterns)), prices, np.full(self._classes, _NO_PLACE)])
        lp.col_lower_ = np.zeros(columns)
        lp.col_upper_ = np.concatenate(
            [np.full(len(patterns), highspy.kHighsInf), gpus_max, np.full(self._classes, highspy.kHighsInf)]
        )
        lp.row_lower_ = np.zeros(lp.num_row_)
        lp.row_upper_ = np.full(lp.num_row_, highspy.kHighsInf)
        matrix = np.zeros((lp.num_row_, columns))
        matrix[: self._classes, : len(patterns)] = patterns.T
        matrix[self._classes + type_of, np.arange(len(patterns))] = -1.0
        matrix[self._classes + np.arange(self._types), len(patterns) + np.arange(self._types)] = 1.0
        matrix[np.arange(self._classes), len(patterns) + self._types + np.arange(self._classes)] = 1.0
        rows, cols = np.nonzero(matrix)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.searchsorted(rows, np.arange(lp.num_row_ + 1)).astype(np.int32)
        lp.a_matrix_.index_ = cols.astype(np.int32)
        lp.a_matrix_.value_ = matrix[rows, cols]
        self._lp = lp
        self.restart()
        self._optimal = highspy.HighsModelStatus.kOptimal
        self._infinity = highspy.kHighsInf
        self._patterns = len(patterns)
        self._gpus_max = gpus_max
        self._pattern_counts = patterns
        self._type_of = type_of

    def restart(self) -> None:
        """Without a basis: the next answer does not depend on those before it."""
        import highspy

        self._highs: Any = highspy.Highs()
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        self._highs.passModel(self._lp)

    def duals(
        self, demand: npt.NDArray[np.int32], prices: FloatArray, gpus_max: FloatArray | None = None
    ) -> FloatArray | None:
        """Dual prices of the classes, at most `_NO_PLACE` each; None where the LP gave no answer."""
        most = self._gpus_max if gpus_max is None else gpus_max
        for k in range(self._classes):
            self._highs.changeRowBounds(k, float(demand[k]), self._infinity)
        for t in range(self._types):
            self._highs.changeColCost(self._patterns + t, float(prices[t]))
            self._highs.changeColBounds(self._patterns + t, 0.0, float(most[t]))
        self._highs.run()
        if self._highs.getModelStatus() != self._optimal:
            return None
        return np.array(self._highs.getSolution().row_dual, dtype=np.float64)[: self._classes]

    def served(self) -> FloatArray:
        """Sessions per type and class in the last solution [types, classes]."""
        used = np.array(self._highs.getSolution().col_value, dtype=np.float64)[: self._patterns]
        served = np.zeros((self._types, self._classes))
        np.add.at(served, self._type_of, used[:, None] * self._pattern_counts)
        return served
