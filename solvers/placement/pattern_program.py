"""The linear program over patterns of whole GPUs: who leaves a GPU and who enters it, below a level.

Decides whether fractions of patterns keep everybody below a level, and which whole numbers of them do; must never know
which level is wanted. GPUs that are equal share their patterns, so the program has a row per class, one for each
migration budget, and one per group of equal GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from solvers.placement.batch_limits import ANY_NUMBER
from solvers.placement.columns_kernel import NOTHING, OUT_MAX, Patterns, Prices, Steps, best_patterns
from solvers.placement.kernel import Given, given_of
from solvers.placement.knapsack_kernel import ARRIVALS_MAX, Fillings, fillings
from solvers.placement.meter import Meter
from solvers.placement.order import class_sizes
from solvers.placement.problem import NEVER_US, IntArray, Problem

RealArray = npt.NDArray[np.float64]
Outcome = Literal["impossible", "possible", "undecided"]

ROUNDS_MAX = 60  # of pricing at one level
ROUNDS_LEAST = 3  # a level is not begun where there is no time for so many
COSTLIER = 2  # than the last pricing is one that looks deeper
GROUPS_AT_ONCE = 32  # that are priced between two looks at the clock
TOLERANCE = 1e-7
NEARLY = 0.001  # of the time of a session: so far may sessions of a class differ that add up
# Of the groups with whole patterns, free to change in turn; and of the time that is left for whole numbers, used on it.
FREE_SHARES, FREE_TIMES = (0.0, 0.15, 0.4, 1.0), (0.1, 0.2, 0.5, 1.0)
NODES = (16, 128, 1024)  # of the search for the best filling of a GPU: more only where less decides nothing
VARIATIONS, VARIATION = 4, 0.15  # times that patterns are priced anew, and how far (of the logarithm of each price)
WHOLE_RESERVE = 0.2  # of the whole budget stays untouched: branch and bound overruns its limits
WHOLE_NODES_MAX = 200  # of branch and bound, where runs must repeat
WORK_PER_WHOLE = 0.2
_FEASIBLE = 2  # a primal solution status of HiGHS
WORK_PER_PATTERN = 2e-4  # units of work (milliseconds) for one pattern of one group, roughly


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One way to change a GPU of a group."""

    group: int
    out: tuple[int, ...]  # [classes]
    arrived: tuple[int, ...]  # [classes]
    placed: tuple[int, ...]  # [classes]


class PatternProgram:
    """One problem at any level; patterns found at one level are kept for the others.

    `placed` [classes] are those who have to be placed. A level is impossible if at some prices those who must be
    placed are worth more than all GPUs together can earn by taking them; that holds whatever patterns are known.
    """

    def __init__(self, problem: Problem, placed: IntArray) -> None:
        self.problem, self.placed = problem, placed
        self.given: Given = given_of(problem)
        self.gpu_of_group, self.group_of, self.size_of = _groups(problem)
        weight = class_sizes(problem)
        self.weight = weight / weight.max()
        self._prices = Prices(arriving=self.weight, placing=self.weight, migrating=np.zeros(problem.classes))
        self._budget_prices = np.zeros(2)
        self._steps = _least_steps(problem)
        nowhere = np.zeros((0, problem.classes), np.int64)
        self._sizes_us = _sizes(problem) or (nowhere, nowhere)
        able = np.minimum(problem.in_max, min(problem.moves_max, int(problem.running.sum()))) + int(placed.sum())
        self._enter_max = able[self.gpu_of_group].astype(np.int64)
        self._master = Master(self)
        self._price_s = 0.0  # what the last pricing took

    @property
    def proves(self) -> bool:
        """Whether impossible levels are impossible for every placement: patterns hold all that may leave a GPU.

        Pricing takes it that whoever enters takes time, so where tables are flat nothing is claimed.
        """
        problem = self.problem
        able = np.minimum(problem.out_max, problem.running.sum(axis=1))
        return bool((able <= OUT_MAX).all() and (self.placed == problem.waiting).all() and _rises(problem))

    def test(self, level_us: int, meter: Meter) -> tuple[Outcome, Master | None]:
        """Whether fractions of patterns keep everybody below the level; where they do, the program that shows it."""
        if self.slow(meter):
            return "undecided", None
        depth = 0
        found = self._price(level_us, meter, NODES[depth], ROUNDS_LEAST)
        if found is None:
            return "undecided", None
        if self._deficit(found) > TOLERANCE or (found.profit <= NOTHING).any():
            return "impossible", None
        master = self._master
        master.limit(level_us)
        master.add(*self._patterns(found, found.profit > NOTHING))
        for _ in range(ROUNDS_MAX):
            missing = master.relax(meter)
            if missing is None or meter.over(self._price_s):
                return "undecided", None
            if missing <= TOLERANCE:
                return "possible", master
            self._prices, self._budget_prices, earned = master.prices()
            while True:
                found = self._price(level_us, meter, NODES[depth])
                if found is None:
                    return "undecided", None
                if self._deficit(found) > TOLERANCE:
                    return "impossible", None
                if master.add(*self._patterns(found, found.profit > earned + TOLERANCE)):
                    break
                depth += 1
                if depth == len(NODES) or meter.over(COSTLIER * self._price_s):
                    return "undecided", None
        return "undecided", None

    def slow(self, meter: Meter) -> bool:
        """Whether there is no time for another level."""
        return meter.over(ROUNDS_LEAST * self._price_s)

    def vary(self, master: Master, level_us: int, meter: Meter, random: np.random.Generator) -> None:
        """More patterns that are good at prices near those that were found: whole numbers need a choice."""
        prices = self._prices
        for _ in range(VARIATIONS):
            if meter.over(WHOLE_RESERVE * meter.total_s + self._price_s):
                break
            near = np.exp(VARIATION * random.standard_normal((2, self.problem.classes)))
            self._prices = prices._replace(arriving=prices.arriving * near[0], placing=prices.placing * near[1])
            found = self._price(level_us, meter, NODES[0])
            if found is None:
                break
            master.add(*self._patterns(found, found.profit > NOTHING))
        self._prices = prices

    def _price(self, level_us: int, meter: Meter, nodes_max: int, rounds: int = 1) -> Patterns | None:
        """The best pattern of each group; None once it shows that there is no time for so many rounds of this."""
        begun_s, left_s = meter.used_s(), meter.left_s()
        groups, classes = len(self.gpu_of_group), self.problem.classes
        best = Patterns(
            out=np.zeros((groups, classes), np.int64),
            arrived=np.zeros((groups, classes), np.int64),
            placed=np.zeros((groups, classes), np.int64),
            profit=np.zeros(groups),
            highest=np.zeros(groups),
        )
        rooms = self._rooms(level_us)
        for first in range(0, groups, GROUPS_AT_ONCE):
            last = min(first + GROUPS_AT_ONCE, groups)
            best_patterns(
                self.given,
                self.gpu_of_group,
                level_us,
                self._enter_max,
                self._prices,
                self._steps,
                nodes_max,
                rooms,
                best,
                first,
                last,
            )
            if (meter.used_s() - begun_s) * rounds * groups > left_s * last:
                return None
        self._price_s = meter.used_s() - begun_s
        meter.spend(WORK_PER_PATTERN * groups * (1 + classes) ** 2)
        return best

    def _rooms(self, level_us: int) -> Fillings:
        """What fills any room best, where sessions add up; no types where they do not."""
        arrivals = int(min(self.problem.in_max.max(initial=0), ARRIVALS_MAX))
        return fillings(*self._sizes_us, level_us, arrivals, self._prices.placing, self._prices.arriving)

    def _deficit(self, found: Patterns) -> float:
        """What those who must be placed are worth beyond all that GPUs can earn; above 0 the level is impossible."""
        budgets = np.array([self.problem.moves_max, self.problem.moved_mib_max], dtype=np.float64)
        earned = float(found.highest @ self.size_of)
        return float(self._prices.placing @ self.placed - self._budget_prices @ budgets) - earned

    def _patterns(self, found: Patterns, which: npt.NDArray[np.bool_]) -> tuple[list[Pattern], IntArray]:
        """The patterns found for some groups, and the f of each."""
        rows = np.flatnonzero(which)
        after = self.problem.running[self.gpu_of_group] - found.out + found.arrived + found.placed
        latency_us = self.problem.tables.latency_us(self.problem.gpu_type[self.gpu_of_group], after)
        parts = (found.out.tolist(), found.arrived.tolist(), found.placed.tolist())
        patterns = [
            Pattern(group=g, out=tuple(parts[0][g]), arrived=tuple(parts[1][g]), placed=tuple(parts[2][g]))
            for g in rows.tolist()
        ]
        return patterns, latency_us[rows]


class Master:
    """min weighted sessions without a place and budgets exceeded, s.t. everybody is covered, one pattern per GPU."""

    def __init__(self, program: PatternProgram) -> None:
        import highspy

        problem = program.problem
        classes, sizes = problem.classes, program.size_of.astype(np.float64)
        self._classes, self._first = classes, 2 * classes + 2
        self.columns: list[Pattern] = []
        self._has: set[Pattern] = set()
        self._latency_us = np.zeros(0, dtype=np.int64)  # [columns]
        self._level_us = 0
        self._state_mib = problem.state_mib.astype(np.float64)
        # A migration is never worth more than the class that migrates, nor a MiB more than that of the smallest state.
        slack = np.concatenate([program.weight, program.weight, [1.0, 1.0 / float(self._state_mib.min())]])
        rows = self._first + len(sizes)
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self._first, rows
        lp.col_cost_ = slack
        lp.col_lower_, lp.col_upper_ = np.zeros(self._first), np.full(self._first, highspy.kHighsInf)
        budgets = np.array([problem.moves_max, problem.moved_mib_max], dtype=np.float64)
        wanted = np.concatenate([np.zeros(classes), program.placed.astype(np.float64)])
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
        self._optimal = highspy.HighsModelStatus.kOptimal
        self._infinity = highspy.kHighsInf
        self._integer = int(highspy.HighsVarType.kInteger)
        self._continuous = int(highspy.HighsVarType.kContinuous)
        self._slight = 0.5 * float(slack[:classes].min())  # less than one session without a place

    def limit(self, level_us: int) -> None:
        """Continuous again, with the patterns that keep to the level."""
        self._level_us = level_us
        count = len(self.columns)
        if count:
            columns = np.arange(self._first, self._first + count, dtype=np.int32)
            self._highs.changeColsIntegrality(count, columns, np.full(count, self._continuous, dtype=np.uint8))
            self._highs.changeColsBounds(count, columns, np.zeros(count), self._most())
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

    def roundings(self, meter: Meter, share: float, random: np.random.Generator) -> Iterator[dict[Pattern, int]]:
        """Whole numbers of GPUs by pattern with ever less shortage; the last one may have none.

        Groups whose patterns are whole in the relaxation keep them at first; then ever more groups are free to change.
        At most `share` of what is left on the meter is used.
        """
        highs, count = self._highs, len(self.columns)
        value = np.zeros(count)
        known = np.array(highs.getSolution().col_value[self._first :])
        value[: len(known)] = known
        group = np.array([p.group for p in self.columns])
        columns = np.arange(self._first, self._first + count, dtype=np.int32)
        loose = np.zeros(int(group.max()) + 1, dtype=np.bool_)
        loose[group[np.abs(value - np.rint(value)) > TOLERANCE]] = True
        highs.changeColsIntegrality(count, columns, np.full(count, self._integer, dtype=np.uint8))
        for option, setting in (("presolve", "on"), ("mip_abs_gap", self._slight), ("objective_target", self._slight)):
            highs.setOptionValue(option, setting)
        end_s = max((1 - share) * meter.left_s(), WHOLE_RESERVE * meter.total_s)
        for free, part in zip(FREE_SHARES, FREE_TIMES, strict=True):
            loose |= random.random(len(loose)) < free
            fixed = ~loose[group]
            lower = np.where(fixed, np.rint(value), 0.0)
            upper = np.where(fixed, np.rint(value), self._most())
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
                found = highs.getSolution().col_value[self._first :]
                yield {p: round(many) for p, many in zip(self.columns, found, strict=True) if many > 0.5}
                if info.objective_function_value <= self._slight:
                    return
            if meter.over(end_s):
                return


def _groups(problem: Problem) -> tuple[IntArray, IntArray, IntArray]:
    """Equal GPUs: one of each group, the group of each GPU, how many each group has."""
    limits = (problem.gpu_type, problem.memory_mib, problem.receives, problem.out_max, problem.in_max)
    keys = np.column_stack([problem.running, *(limit.astype(np.int64) for limit in limits)])
    _, first, inverse, size = np.unique(keys, axis=0, return_index=True, return_inverse=True, return_counts=True)
    return first.astype(np.int64), inverse.ravel().astype(np.int64), size.astype(np.int64)


def _sizes(problem: Problem) -> tuple[IntArray, IntArray] | None:
    """The least and the most that each session adds to f [types, classes] where these are close; None where not.

    They are not quite equal because tables are rounded to microseconds.
    """
    tables = problem.tables
    if tables.batching != "packed" or int(problem.in_max.max(initial=0)) > ARRIVALS_MAX or tables.alone_us.shape[2] < 2:
        return None
    steps_us = np.diff(tables.alone_us, axis=2)
    least_us, most_us = steps_us.min(axis=2), steps_us.max(axis=2)
    runs = tables.alone_us[:, :, 1] < NEVER_US
    near = (least_us > 0) & (most_us - least_us <= NEARLY * least_us)
    common = tables.common_us[:, 1:]
    flat = (common == common[:, :1]) | (common >= NEVER_US)
    if not (near | ~runs).all() or not flat.all():
        return None
    return np.where(runs, least_us, 0).astype(np.int64), np.where(runs, most_us, 0).astype(np.int64)


def _least_steps(problem: Problem) -> Steps:
    """Differences of the tables, each the least from there on; a batch that may not run is never entered."""
    own_us, shared_us = (_least_from(steps_us) for steps_us in problem.tables.steps_us())
    return Steps(own_us=own_us, shared_us=shared_us, least_us=own_us[:, :, 0].min(axis=1)[:, None] + shared_us)


def _rises(problem: Problem) -> bool:
    """Whether every session more that a batch may have makes it slower."""
    own_us, shared_us = problem.tables.steps_us()
    last_us = problem.tables.common_us[:, -1]
    most = np.where(last_us < NEVER_US, ANY_NUMBER, (problem.tables.common_us < NEVER_US).sum(axis=1) - 1)
    return all(
        own_us[t, :, : most[t]].min(initial=NEVER_US) + shared_us[t, : most[t]].min(initial=NEVER_US) > 0
        for t in np.unique(problem.gpu_type)
    )


def _least_from(values: IntArray) -> IntArray:
    """The least of each value and all that follow, along the last axis."""
    return np.ascontiguousarray(np.minimum.accumulate(values[..., ::-1], axis=-1)[..., ::-1]).astype(np.int64)
