"""One pattern for every GPU, such that all rows hold: by rounding the relaxation's mixture, else by a small MILP.

Decides which GPU follows which pattern, or proves that no choice satisfies the rows; must never know latencies, nor
which session goes where.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from solvers.placement.pattern_dual import Relaxed, gains, values_of
from solvers.placement.pattern_level import Level
from solvers.placement.pattern_rows import FloatArray, Rows
from solvers.placement.problem import IntArray

_COLUMNS_FIRST = 600  # the first MILP has the most promising patterns only
_COLUMNS_MAX = 20_000  # no MILP has more


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A pattern per GPU; or none, which may prove that there is none."""

    pair: IntArray | None  # [gpus]
    cap: IntArray | None  # [gpus]
    end: Literal["rounded", "milp", "none exists", "not found"]


def round_mixture(level: Level, rows: Rows, relaxed: Relaxed) -> Chosen:
    """Follow the mixture group by group so that the rows stay near what the mixture has; then see whether they hold."""
    if not len(relaxed.weights):
        return Chosen(pair=None, cap=None, end="not found")
    pair = np.stack([one.pair for one in relaxed.points])
    cap = np.stack([one.cap for one in relaxed.points])
    weights = np.where(relaxed.weights > 1e-9, relaxed.weights, 0)
    first = weights.argmax(axis=0)
    groups = np.arange(len(level.size))
    same = ((pair == pair[first, groups]) & (cap == cap[first, groups])) | (weights == 0)
    counts = np.zeros(weights.shape, dtype=np.int64)
    fixed = same.all(axis=0)
    counts[first[fixed], groups[fixed]] = level.size[fixed]
    error = np.zeros(rows.count)
    for one in np.flatnonzero(~fixed):
        mine = np.flatnonzero(weights[:, one])
        gain = gains(level, rows, pair[mine, one], cap[mine, one]) / rows.unit
        wish = weights[mine, one] / weights[mine, one].sum() * level.size[one]
        whole = np.floor(wish + 1e-9).astype(np.int64)
        error += (whole - wish) @ gain
        for _ in range(int(level.size[one] - whole.sum())):
            after = error + gain
            pick = int(np.minimum(after, 0).sum(axis=1).argmax())
            whole[pick] += 1
            error = after[pick]
        counts[mine, one] = whole
    used = np.nonzero(counts)
    return _for_gpus(level, rows, used[1], pair[used], cap[used], counts[used], "rounded")


def _for_gpus(
    level: Level,
    rows: Rows,
    group: IntArray,
    pair: IntArray,
    cap: IntArray,
    count: IntArray,
    end: Literal["rounded", "milp"],
) -> Chosen:
    """Hand the patterns of each group to its GPUs, if all rows hold."""
    total = count @ gains(level, rows, pair, cap)
    if (total < rows.least).any():
        return Chosen(pair=None, cap=None, end="not found")
    order = np.argsort(group, kind="stable")
    gpus = np.argsort(level.group_of, kind="stable")
    chosen = np.empty((2, len(gpus)), dtype=np.int64)
    chosen[:, gpus] = np.repeat(np.stack([pair[order], cap[order]]), count[order], axis=1)
    return Chosen(pair=chosen[0], cap=chosen[1], end=end)


def by_milp(
    level: Level, rows: Rows, relaxed: Relaxed, left_s: Callable[[], float], limits: Callable[[Any], None]
) -> Chosen:
    """A choice from the patterns of least reduced cost.

    If prices leave slack s at most, no pattern with a reduced cost beyond s is part of any choice that satisfies the
    rows. So a MILP with all others decides whether there is one.
    """
    group, pair, cap, cost = _columns(level, rows, relaxed)
    order = np.argsort(cost, kind="stable")
    widths = [w for w in (_COLUMNS_FIRST + len(level.size), _COLUMNS_MAX) if w < len(order)]
    if len(order) <= _COLUMNS_MAX:
        widths.append(len(order))
    for width in widths:
        if left_s() <= 0:
            break
        used = np.sort(order[:width])
        counts, status = _solve(level, rows, group[used], pair[used], cap[used], limits)
        if counts is not None:
            has = counts > 0
            return _for_gpus(level, rows, group[used][has], pair[used][has], cap[used][has], counts[has], "milp")
        if status == "infeasible" and width == len(order):
            return Chosen(pair=None, cap=None, end="none exists")
        if status != "infeasible":
            break
    return Chosen(pair=None, cap=None, end="not found")


def _columns(level: Level, rows: Rows, relaxed: Relaxed) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Patterns that a choice may contain: group, pair, cap and reduced cost; nobody enters with cap 0."""
    pairs, prices = level.pairs, relaxed.best.prices
    value, best, slots = values_of(level, rows, prices)
    most = np.maximum.reduceat(value, level.starts)[pairs.group]
    rest = value - best[pairs.kind, pairs.caps, pairs.stay]
    cost = (most - rest)[:, None] - slots[pairs.kind, :, pairs.stay]
    entering = level.slots[pairs.kind, :, pairs.stay]
    useful = (np.arange(entering.shape[1]) <= pairs.caps[:, None]) & (entering > 0)
    useful[:, 0] = True
    # Of caps that let equally many enter the least admits most.
    useful[:, 1:] &= (entering[:, 1:] > entering[:, :-1]) | (entering[:, :-1] == 0)
    pair, cap = np.nonzero(useful & (cost <= relaxed.best.slack + 1e-6 * (1 + abs(relaxed.best.slack))))
    return pairs.group[pair], pair, cap, cost[pair, cap]


def _solve(
    level: Level, rows: Rows, group: IntArray, pair: IntArray, cap: IntArray, limits: Callable[[Any], None]
) -> tuple[IntArray | None, str]:
    """Whole numbers of GPUs per pattern: groups are used up, rows hold; the fewest migrations are not asked for."""
    import highspy

    gain = gains(level, rows, pair, cap)
    choices = np.bincount(group, minlength=len(level.size))
    if (choices == 0).any():
        return None, "infeasible"
    alone = choices[group] == 1
    counts = np.where(alone, level.size[group], 0)
    free = np.flatnonzero(~alone)
    least = rows.least - counts @ gain
    if not len(free):
        return (counts, "optimal") if (least <= 0).all() else (None, "infeasible")
    names, row_of = np.unique(group[free], return_inverse=True)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(free), rows.count + len(names)
    lp.col_cost_ = np.zeros(len(free))
    lp.col_lower_ = np.zeros(len(free))
    lp.col_upper_ = level.size[group[free]].astype(np.float64)
    lp.integrality_ = [highspy.HighsVarType.kInteger] * len(free)
    lp.row_lower_ = np.concatenate([least, level.size[names]]).astype(np.float64)
    lp.row_upper_ = np.concatenate([np.full(rows.count, highspy.kHighsInf), level.size[names].astype(np.float64)])
    column, row = np.nonzero(gain[free])
    entries = np.concatenate([gain[free][column, row], np.ones(len(free), dtype=np.int64)])
    columns = np.concatenate([column, np.arange(len(free))])
    indexes = np.concatenate([row, rows.count + row_of])
    by_column = np.argsort(columns, kind="stable")
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.searchsorted(columns[by_column], np.arange(len(free) + 1)).astype(np.int32)
    lp.a_matrix_.index_ = indexes[by_column].astype(np.int32)
    lp.a_matrix_.value_ = entries[by_column].astype(np.float64)
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    limits(highs)
    highs.passModel(lp)
    highs.run()
    if highs.getModelStatus() == highspy.HighsModelStatus.kInfeasible:  # presolve says so of feasible ones, too
        highs.setOptionValue("presolve", "off")
        highs.run()
    status = highs.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return None, "infeasible"
    if status != highspy.HighsModelStatus.kOptimal:
        return None, "limit"
    counts[free] = np.rint(np.array(highs.getSolution().col_value)).astype(np.int64)
    return counts, "optimal"
