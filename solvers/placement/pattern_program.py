"""The linear program over patterns of whole GPUs: who leaves a GPU and who enters it, below a level.

Decides whether fractions of patterns keep everybody below a level, and which whole numbers of them do; must never know
which level is wanted. GPUs that are equal share their patterns, so the program has a row per class, one for each
migration budget, and one per group of equal GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from solvers.placement.columns_kernel import NOTHING, OUT_MAX, Patterns, Prices, best_patterns
from solvers.placement.kernel import Given, given_of
from solvers.placement.meter import Meter
from solvers.placement.order import class_sizes
from solvers.placement.problem import NEVER_US, IntArray, Problem

RealArray = npt.NDArray[np.float64]
Outcome = Literal["impossible", "possible", "undecided"]

ROUNDS_MAX = 60  # of pricing at one level
TOLERANCE = 1e-7
WORK_PER_PATTERN = 2e-4  # units of work (milliseconds) for one pattern of one group, roughly


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One way to change a GPU of a group."""

    group: int
    out: tuple[int, ...]  # [classes]
    entering: tuple[int, ...]  # [classes]


class PatternProgram:
    """One problem at any level; patterns found at one level are kept for the others.

    `entering` [classes] are those who have to be placed. A level is impossible if at some prices those who must be
    placed are worth more than all GPUs together can earn by taking them; that holds whatever patterns are known.
    """

    def __init__(self, problem: Problem, entering: IntArray) -> None:
        self.problem, self.entering = problem, entering
        self.given: Given = given_of(problem)
        self.gpu_of_group, self.group_of, self.size_of = _groups(problem)
        weight = class_sizes(problem)
        self.weight = weight / weight.max()
        self._prices = Prices(entering=self.weight, migrating=np.zeros(problem.classes))
        self._budget_prices = np.zeros(2)
        self._step_us = _least_steps(problem)
        able = np.minimum(problem.in_max, min(problem.moves_max, int(problem.running.sum()))) + int(entering.sum())
        self._enter_max = able[self.gpu_of_group].astype(np.int64)
        self._known: dict[Pattern, int] = {}  # pattern -> its latency

    @property
    def proves(self) -> bool:
        """Whether impossible levels are impossible for every placement: patterns hold all that may leave a GPU."""
        problem = self.problem
        able = np.minimum(problem.out_max, problem.running.sum(axis=1))
        return bool((able <= OUT_MAX).all() and (self.entering == problem.waiting).all())

    def test(self, level_us: int, meter: Meter) -> tuple[Outcome, _Master | None]:
        """Whether fractions of patterns keep everybody below the level; where they do, the program that shows it."""
        found = self._price(level_us, meter)
        if self._deficit() > TOLERANCE or (found.profit <= NOTHING).any():
            return "impossible", None
        master = _Master(self)
        master.add([p for p, latency_us in self._known.items() if latency_us <= level_us])
        master.add(self._patterns(found, found.profit > NOTHING))
        for _ in range(ROUNDS_MAX):
            missing = master.relax(meter)
            if missing is None or meter.over():
                return "undecided", None
            if missing <= TOLERANCE:
                return "possible", master
            self._prices, self._budget_prices, earned = master.prices()
            found = self._price(level_us, meter)
            if self._deficit() > TOLERANCE:
                return "impossible", None
            if not master.add(self._patterns(found, found.profit > earned + TOLERANCE)):
                return "undecided", None
        return "undecided", None

    def _price(self, level_us: int, meter: Meter) -> Patterns:
        groups, classes = len(self.gpu_of_group), self.problem.classes
        self._best = Patterns(
            out=np.zeros((groups, classes), np.int64),
            entering=np.zeros((groups, classes), np.int64),
            profit=np.zeros(groups),
            highest=np.zeros(groups),
        )
        best_patterns(
            self.given, self.gpu_of_group, level_us, self._enter_max, self._prices, self._step_us, self._best
        )
        meter.spend(WORK_PER_PATTERN * groups * (1 + classes) ** 2)
        return self._best

    def _deficit(self) -> float:
        """What those who must be placed are worth beyond all that GPUs can earn; above 0 the level is impossible."""
        budgets = np.array([self.problem.moves_max, self.problem.moved_mib_max], dtype=np.float64)
        earned = float(self._best.highest @ self.size_of)
        return float(self._prices.entering @ self.entering - self._budget_prices @ budgets) - earned

    def _patterns(self, found: Patterns, which: npt.NDArray[np.bool_]) -> list[Pattern]:
        rows = np.flatnonzero(which)
        after = self.problem.running[self.gpu_of_group] - found.out + found.entering
        latency_us = self.problem.tables.latency_us(self.problem.gpu_type[self.gpu_of_group], after)
        out, entering = found.out.tolist(), found.entering.tolist()
        patterns = [Pattern(group=g, out=tuple(out[g]), entering=tuple(entering[g])) for g in rows.tolist()]
        self._known.update(zip(patterns, latency_us[rows].tolist(), strict=True))
        return patterns


class _Master:
    """min weighted sessions without a place and budgets exceeded, s.t. everybody is covered, one pattern per GPU."""

    def __init__(self, program: PatternProgram) -> None:
        import highspy

        problem = program.problem
        classes, sizes = problem.classes, program.size_of.astype(np.float64)
        self._problem, self._classes, self._first = problem, classes, classes + 2
        self.columns: list[Pattern] = []
        self._has: set[Pattern] = set()
        self._state_mib = problem.state_mib.astype(np.float64)
        # A migration is never worth more than the class that migrates, nor a MiB more than that of the smallest state.
        slack = np.concatenate([program.weight, [1.0, 1.0 / float(self._state_mib.min())]])
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = classes + 2, classes + 2 + len(sizes)
        lp.col_cost_ = slack
        lp.col_lower_, lp.col_upper_ = np.zeros(classes + 2), np.full(classes + 2, highspy.kHighsInf)
        budgets = np.array([problem.moves_max, problem.moved_mib_max], dtype=np.float64)
        lp.row_lower_ = np.concatenate([program.entering.astype(np.float64), np.full(2, -highspy.kHighsInf), sizes])
        lp.row_upper_ = np.concatenate([np.full(classes, highspy.kHighsInf), budgets, sizes])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.arange(classes + 3, dtype=np.int32)
        lp.a_matrix_.index_ = np.arange(classes + 2, dtype=np.int32)
        lp.a_matrix_.value_ = np.concatenate([np.ones(classes), [-1.0, -1.0]])
        self._highs: Any = highspy.Highs()
        for option, value in (("output_flag", False), ("threads", 1), ("presolve", "off")):
            self._highs.setOptionValue(option, value)
        self._highs.passModel(lp)
        self._optimal = highspy.HighsModelStatus.kOptimal
        self._infinity = highspy.kHighsInf
        self._integer = int(highspy.HighsVarType.kInteger)
        self._slight = 0.5 * float(slack[:classes].min())  # less than one session without a place

    def add(self, patterns: list[Pattern]) -> bool:
        """Patterns that are not there yet become columns; True if there was one."""
        new = [p for p in dict.fromkeys(patterns) if p not in self._has]
        if not new:
            return False
        self._has.update(new)
        self.columns += new
        out = np.array([p.out for p in new], dtype=np.float64)
        rows = np.zeros((len(new), self._first))
        rows[:, : self._classes] = np.array([p.entering for p in new]) - out
        rows[:, self._classes] = out.sum(axis=1)
        rows[:, self._classes + 1] = out @ self._state_mib
        column, index = np.nonzero(rows)
        group = self._first + np.array([p.group for p in new])
        # Each column is its non-zero rows, then the row of its group.
        column = np.concatenate([column, np.arange(len(new))])
        index = np.concatenate([index, group])
        value = np.concatenate([rows[rows != 0], np.ones(len(new))])
        order = np.argsort(column, kind="stable")
        starts = np.searchsorted(column[order], np.arange(len(new)))
        self._highs.addCols(
            len(new), np.zeros(len(new)), np.zeros(len(new)), np.full(len(new), self._infinity), len(index),
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
        entering = np.maximum(dual[: self._classes], 0.0)
        budgets = np.maximum(-dual[self._classes : self._first], 0.0)
        migrating = budgets[0] + budgets[1] * self._state_mib
        return Prices(entering=entering, migrating=migrating), budgets, -dual[self._first :]

    def whole(self, seconds: float, nodes_max: int | None) -> dict[Pattern, int] | None:
        """Whole numbers of GPUs by pattern with no shortage, from the patterns at hand; None if none was found."""
        highs, count = self._highs, len(self.columns)
        kinds = np.full(count, self._integer, dtype=np.uint8)
        highs.changeColsIntegrality(count, np.arange(self._first, self._first + count, dtype=np.int32), kinds)
        options: list[tuple[str, Any]] = [("presolve", "on"), ("mip_abs_gap", self._slight)]
        options.append(("objective_target", self._slight))
        if nodes_max is None:
            options.append(("time_limit", highs.getRunTime() + seconds))
        else:
            options.append(("mip_max_nodes", nodes_max))
        for option, value in options:
            highs.setOptionValue(option, value)
        highs.run()
        info = highs.getInfo()
        if info.primal_solution_status != 2 or info.objective_function_value > self._slight:
            return None
        values = highs.getSolution().col_value[self._first :]
        return {p: round(value) for p, value in zip(self.columns, values, strict=True) if value > 0.5}


def _groups(problem: Problem) -> tuple[IntArray, IntArray, IntArray]:
    """Equal GPUs: one of each group, the group of each GPU, how many each group has."""
    parts = [problem.gpu_type, problem.running, problem.memory_mib, problem.receives, problem.out_max, problem.in_max]
    keys = np.column_stack(parts).astype(np.int64)
    _, first, inverse, size = np.unique(keys, axis=0, return_index=True, return_inverse=True, return_counts=True)
    return first.astype(np.int64), inverse.ravel().astype(np.int64), size.astype(np.int64)


def _least_steps(problem: Problem) -> IntArray:
    """The least that one session more of a class adds to f on a type [types, classes], at least 1."""
    alone, common = problem.tables.alone_us, problem.tables.common_us
    own = np.where(alone[:, :, 1:] < NEVER_US, np.diff(alone, axis=2), NEVER_US).min(axis=2)
    shared = np.where(common[:, 1:] < NEVER_US, np.diff(common, axis=1), NEVER_US).min(axis=1)
    return np.asarray(np.clip(own + shared[:, None], 1, NEVER_US), dtype=np.int64)
