"""Patterns of whole GPUs below a level: who leaves a GPU and who enters it.

Decides whether fractions of patterns keep everybody below a level, or prices prove that none do; must never know
which level is wanted. GPUs that are equal share their patterns, so the program has a row per class, one for each
migration budget, and one per group of equal GPUs.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from solvers.placement.batch_limits import ANY_NUMBER
from solvers.placement.columns_kernel import NOTHING, OUT_MAX, Patterns, Prices, Steps, best_patterns
from solvers.placement.kernel import Given, given_of
from solvers.placement.knapsack_kernel import ARRIVALS_MAX, Fillings, fillings
from solvers.placement.meter import Meter
from solvers.placement.order import class_sizes
from solvers.placement.pattern_master import TOLERANCE, WHOLE_RESERVE, Master, Pattern
from solvers.placement.problem import NEVER_US, IntArray, Problem

RealArray = npt.NDArray[np.float64]
Outcome = Literal["impossible", "possible", "undecided"]

ROUNDS_MAX = 60  # of pricing at one level
ROUNDS_LEAST = 3  # a level is not begun where there is no time for so many
COSTLIER = 2  # than the last pricing is one that looks deeper
GROUPS_AT_ONCE = 32  # that are priced between two looks at the clock
NEARLY = 0.001  # of the time of a session: so far may sessions of a class differ that add up
NODES = (16, 128, 1024)  # of the search for the best filling of a GPU: more only where less decides nothing
VARIATIONS, VARIATION = 4, 0.15  # times that patterns are priced anew, and how far (of the logarithm of each price)
WORK_PER_PATTERN = 2e-4  # units of work (milliseconds) for one pattern of one group, roughly


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
        self._master = Master(problem, placed, self.size_of, self.weight)
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
                nodes_max > NODES[0],
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
