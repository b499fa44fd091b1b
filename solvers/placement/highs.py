"""The linear formulation in HiGHS, given to it as arrays.

Decides how HiGHS is called and how far its answers are to be trusted; must never know what rows and columns mean.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from solvers.placement.aggregated import US_PER_MS, AggregatedModel
from solvers.placement.meter import SECONDS_PER_WORK, Meter
from solvers.placement.problem import NEVER_US, Problem
from solvers.placement.reach import Reach
from solvers.placement.registry import Found
from solvers.placement.solution import Bounds, Placement
from solvers.placement.tier_by_tier import Outcome, Step, solve_tier_by_tier

NAME = "highs"
RESERVE_SHARE = 0.3  # of the time left: HiGHS looks at the clock between, not within, its steps
BUILD_S_PER_CELL = 100e-6  # per GPU and class: building, and the first steps of HiGHS, which no clock interrupts
WORK_PER_NODE = 5  # units of work: a node is a few milliseconds


def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
    """Every tier but `smooth`, exactly; where sessions must be late, only that."""
    return solve_tier_by_tier(
        problem,
        meter,
        name=NAME,
        hint=hint,
        bounds=bounds,
        build=lambda reach: HighsModel(problem, reach, meter, seed),
        build_s=BUILD_S_PER_CELL * problem.gpus * problem.classes,
    )


class HighsModel:
    """One HiGHS instance; only costs and sides change between tiers."""

    def __init__(self, problem: Problem, reach: Reach, meter: Meter, seed: int) -> None:
        import highspy

        self._highspy, self._problem, self._meter = highspy, problem, meter
        self._model = AggregatedModel(problem, reach)
        program = self._model.program
        self._highs: Any = highspy.Highs()
        for option, value in (("output_flag", False), ("threads", 1), ("random_seed", seed % (1 << 31))):
            self._highs.setOptionValue(option, value)
        status = self._highs.passModel(
            program.columns,
            program.rows,
            len(program.value),
            int(highspy.MatrixFormat.kRowwise),
            int(highspy.ObjSense.kMinimize),
            0.0,
            np.zeros(program.columns),
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

    def hold(self, step: Step, value: int) -> None:
        if step[0] == "meet":
            self._be_on_time()
            return
        if step[0] == "balance" and value >= NEVER_US:
            return
        limit = value / US_PER_MS if step[0] == "balance" else float(value)
        row = self._model.tier_row[step]
        self._highs.changeRowBounds(row, -self._highspy.kHighsInf, self._model.held(step, limit))

    def least(self, step: Step, share: float, *, lower: int, start: Placement | None) -> Outcome:
        """Minimise one tier; `meet` asks only whether everybody can be on time."""
        highs, model = self._highs, self._model
        if step[0] == "meet":
            self._be_on_time()
        costs, offset = model.objective(step)
        highs.changeColsCost(len(costs), np.arange(len(costs), dtype=np.int32), costs)
        highs.changeObjectiveOffset(offset)
        if step[0] == "balance":
            highs.changeColBounds(model.worst_column, lower / US_PER_MS, self._highspy.kHighsInf)
        tolerance = self._problem.tiers.balance_tolerance if step[0] == "balance" else 0.0
        highs.setOptionValue("mip_rel_gap", tolerance)
        highs.setOptionValue("mip_abs_gap", 1e-6 if step[0] == "balance" else 0.99)
        self._limit(share)
        if start is not None:
            solution = self._highspy.HighsSolution()
            solution.col_value = list(model.write(start))
            solution.value_valid = True
            highs.setSolution(solution)
        highs.run()
        if self._infeasible():  # its presolve says so of programs, too, that have a solution
            highs.setOptionValue("presolve", "off")
            self._limit(share)
            highs.run()
            highs.setOptionValue("presolve", "choose")
        outcome = self._outcome(step)
        if step[0] == "balance":
            highs.changeColBounds(model.worst_column, 0.0, self._highspy.kHighsInf)
        return outcome

    def _outcome(self, step: Step) -> Outcome:
        highs, info = self._highs, self._highs.getInfo()
        if self._meter.repeats:
            self._meter.spend(WORK_PER_NODE * max(1, int(info.mip_node_count)))
        if self._infeasible():
            return Outcome(status="infeasible")
        optimal = highs.getModelStatus() == self._highspy.HighsModelStatus.kOptimal
        has_placement = info.primal_solution_status == self._highspy.SolutionStatus.kSolutionStatusFeasible
        if not has_placement:
            return Outcome(status="limit", bound=self._bound(step, info.mip_dual_bound))
        whole = self._model.program.whole.any()
        dual = info.mip_dual_bound if whole else (info.objective_function_value if optimal else -math.inf)
        return Outcome(
            status="optimal" if optimal else "limit",
            placement=self._model.read(highs.getSolution().col_value),
            bound=self._bound(step, dual),
        )

    def _infeasible(self) -> bool:
        kinds = self._highspy.HighsModelStatus
        return self._highs.getModelStatus() in (kinds.kInfeasible, kinds.kUnboundedOrInfeasible)

    def _bound(self, step: Step, dual: float) -> int | None:
        return true_bound(self._model, step, dual)

    def _be_on_time(self) -> None:
        rows = self._model.on_time_row.astype(np.int32)
        free = np.full(len(rows), -self._highspy.kHighsInf)
        self._highs.changeRowsBounds(len(rows), rows, free, self._model.on_time_upper)

    def _limit(self, share: float) -> None:
        left_s = self._meter.left_s() * share
        if self._meter.repeats:
            nodes = int(left_s / SECONDS_PER_WORK / WORK_PER_NODE)
            self._highs.setOptionValue("mip_max_nodes", nodes)
        else:
            self._highs.setOptionValue("time_limit", left_s * (1 - RESERVE_SHARE))


def true_bound(model: AggregatedModel, step: Step, dual: float) -> int | None:
    """What a dual bound proves in whole units, once the solver's tolerances are taken off."""
    if not math.isfinite(dual):
        return None
    if step[0] == "balance":
        if dual > model.worst_ms * (1 + 1e-6):
            return NEVER_US
        dual *= US_PER_MS
        return max(0, math.ceil(dual - 0.05 - 2e-6 * dual))
    return max(0, math.ceil(dual - 1e-3 - 1e-7 * dual))
