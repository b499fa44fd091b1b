"""The least cost of GPUs of several types that meet linear needs in each epoch.

Decides a lower bound by HiGHS on arrays; must never know what needs and types are, nor how a schedule was found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def least_cost(
    *,
    epochs: int,
    epoch_cost: Floats,
    start_cost: Floats,
    low: Floats,
    high: Floats,
    before: Floats,
    row_epoch: Ints,
    row_weights: Floats,
    row_side: Floats,
    whole: bool,
    limit_s: float = 60.0,
) -> tuple[float | None, Floats | None]:
    """The proven lower bound, and GPUs on [epochs, types] of the solution found (None where there is none).

    Per type t: low <= m_k <= high, s_k >= m_k - m_{k-1} with m_{-1} = before, s >= 0; and for each row r of shape
    (types,) row_weights[r] . m_{row_epoch[r]} >= row_side[r]. `whole` asks for whole m, stopped after `limit_s`;
    otherwise the linear relaxation is solved. Infeasible needs prove infinity.
    """
    import highspy

    types = epoch_cost.size
    columns = 2 * epochs * types  # m by epoch and type, then s
    rows = row_side.size + epochs * types
    problem = highspy.HighsLp()
    problem.num_col_, problem.num_row_ = columns, rows
    problem.col_cost_ = np.concatenate([np.tile(epoch_cost, epochs), np.tile(start_cost, epochs)])
    problem.col_lower_ = np.concatenate([np.tile(low, epochs), np.zeros(epochs * types)])
    problem.col_upper_ = np.concatenate([np.tile(high, epochs), np.full(epochs * types, np.inf)])
    first_start = np.concatenate([-before, np.zeros((epochs - 1) * types)])
    problem.row_lower_ = np.concatenate([row_side, first_start])
    problem.row_upper_ = np.full(rows, np.inf)
    starts, index, value = _matrix(epochs, types, row_epoch, row_weights)
    problem.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    problem.a_matrix_.start_, problem.a_matrix_.index_, problem.a_matrix_.value_ = starts, index, value
    if whole:
        kinds = [highspy.HighsVarType.kInteger] * (epochs * types) + [highspy.HighsVarType.kContinuous] * (
            epochs * types
        )
        problem.integrality_ = kinds
    return _solve(highspy, problem, whole=whole, limit_s=limit_s, shape=(epochs, types))


def _matrix(epochs: int, types: int, row_epoch: Ints, row_weights: Floats) -> tuple[Ints, Ints, Floats]:
    """Row-wise: the needs, then s_k - m_k + m_{k-1} >= 0."""
    needs = row_epoch.size
    need_index = (row_epoch[:, None] * types + np.arange(types)).ravel()
    own = np.arange(epochs * types)
    start_index = np.stack([own + epochs * types, own, own - types], axis=1)
    start_value = np.tile(np.array([1.0, -1.0, 1.0]), (epochs * types, 1))
    kept = start_index >= 0  # the first epoch has none before it
    lengths = np.concatenate([np.full(needs, types), kept.sum(axis=1)])
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    index = np.concatenate([need_index, start_index[kept]])
    value = np.concatenate([row_weights.ravel(), start_value[kept]])
    return starts.astype(np.int32), index.astype(np.int32), value


def _solve(
    highspy: Any, problem: Any, *, whole: bool, limit_s: float, shape: tuple[int, int]
) -> tuple[float | None, Floats | None]:
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    if whole:
        highs.setOptionValue("time_limit", limit_s)
        highs.setOptionValue("mip_rel_gap", 1e-7)
    if highs.passModel(problem) == highspy.HighsStatus.kError:
        return None, None
    highs.run()
    status, info = highs.getModelStatus(), highs.getInfo()
    if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
        return float("inf"), None
    values = np.array(highs.getSolution().col_value, dtype=np.float64)
    counts = values[: shape[0] * shape[1]].reshape(shape) if values.size else None
    if whole:
        return (float(info.mip_dual_bound) if np.isfinite(info.mip_dual_bound) else None), counts
    if status != highspy.HighsModelStatus.kOptimal:
        return None, counts
    return float(info.objective_function_value), counts
