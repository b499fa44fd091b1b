"""The linear relaxation of choosing patterns, by its dual: prices on rows that no choice of patterns can meet.

Decides prices whose best patterns show how much slack the rows can have at most, and certifies in whole numbers when
that is negative; must never know about latencies, memory or deadlines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.placement.pattern_level import Level
from solvers.placement.pattern_rows import FloatArray, Rows
from solvers.placement.problem import IntArray

_BUCKETS = 16  # groups are summed up in so many parts; more parts: fewer rounds, larger linear programs
_WHOLE = 1 << 24  # prices are rounded to this part of a unit before they certify anything
ZERO = 1e-6  # slack this small is none: what is certified is computed again, exactly
_TIGHT = 0.02  # sessions of slack: prices this close to the best are good enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """One evaluation: the best pattern of each group at given prices."""

    prices: FloatArray
    slack: float  # no choice of patterns leaves more, in units of the prices' normalisation
    pair: IntArray  # [groups]
    cap: IntArray  # [groups]


def values_of(level: Level, rows: Rows, prices: Any) -> tuple[Any, Any, Any]:
    """Value of each pair with its best cap, that cap, and values of slots [kinds, caps + 1, stay]."""
    pairs = level.pairs
    slots = np.tensordot(prices, rows.slot_gain, axes=1)
    best = np.maximum.accumulate(slots, axis=1)
    value = best[pairs.kind, pairs.caps, pairs.stay] + pairs.gives @ (prices @ rows.give_gain)
    leaving, moved = prices @ rows.leaving_gain, prices @ rows.moved_gain
    if leaving:
        value = value + leaving * pairs.size * level.kind_leaving[pairs.kind]
    if moved:
        value = value + moved * pairs.moved_mib
    return value, best, slots


def price(level: Level, rows: Rows, prices: FloatArray) -> Priced:
    """Evaluate the relaxation at these prices."""
    pairs = level.pairs
    value, best, slots = values_of(level, rows, prices)
    most = np.maximum.reduceat(value, level.starts)
    at_best = np.flatnonzero(value >= most[pairs.group])
    pair = at_best[np.searchsorted(pairs.group[at_best], np.arange(len(level.size)))]
    kind, stay = pairs.kind[pair], pairs.stay[pair]
    reached = slots[kind, :, stay] >= best[kind, pairs.caps[pair], stay][:, None]
    slack = float(most @ level.size - prices @ rows.least)
    return Priced(prices=prices, slack=slack, pair=pair, cap=reached.argmax(axis=1))


def gains(level: Level, rows: Rows, pair: IntArray, cap: IntArray) -> IntArray:
    """What patterns add to each row [patterns, rows]."""
    pairs = level.pairs
    gain = rows.slot_gain[:, pairs.kind[pair], cap, pairs.stay[pair]].T + pairs.gives[pair] @ rows.give_gain.T
    leaving = (pairs.size[pair] * level.kind_leaving[pairs.kind[pair]])[:, None] * rows.leaving_gain
    moved = pairs.moved_mib[pair][:, None] * rows.moved_gain
    return np.asarray(gain + leaving + moved, dtype=np.int64)


def certifies(level: Level, rows: Rows, prices: FloatArray) -> bool:
    """Whether prices prove that no choice of patterns satisfies all rows; exact, in whole numbers."""
    return _whole_slack(level, rows, _whole(prices)) < 0


def least_moved_mib(level: Level, rows: Rows, prices: FloatArray) -> int:
    """What has to migrate at least by these prices, exact; rows include one for the migrated size."""
    row, whole = int(np.flatnonzero(rows.moved_gain)[0]), _whole(prices)
    if not whole[row]:
        return 0
    # Prices in units of the row's price leave slack s at most: of the row's limit at most s MiB are spared.
    spared = _whole_slack(level, rows, whole) // int(whole[row])
    return max(0, -int(rows.least[row]) - spared)


def _whole(prices: FloatArray) -> IntArray:
    return np.asarray(np.rint(np.maximum(prices, 0) * _WHOLE), dtype=np.int64)


def _whole_slack(level: Level, rows: Rows, whole: IntArray) -> int:
    value, _, _ = values_of(level, rows, whole)
    return int(np.maximum.reduceat(value, level.starts) @ level.size) - int(whole @ rows.least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """Where the relaxation ended: prices, and a mixture of choices that leaves (nearly) as much slack."""

    best: Priced
    points: list[Priced]
    weights: FloatArray  # [points, groups]: of each choice in the mixture
    rounds: int


def least_slack(level: Level, rows: Rows, start: FloatArray | None, go_on: Callable[[], bool]) -> Relaxed:
    """Prices with (nearly) the least slack; stops at the first that are negative, and when told to."""
    groups, width = len(level.size), rows.count
    buckets = np.arange(groups) * min(_BUCKETS, groups) // groups
    edges = np.flatnonzero(np.diff(buckets, prepend=-1))
    master = _Master(rows, len(edges))
    points = [np.full(width, 1.0 / width)] if start is None else [start]
    known: list[Priced] = []
    while True:
        for point in points:
            one = price(level, rows, point / rows.unit)
            known.append(one)
            gain = gains(level, rows, one.pair, one.cap) * level.size[:, None] / rows.unit
            master.add(np.add.reduceat(gain, edges, axis=0))
        best = min(known, key=lambda one: one.slack)
        found = master.solve() if best.slack >= -ZERO else None
        if found is None:
            return Relaxed(best=best, points=known, weights=np.zeros((0, groups)), rounds=len(known))
        low, point = found
        if best.slack - low <= _TIGHT or not go_on():
            weights = master.weights()[:, buckets]
            return Relaxed(best=best, points=known, weights=weights, rounds=len(known))
        points = [0.5 * point + 0.5 * best.prices * rows.unit, point] if best.slack - low > 1.0 else [point]


@dataclass(slots=True, init=False)
class _Master:
    """min sum of buckets - least . prices; prices >= 0 with sum 1; a bucket is what the best known choice gives."""

    _highs: Any
    _width: int
    _buckets: int
    _optimal: Any
    _infinity: float

    def __init__(self, rows: Rows, buckets: int) -> None:
        import highspy

        self._width, self._buckets = rows.count, buckets
        self._optimal, self._infinity = highspy.HighsModelStatus.kOptimal, highspy.kHighsInf
        lp = highspy.HighsLp()
        columns = self._width + buckets
        lp.num_col_, lp.num_row_ = columns, 1
        lp.col_cost_ = np.concatenate([-rows.least / rows.unit, np.ones(buckets)])
        lp.col_lower_ = np.concatenate([np.zeros(self._width), np.full(buckets, -1e7)])
        lp.col_upper_ = np.concatenate([np.ones(self._width), np.full(buckets, self._infinity)])
        lp.row_lower_ = lp.row_upper_ = np.ones(1)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.array([0, self._width], dtype=np.int32)
        lp.a_matrix_.index_ = np.arange(self._width, dtype=np.int32)
        lp.a_matrix_.value_ = np.ones(self._width)
        self._highs = highspy.Highs()
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        self._highs.setOptionValue("presolve", "off")
        self._highs.passModel(lp)

    def add(self, gain: FloatArray) -> None:
        """bucket - gain . prices >= 0 for each bucket."""
        values = np.concatenate([-gain, np.ones((self._buckets, 1))], axis=1).ravel()
        index = np.tile(np.arange(self._width + 1, dtype=np.int32), (self._buckets, 1))
        index[:, -1] = self._width + np.arange(self._buckets)
        start = np.arange(self._buckets, dtype=np.int32) * (self._width + 1)
        self._highs.addRows(
            self._buckets,
            np.zeros(self._buckets),
            np.full(self._buckets, self._infinity),
            len(values),
            start,
            index.ravel(),
            values,
        )

    def weights(self) -> FloatArray:
        """How much of each known choice the optimal mixture has, per bucket [points, buckets]."""
        duals = np.array(self._highs.getSolution().row_dual[1:]).reshape(-1, self._buckets)
        weights = np.maximum(duals, 0)
        return np.asarray(weights / np.maximum(weights.sum(axis=0), 1e-12), dtype=np.float64)

    def solve(self) -> tuple[float, FloatArray] | None:
        self._highs.run()
        if self._highs.getModelStatus() != self._optimal:
            return None
        prices = np.array(self._highs.getSolution().col_value[: self._width])
        prices = np.maximum(prices, 0)
        return float(self._highs.getInfo().objective_function_value), prices / prices.sum()
