"""The linear program over patterns in HiGHS: which fractions of patterns leave least open, and whole numbers near them.

Decides how the program is written, solved and rounded; must never know how patterns are priced, nor which level is
wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from solvers.placement.columns_kernel import Prices
from solvers.placement.exchange import whole_patterns
from solvers.placement.exchange_kernel import Choice
from solvers.placement.meter import Meter
from solvers.placement.problem import IntArray, Problem

RealArray = npt.NDArray[np.float64]

TOLERANCE = 1e-7
# Of the groups with whole patterns, free to change in turn; and of the time that is left for whole numbers, used on it.
FREE_SHARES, FREE_TIMES = (0.0, 0.15, 0.4, 1.0), (0.1, 0.2, 0.5, 1.0)
WHOLE_RESERVE = 0.2  # of the whole budget stays untouched: branch and bound overruns its limits
WHOLE_NODES_MAX = 200  # of branch and bound, where runs must repeat
WORK_PER_WHOLE = 0.2
WORK_PER_EXCHANGE = 0.002  # per pattern
_FEASIBLE = 2  # a primal solution status of HiGHS


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One way to change a GPU of a group."""

    group: int
    out: tuple[int, ...]  # [classes]
    arrived: tuple[int, ...]  # [classes]
    placed: tuple[int, ...]  # [classes]


class Master:
    """min weighted sessions without a place and budgets exceeded, s.t. everybody is covered, one pattern per GPU."""

    def __init__(self, problem: Problem, placed: IntArray, group_sizes: IntArray, class_weight: RealArray) -> None:
        import highspy

        classes, sizes = problem.classes, group_sizes.astype(np.float64)
        self._classes, self._first = classes, 2 * classes + 2
        self.columns: list[Pattern] = []
        self._has: set[Pattern] = set()
        self._latency_us = np.zeros(0, dtype=np.int64)  # [columns]
        self._gain = np.zeros((0, self._first))  # [columns, rows before those of groups]
        self._level_us = 0
        self._state_mib = problem.state_mib.astype(np.float64)
        # A migration is never worth more than the class that migrates, nor a MiB more than that of the smallest state.
        slack = np.concatenate([class_weight, class_weight, [1.0, 1.0 / float(self._state_mib.min())]])
        rows = self._first + len(sizes)
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self._first, rows
        lp.col_cost_ = slack
        lp.col_lower_, lp.col_upper_ = np.zeros(self._first), np.full(self._first, highspy.kHighsInf)
        budgets = np.array([problem.moves_max, problem.moved_mib_max], dtype=np.float64)
        wanted = np.concatenate([np.zeros(classes), placed.astype(np.float64)])
        lp.row_lower_ = np.concatenate([wanted, np.full(2, -highspy.kHighsInf), sizes])
        lp.row_upper_ = np.concatenate([np.full(2 * classes, highspy.kHighsInf), budgets, sizes])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.arange(self._first + 1, dtype=np.int32)
        lp.a_matrix_.index_ = np.arange(self._first, dtype=np.int32)
        lp.a_matrix_.value_ = np.concatenate([np.ones(2 * classes), [-1.0, -1.0]])
        self._highs: Any = highspy.Highs()
        for option, value in (("output_flag", False), ("threads", 1)):
            self._highs.setOptionValue(option, value)
        self._highs.passModel(lp)
        self._basis: Any = None  # of the last relaxation, where whole numbers were asked for since
        self._optimal = highspy.HighsModelStatus.kOptimal
        self._infinity = highspy.kHighsInf
        self._integer = int(highspy.HighsVarType.kInteger)
        self._continuous = int(highspy.HighsVarType.kContinuous)
        self._groups = np.arange(len(sizes) + 1)
        self._least, self._weight = np.concatenate([wanted, -budgets]), slack
        self._slight = 0.5 * float(slack[:classes].min())  # less than one session without a place

    def limit(self, level_us: int) -> None:
        """Continuous again, with the patterns that keep to the level."""
        self._level_us = level_us
        count = len(self.columns)
        if count:
            columns = np.arange(self._first, self._first + count, dtype=np.int32)
            self._highs.changeColsIntegrality(count, columns, np.full(count, self._continuous, dtype=np.uint8))
            self._highs.changeColsBounds(count, columns, np.zeros(count), self._most())
        if self._basis is not None:
            self._highs.setBasis(self._basis)
            self._basis = None
        self._highs.setOptionValue("presolve", "off")

    def _most(self) -> RealArray:
        """How many GPUs each pattern may have: none where it is above the level."""
        return np.where(self._latency_us <= self._level_us, self._infinity, 0.0)

    def add(self, patterns: list[Pattern], latency_us: IntArray) -> bool:
        """Patterns that are not there yet become columns; True if there was one."""
        fresh = [i for i, p in enumerate(patterns) if p not in self._has]
        new = [patterns[i] for i in fresh]
        if not new:
            return False
        self._has.update(new)
        self.columns += new
        self._latency_us = np.concatenate([self._latency_us, latency_us[fresh]])
        out = np.array([p.out for p in new], dtype=np.float64)
        rows = np.zeros((len(new), self._first))
        rows[:, : self._classes] = np.array([p.arrived for p in new]) - out
        rows[:, self._classes : 2 * self._classes] = np.array([p.placed for p in new])
        rows[:, -2] = out.sum(axis=1)
        rows[:, -1] = out @ self._state_mib
        self._gain = np.concatenate([self._gain, rows])
        column, index = np.nonzero(rows)
        group = self._first + np.array([p.group for p in new])
        # Each column is its non-zero rows, then the row of its group.
        column = np.concatenate([column, np.arange(len(new))])
        index = np.concatenate([index, group])
        value = np.concatenate([rows[rows != 0], np.ones(len(new))])
        order = np.argsort(column, kind="stable")
        starts = np.searchsorted(column[order], np.arange(len(new)))
        self._highs.addCols(
            len(new), np.zeros(len(new)), np.zeros(len(new)), self._most()[-len(new) :], len(index),
            starts.astype(np.int32), index[order].astype(np.int32), value[order],
        )  # fmt: skip
        return True

    def relax(self, meter: Meter) -> float | None:
        """The least weighted shortage with fractions of patterns; None without an answer in time."""
        if not meter.repeats:
            self._highs.setOptionValue("time_limit", self._highs.getRunTime() + max(1e-3, meter.left_s()))
        self._highs.run()
        if self._highs.getModelStatus() != self._optimal:
            return None
        meter.spend(1e-3 * self._highs.getInfo().simplex_iteration_count)
        return float(self._highs.getInfo().objective_function_value)

    def prices(self) -> tuple[Prices, RealArray, RealArray]:
        """Prices of classes; those of the two budgets; what each group earns."""
        dual = np.array(self._highs.getSolution().row_dual, dtype=np.float64)
        arriving, placing = np.maximum(dual[: 2 * self._classes], 0.0).reshape(2, self._classes)
        budgets = np.maximum(-dual[2 * self._classes : self._first], 0.0)
        migrating = budgets[0] + budgets[1] * self._state_mib
        prices = Prices(arriving=arriving.copy(), placing=placing.copy(), migrating=migrating)
        return prices, budgets, -dual[self._first :]

    def roundings(
        self, meter: Meter, share: float, random: np.random.Generator, *, branches: bool
    ) -> Iterator[dict[Pattern, int]]:
        """Whole numbers of GPUs by pattern with ever less shortage; the last one may have none.

        First by exchanges of single patterns, then, if wanted, by branch and bound. At most `share` of what is left on
        the meter is used.
        """
        fractions = np.zeros(len(self.columns))
        known = np.array(self._highs.getSolution().col_value[self._first :])
        fractions[: len(known)] = known
        end_s = max((1 - share) * meter.left_s(), WHOLE_RESERVE * meter.total_s)
        counts, missing = self._exchanged(fractions, random, lambda: meter.over(end_s))
        meter.spend(WORK_PER_EXCHANGE * len(fractions))
        yield self._by_pattern(counts)
        if branches and missing > self._slight and not meter.over(end_s):
            yield from self._branched(fractions, meter, end_s, random)

    def _exchanged(
        self, fractions: RealArray, random: np.random.Generator, ends: Callable[[], bool]
    ) -> tuple[RealArray, float]:
        group = np.array([p.group for p in self.columns])
        usable = np.flatnonzero(self._latency_us <= self._level_us)
        usable = usable[np.argsort(group[usable], kind="stable")]
        sign = np.concatenate([np.ones(self._first - 2), [-1.0, -1.0]])  # of budgets, less is more
        choice = Choice(
            gain=np.ascontiguousarray(self._gain[usable] * sign),
            first=np.searchsorted(group[usable], self._groups).astype(np.int64),
            least=self._least,
            weight=self._weight,
        )
        found, missing = whole_patterns(choice, fractions[usable], random, ends)
        counts = np.zeros(len(self.columns))
        counts[usable] = found
        return counts, missing

    def _branched(
        self, fractions: RealArray, meter: Meter, end_s: float, random: np.random.Generator
    ) -> Iterator[dict[Pattern, int]]:
        """Groups whose patterns are whole in the relaxation keep them at first; then ever more are free to change."""
        highs, count = self._highs, len(self.columns)
        group = np.array([p.group for p in self.columns])
        columns = np.arange(self._first, self._first + count, dtype=np.int32)
        loose = np.zeros(int(group.max()) + 1, dtype=np.bool_)
        loose[group[np.abs(fractions - np.rint(fractions)) > TOLERANCE]] = True
        self._basis = highs.getBasis()
        highs.changeColsIntegrality(count, columns, np.full(count, self._integer, dtype=np.uint8))
        for option, setting in (("presolve", "on"), ("mip_abs_gap", self._slight), ("objective_target", self._slight)):
            highs.setOptionValue(option, setting)
        for free, part in zip(FREE_SHARES, FREE_TIMES, strict=True):
            loose |= random.random(len(loose)) < free
            fixed = ~loose[group]
            lower = np.where(fixed, np.rint(fractions), 0.0)
            upper = np.where(fixed, np.rint(fractions), self._most())
            highs.changeColsBounds(count, columns, lower, upper)
            if meter.repeats:
                highs.setOptionValue("mip_max_nodes", WHOLE_NODES_MAX)
            else:
                most_s = max(1e-3, part * (meter.left_s() - end_s))
                highs.setOptionValue("time_limit", most_s)  # counted anew for each run with whole numbers
            highs.run()
            meter.spend(WORK_PER_WHOLE * (1 + int(loose.sum())))
            info = highs.getInfo()
            if info.primal_solution_status == _FEASIBLE:
                yield self._by_pattern(np.array(highs.getSolution().col_value[self._first :]))
                if info.objective_function_value <= self._slight:
                    return
            if meter.over(end_s):
                return

    def _by_pattern(self, counts: RealArray) -> dict[Pattern, int]:
        return {self.columns[i]: round(counts[i]) for i in np.flatnonzero(counts > 0.5)}
