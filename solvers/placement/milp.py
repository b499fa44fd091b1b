"""The linear formulation through PuLP, for whichever of its solvers is installed: HiGHS, CBC or a licensed one.

Decides how PuLP is called and which of its answers prove something; must never know what rows and columns mean.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from solvers.placement.aggregated import US_PER_MS, AggregatedModel
from solvers.placement.highs import true_bound
from solvers.placement.meter import SECONDS_PER_WORK, Meter
from solvers.placement.problem import NEVER_US, Problem
from solvers.placement.reach import Reach
from solvers.placement.registry import Found, Solver
from solvers.placement.solution import Bounds, Placement
from solvers.placement.tier_by_tier import Outcome, Step, solve_tier_by_tier

RESERVE_SHARE = 0.4  # of the time left
FILE_RESERVE_SHARE = 0.7  # the same for solvers that PuLP talks to through files
BUILD_S_PER_CELL = 800e-6  # per GPU and class: PuLP builds row by row, and its solvers once more
WORK_PER_NODE = 5  # units of work: a node is a few milliseconds
NODE_LIMITS = {"PULP_CBC_CMD": "maxNodes"}  # the solvers whose search PuLP can limit without a clock


def milp_through(solver_name: str) -> Solver:
    """A solver that calls PuLP's solver of that name, for example HiGHS, PULP_CBC_CMD or GUROBI."""

    def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
        del seed  # PuLP has no common way to say it
        if meter.repeats and solver_name not in NODE_LIMITS:
            reason = f"does not apply: through PuLP, {solver_name} has no limit that repeats"
            return Found(placement=None, bounds=bounds, end_reason=reason)
        return solve_tier_by_tier(
            problem,
            meter,
            name=f"milp({solver_name})",
            hint=hint,
            bounds=bounds,
            build=lambda reach: PulpModel(problem, reach, meter, solver_name),
            build_s=BUILD_S_PER_CELL * problem.gpus * problem.classes,
        )

    return solve


class PulpModel:
    """One PuLP problem; rows that hold a tier are added when they are needed."""

    def __init__(self, problem: Problem, reach: Reach, meter: Meter, solver_name: str) -> None:
        import pulp

        self._pulp, self._problem, self._meter, self._solver_name = pulp, problem, meter, solver_name
        self._model = AggregatedModel(problem, reach)
        program = self._model.program
        self._lp: Any = pulp.LpProblem("placement", pulp.LpMinimize)
        upper = [None if np.isinf(u) else u for u in program.upper.tolist()]
        kinds = (pulp.LpContinuous, pulp.LpInteger)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            self._columns = [
                pulp.LpVariable(f"x{i}", lower, upper[i], kinds[whole])
                for i, (lower, whole) in enumerate(zip(program.lower.tolist(), program.whole.tolist(), strict=True))
            ]
            for row in np.flatnonzero(np.isfinite(program.row_lower) | np.isfinite(program.row_upper)).tolist():
                self._add(row, float(program.row_lower[row]), float(program.row_upper[row]))
        self._on_time = False

    def hold(self, step: Step, value: int) -> None:
        if step[0] == "meet":
            self._be_on_time()
        elif not (step[0] == "balance" and value >= NEVER_US):
            limit = value / US_PER_MS if step[0] == "balance" else float(value)
            self._add(self._model.tier_row[step], -np.inf, self._model.held(step, limit))

    def least(self, step: Step, share: float, *, lower: int, start: Placement) -> Outcome:
        """Minimise one tier; `meet` asks only whether everybody can be on time. Of no use to PuLP: `start`."""
        del start
        pulp, model = self._pulp, self._model
        if step[0] == "meet":
            self._be_on_time()
        costs, offset = model.objective(step)
        priced = np.flatnonzero(costs)
        worst = self._columns[model.worst_column]
        worst.lowBound = lower / US_PER_MS if step[0] == "balance" else 0.0  # this tier is minimised once
        tolerance = self._problem.tiers.balance_tolerance if step[0] == "balance" else 0.0
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            objective = pulp.LpAffineExpression({self._columns[i]: float(costs[i]) for i in priced.tolist()})
            self._lp.setObjective(objective)
            try:
                self._lp.solve(self._solver(share, tolerance))
            except pulp.PulpSolverError:  # also where CBC finds in its preprocessing that nothing is feasible
                return Outcome(status="failed")
        found, status = self._lp.sol_status, pulp.constants
        if found == status.LpSolutionInfeasible:
            return Outcome(status="infeasible")
        if found not in (status.LpSolutionOptimal, status.LpSolutionIntegerFeasible):
            return Outcome(status="limit")
        values = np.array([column.varValue or 0.0 for column in self._columns])
        value = float(costs @ values) + offset
        optimal = found == status.LpSolutionOptimal
        return Outcome(
            status="optimal" if optimal else "limit",
            placement=model.read(values),
            bound=true_bound(model, step, value * (1 - tolerance)) if optimal else None,
        )

    def _solver(self, share: float, tolerance: float) -> Any:
        options: dict[str, Any] = {"msg": False, "gapRel": tolerance, "threads": 1}
        left_s = self._meter.left_s() * share
        if self._meter.repeats:
            nodes = max(1, int(left_s / SECONDS_PER_WORK / WORK_PER_NODE))
            options[NODE_LIMITS[self._solver_name]] = nodes
            self._meter.spend(nodes * WORK_PER_NODE)  # PuLP does not say how many it took
        else:
            reserve = RESERVE_SHARE if self._solver_name == "HiGHS" else FILE_RESERVE_SHARE
            options["timeLimit"] = left_s * (1 - reserve)
        return self._pulp.getSolver(self._solver_name, **options)

    def _be_on_time(self) -> None:
        if not self._on_time:
            for row, upper in zip(self._model.on_time_row.tolist(), self._model.on_time_upper.tolist(), strict=True):
                self._add(row, -np.inf, upper)
        self._on_time = True

    def _add(self, row: int, lower: float, upper: float) -> None:
        pulp, program = self._pulp, self._model.program
        entries = range(int(program.start[row]), int(program.start[row + 1]))
        terms = {self._columns[int(program.index[i])]: float(program.value[i]) for i in entries}
        for sense, side in ((pulp.LpConstraintGE, lower), (pulp.LpConstraintLE, upper)):
            if lower == upper:
                sense = pulp.LpConstraintEQ
            elif np.isinf(side):
                continue
            self._lp.addConstraint(pulp.LpConstraint(pulp.LpAffineExpression(terms), sense, None, side))
            if lower == upper:
                break
