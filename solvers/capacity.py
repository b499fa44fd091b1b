"""The cheapest GPUs that hold a demand on time, and the inequalities that say which GPUs suffice.

Decides counts per GPU type for one vector of sessions, with a proof; must never know time, forecasts or GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

from solvers.contents import ContentTable
from solvers.placement.linear_program import LinearProgram, Sheet
from solvers.weights import Inequality, Weigher

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

EPSILON = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class GpusFor:
    """GPUs that hold a demand, and what no GPUs can do it for less."""

    gpus: IntArray  # [types]
    price: int  # of these GPUs; prices are whole numbers per GPU
    bound: int
    proof: str  # "nested" (closed form), "duals" (configuration LP), "branch and bound"

    @property
    def proven(self) -> bool:
        return self.price <= self.bound


def nested_caps(table: ContentTable) -> IntArray | None:
    """Most sessions on a GPU per class, if exactly the contents with sum(x) <= min cap of the classes in x are on time.

    So it is with one class, and where a round takes max W + H(n). None: it is not so.
    """
    classes = table.counts.shape[1]
    caps = np.array([table.counts[table.counts.sum(axis=1) == table.counts[:, k], k].max() for k in range(classes)])
    least = np.where(table.counts > 0, caps, np.iinfo(np.int32).max).min(axis=1)
    if (table.counts.sum(axis=1) > least).any():
        return None
    # As many contents as the rule admits: class j is the least capable one present, others before it are optional.
    admitted = 1 + sum(comb(int(cap) - 1 + j, j) for j, cap in enumerate(sorted(caps.tolist(), reverse=True), 1) if cap)
    return caps.astype(np.int64) if admitted == table.size else None


def nested_need(caps: IntArray, demand: IntArray) -> int | None:
    """Fewest GPUs of one type with nested caps; None if some demand fits on no GPU.

    The GPU of the least capable session takes no more than its cap; filling it with the next least capable is best.
    """
    if (demand[caps == 0] > 0).any():
        return None
    gpus = free = 0
    for k in np.argsort(caps, kind="stable"):
        left = max(0, int(demand[k]) - free)
        free -= int(demand[k]) - left
        if left:
            opened = -(-left // int(caps[k]))
            gpus += opened
            free = opened * int(caps[k]) - left
    return gpus


class Capacity:
    """What GPUs of each type hold on time: prepared once, asked often."""

    def __init__(self, tables: Sequence[ContentTable], prices: Sequence[int]) -> None:
        """On-time contents and the whole price of a GPU, by type."""
        assert all(price >= 0 for price in prices)
        self._patterns = [table.counts[table.maximal()].astype(np.int64) for table in tables]
        self._prices = np.array(prices, dtype=np.int64)
        self._cost = np.maximum(self._prices, 1)  # GPUs that cost nothing are still not wasted
        self._caps = nested_caps(tables[0]) if len(tables) == 1 else None
        self._weigher = Weigher(tables, (self._cost * _UNIT).tolist(), [_UNLIMITED] * len(tables))

    @property
    def types(self) -> int:
        return len(self._patterns)

    @property
    def runs(self) -> npt.NDArray[np.bool_]:
        """[classes]: whether a session is on time anywhere, at least alone."""
        return np.asarray(np.stack([p.max(axis=0) for p in self._patterns]).max(axis=0) > 0, dtype=np.bool_)

    def restart(self) -> None:
        """Forget what was asked: where several inequalities are equally strong, warm starts decide between them.

        From here on the answers are those of a new `Capacity`, so that a decision does not depend on those before it.
        """
        self._weigher.restart()

    def strongest(self, demand: FloatArray) -> Inequality | None:
        """What any GPUs must satisfy to hold this demand, tight at the cheapest fractional ones; None for no demand."""
        return self._weigher.strongest(np.ceil(demand - EPSILON).astype(np.int32))

    def violated(self, demand: FloatArray, gpus: FloatArray) -> Inequality | None:
        """An inequality that says why these GPUs are too few, or None if contents in fractions would do."""
        found = self._weigher.violated(np.ceil(demand - EPSILON).astype(np.int32), gpus)
        if found is None:
            return None
        missing = float(np.dot(found.weights, np.ceil(demand - EPSILON)) - np.dot(found.limit, gpus))
        return found if missing > EPSILON else None

    def fewest(self, demand: IntArray, *, nodes_max: int = 200) -> GpusFor:
        """The cheapest GPUs of unlimited pools. Every class asked for must run somewhere (`runs`)."""
        assert not (demand[~self.runs] > 0).any(), "no GPU holds some of this demand on time"
        if not demand.any():
            return GpusFor(gpus=np.zeros(self.types, np.int64), price=0, bound=0, proof="nested")
        if self._caps is not None:
            need = nested_need(self._caps, demand)
            assert need is not None
            price = need * int(self._prices[0])
            return GpusFor(gpus=np.array([need]), price=price, bound=price, proof="nested")
        return self._packed(demand, nodes_max)

    def _packed(self, demand: IntArray, nodes_max: int) -> GpusFor:
        """Round the configuration LP; where that is not enough, whole numbers of contents by branch and bound."""
        inequality = self._weigher.strongest(demand.astype(np.int32))
        assert inequality is not None
        bound = self._bound_from(inequality, demand)
        gpus = self._greedy(demand, np.array(inequality.weights))
        best = GpusFor(gpus=gpus, price=int(gpus @ self._prices), bound=bound, proof="duals")
        if best.proven:
            return best
        found, lower = self._branch_and_bound(demand, nodes_max)
        bound = max(bound, lower)
        if found is not None and int(found @ self._prices) < best.price:
            gpus = found
        return GpusFor(gpus=gpus, price=int(gpus @ self._prices), bound=bound, proof="branch and bound")

    def _bound_from(self, inequality: Inequality, demand: IntArray) -> int:
        """Least price of whole GPUs under one inequality: its side at the best rate; with one type whole GPUs of it."""
        side = float(np.dot(inequality.weights, demand))
        limit = np.array(inequality.limit)
        if self.types == 1:
            return int(np.ceil(side / limit[0] - EPSILON)) * int(self._prices[0])
        useful = limit > 0
        return int(np.ceil(side * (self._prices[useful] / limit[useful]).min() - EPSILON))

    def _greedy(self, demand: IntArray, weights: FloatArray) -> IntArray:
        """GPU by GPU the content that covers most weight of what is left, per price."""
        patterns = np.concatenate(self._patterns)
        type_of = np.repeat(np.arange(self.types), [len(p) for p in self._patterns])
        cost = self._cost[type_of].astype(np.float64)
        worth = np.maximum(weights, weights.max() * 1e-6)
        left = demand.copy()
        gpus = np.zeros(self.types, dtype=np.int64)
        while left.any():
            covered = np.minimum(patterns, left)
            pick = int(((covered @ worth) / cost).argmax())
            used = patterns[pick] > 0
            times = max(1, int((left[used] // patterns[pick][used]).min()))
            gpus[type_of[pick]] += times
            left = np.maximum(left - times * patterns[pick], 0)
        return gpus

    def _branch_and_bound(self, demand: IntArray, nodes_max: int) -> tuple[IntArray | None, int]:
        """Whole numbers of contents that cover the demand; the counts and a lower bound on their price."""
        patterns = np.concatenate(self._patterns)
        type_of = np.repeat(np.arange(self.types), [len(p) for p in self._patterns])
        sheet = Sheet()
        used = sheet.add_columns(len(patterns), 0, float(demand.sum()), whole=True)
        rows = sheet.add_rows(len(demand), lower=demand.astype(np.float64))
        sheet.put(rows[:, None], used[None, :], patterns.T)
        found = solve_whole(sheet.finish(), self._prices[type_of].astype(np.float64), nodes_max=nodes_max)
        lower = max(0, int(np.ceil(found.bound - 1e-6)))
        if found.values is None:
            return None, lower
        counts = np.rint(found.values).astype(np.int64)
        return np.bincount(type_of, weights=counts, minlength=self.types).astype(np.int64), lower


_UNLIMITED = 1_000_000  # GPUs of a type
_UNIT = 1e-5  # whole prices are milli-cents, the configuration LP counts dollars


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeFound:
    """What branch and bound came back with."""

    values: FloatArray | None  # [columns]; None: no feasible solution found
    bound: float
    end_reason: str


def solve_whole(program: LinearProgram, cost: FloatArray, *, nodes_max: int, gap: float = 0.0) -> WholeFound:
    """The least cost of a mixed-integer program whose best solutions are whole and cost whole numbers, by HiGHS.

    One thread and a limit on nodes instead of time: equal programs end equally.
    """
    import highspy

    highs: Any = highspy.Highs()
    for option, value in (
        ("output_flag", False),
        ("threads", 1),
        ("random_seed", 0),
        ("mip_rel_gap", gap),
        ("mip_abs_gap", 0.5),
        ("mip_heuristic_effort", 0.01),
        ("mip_max_nodes", nodes_max),
    ):
        highs.setOptionValue(option, value)
    status = highs.passModel(
        program.columns,
        program.rows,
        len(program.value),
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        cost,
        program.lower,
        program.upper,
        program.row_lower,
        program.row_upper,
        program.start[:-1].astype(np.int32),
        program.index.astype(np.int32),
        program.value,
        program.whole.astype(np.int32),
    )
    assert status != highspy.HighsStatus.kError, "HiGHS refuses the program"
    highs.run()
    ended, info = highs.getModelStatus(), highs.getInfo()
    bound = float(info.mip_dual_bound)
    feasible = info.primal_solution_status == 2  # a feasible point
    values = np.array(highs.getSolution().col_value, dtype=np.float64) if feasible else None
    return WholeFound(
        values=values,
        bound=bound if np.isfinite(bound) else 0.0,
        end_reason="optimal" if ended == highspy.HighsModelStatus.kOptimal else "node limit",
    )
