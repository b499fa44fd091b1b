"""The placement problem in CP-SAT, with every tier but `smooth`; the only exact formulation that counts lateness.

Decides the integer formulation and how CP-SAT is called; must never know the order of tiers, nor a clock.
Every rule is one method, in the order and with the names that aggregated.py uses. Latencies are in microseconds here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from solvers.placement.batch_limits import able, finite, finite_base, worst_us
from solvers.placement.meter import SECONDS_PER_WORK, Meter
from solvers.placement.problem import NEVER_US, NO_TARGET_US, IntArray, Problem
from solvers.placement.reach import Reach
from solvers.placement.registry import Found
from solvers.placement.solution import Bounds, Placement
from solvers.placement.tier_by_tier import Outcome, Step, solve_tier_by_tier

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

NAME = "cpsat"
RESERVE_SHARE = 0.1
BUILD_S_PER_CELL = 200e-6  # per GPU and class, with all that follows from it
LOAD_S = 0.6  # that loading the library takes
# Catching SIGINT would take the handler away from whoever has one.
PARAMETERS: dict[str, Any] = {"num_workers": 1, "linearization_level": 2, "catch_sigint_signal": False}


def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
    """Every tier but `smooth`, exactly, for any tables."""
    return solve_tier_by_tier(
        problem,
        meter,
        name=NAME,
        hint=hint,
        bounds=bounds,
        build=lambda reach: CpSatModel(problem, reach, meter, seed),
        build_s=BUILD_S_PER_CELL * problem.gpus * problem.classes,
    )


def load() -> None:
    """Load the library now, so that no deadline has to wait for it."""
    from ortools.sat.python import cp_model

    assert is_loaded(), cp_model.__name__


def is_loaded() -> bool:
    return "ortools.sat.python.cp_model" in sys.modules


class CpSatModel:
    """One CP-SAT model; `out`, `arrived` and `placed` hold a variable, or 0 where nobody can move."""

    def __init__(self, problem: Problem, reach: Reach, meter: Meter, seed: int) -> None:
        from ortools.sat.python import cp_model

        self._cp, self._problem, self._reach, self._meter, self._seed = cp_model, problem, reach, meter, seed
        self._model = cp_model.CpModel()
        self._gpus, self._classes = range(problem.gpus), range(problem.classes)
        self._tier: dict[Step, cp_model.LinearExprT] = {}
        self.build()
        if meter.repeats:
            meter.spend(BUILD_S_PER_CELL * problem.gpus * problem.classes / SECONDS_PER_WORK)

    def build(self) -> None:
        """The table of contents of the formulation."""
        self._choose_who_moves()
        self._keep_sessions()
        self._respect_budgets()
        self._respect_memory_during_moves()
        self._mend_what_may_not_run()
        self._measure_rounds()
        self._meet_targets()
        self._count_each_tier()

    def hold(self, step: Step, value: int) -> None:
        self._model.add(self._tier[step] <= value)

    def least(self, step: Step, share: float, *, lower: int, start: Placement) -> Outcome:
        cp, model, meter = self._cp, self._model, self._meter
        if step[0] == "balance" and lower:
            model.add(self._worst >= min(lower, NEVER_US))
        self._hint(start)
        model.minimize(self._tier[step])
        solver = cp.CpSolver()
        for name, value in PARAMETERS.items():
            setattr(solver.parameters, name, value)
        solver.parameters.random_seed = self._seed % (1 << 31)
        if step[0] == "balance":
            solver.parameters.relative_gap_limit = self._problem.tiers.balance_tolerance
        if meter.repeats:
            solver.parameters.max_deterministic_time = meter.left_s() * share
        else:
            solver.parameters.max_time_in_seconds = meter.left_s() * share * (1 - RESERVE_SHARE)
        status = solver.solve(model)
        assert status != cp.MODEL_INVALID, model.validate()
        if meter.repeats:
            meter.spend(solver.deterministic_time / SECONDS_PER_WORK)
        if status == cp.INFEASIBLE:
            return Outcome(status="infeasible")
        placement = self._read(solver) if status in (cp.OPTIMAL, cp.FEASIBLE) else None
        return Outcome(
            status="optimal" if status == cp.OPTIMAL else "limit",
            placement=placement,
            bound=_whole(solver.best_objective_bound),
        )

    # The rules ---------------------------------------------------------------------------------------------------

    def _choose_who_moves(self) -> None:
        """Whole numbers per GPU and class: out, arrived, placed."""
        reach = self._reach
        self._out = self._variables(reach.leave_max)
        self._arrived = self._variables(reach.arrive_max)
        self._placed = self._variables(reach.place_max)
        running = self._problem.running.tolist()
        self._count = [
            [running[g][k] - self._out[g][k] + self._arrived[g][k] + self._placed[g][k] for k in self._classes]
            for g in self._gpus
        ]

    def _keep_sessions(self) -> None:
        """Whoever leaves arrives, and nobody is placed who does not wait."""
        for k in self._classes:
            column = [(self._out[g][k], self._arrived[g][k], self._placed[g][k]) for g in self._gpus]
            self._model.add(self._sum(out for out, _, _ in column) == self._sum(came for _, came, _ in column))
            if self._problem.waiting[k]:
                self._model.add(self._sum(placed for _, _, placed in column) <= int(self._problem.waiting[k]))

    def _respect_budgets(self) -> None:
        """Migrations in number and size, and per GPU in and out; placing from waiting is free."""
        problem, reach = self._problem, self._reach
        leave, size = reach.leave_max, problem.state_mib.tolist()
        leaving = [out for row in self._out for out in row]
        self._moved_mib = self._sum(out * size[k] for row in self._out for k, out in enumerate(row))
        if problem.moves_max < leave.sum():
            self._model.add(self._sum(leaving) <= problem.moves_max)
        if problem.moved_mib_max < int(leave.sum(axis=0) @ problem.state_mib):
            self._model.add(self._moved_mib <= problem.moved_mib_max)
        for variables, most, limit in (
            (self._out, leave, problem.out_max),
            (self._arrived, reach.arrive_max, problem.in_max),
        ):
            for g in np.flatnonzero(most.sum(axis=1) > limit).tolist():
                self._model.add(self._sum(variables[g]) <= int(limit[g]))

    def _respect_memory_during_moves(self) -> None:
        """A migrating session occupies memory on source and target; MiB beyond memory are counted where they stay."""
        problem, reach = self._problem, self._reach
        size, self._excess = problem.state_mib.tolist(), []
        free = (problem.memory_mib - problem.running @ problem.state_mib).tolist()
        for g in self._gpus:
            if reach.too_full[g]:
                excess = self._model.new_int_var(0, -free[g], "")
                self._model.add(excess >= -free[g] - self._sum(size[k] * self._out[g][k] for k in self._classes))
                self._excess.append(excess)
                continue
            enters = [size[k] * (self._arrived[g][k] + self._placed[g][k]) for k in self._classes]
            self._model.add(self._sum(enters) <= free[g])

    def _mend_what_may_not_run(self) -> None:
        """Nobody enters a batch that may not run; the sessions of those that are there already are counted."""
        problem, reach, model = self._problem, self._reach, self._model
        self._broken: dict[int, cp_model.IntVar] = {}
        self._stuck = []
        most, most_total = able(problem)
        for g in np.flatnonzero(reach.may_not_run).tolist():
            broken = self._broken[g] = model.new_bool_var("")
            there = int(problem.running[g].sum())
            stuck = model.new_int_var(0, there, "")
            model.add(stuck >= there * broken - self._sum(self._out[g]))
            self._stuck.append(stuck)
            for k in self._classes:
                model.add(self._arrived[g][k] + self._placed[g][k] == 0).only_enforce_if(broken)
                model.add(self._count[g][k] <= int(most[g, k])).only_enforce_if(~broken)
            model.add(self._sum(self._count[g]) <= int(most_total[g])).only_enforce_if(~broken)

    def _measure_rounds(self) -> None:
        """f of every GPU: what its classes take alone, the largest base present, and what the total adds."""
        tables, kinds = self._problem.tables, self._problem.gpu_type.tolist()
        alone, common, base = finite(tables.alone_us), finite(tables.common_us), finite_base(tables)
        able_total = able(self._problem)[1]
        self._keep_to_reach()
        self._round: list[cp_model.LinearExprT] = []
        for g in self._gpus:
            t = kinds[g]
            low, high = self._reach.fewest[g].tolist(), self._reach.most[g].tolist()
            parts = [
                self._cost(alone[t, k], low[k], high[k], self._count[g][k], None) for k in self._classes if high[k]
            ]
            total, most = self._sum(self._count[g]), sum(high)
            if g not in self._broken and most > able_total[g]:
                most = max(int(able_total[g]), sum(low))
                self._model.add(total <= most)
            if base[t].any() or common[t].any():
                anybody = self._mark_bases(g, base[t], parts)
                if common[t].any():
                    parts.append(self._cost(common[t], sum(low), most, total, anybody))
            latency = self._sum(parts)
            if g in self._broken:
                shown = self._model.new_int_var(0, NEVER_US, "")
                self._model.add(shown >= latency)
                self._model.add(shown >= NEVER_US * self._broken[g])
                latency = shown
            self._round.append(latency)

    def _keep_to_reach(self) -> None:
        """Arrivals and placements together are no more than a GPU could run; each alone is no more by its range."""
        reach = self._reach
        enter_max = reach.most - self._problem.running
        for g, k in np.argwhere(reach.arrive_max + reach.place_max > enter_max).tolist():
            self._model.add(self._arrived[g][k] + self._placed[g][k] <= int(enter_max[g, k]))

    def _meet_targets(self) -> None:
        """Weighted microseconds beyond targets, session by session; whoever arrived also waits for its state."""
        problem, reach = self._problem, self._reach
        least_us = min(worst_us(problem, reach.most), reach.cap_us)
        late: list[cp_model.LinearExprT] = []
        weight, transfer = problem.lateness_weight.tolist(), problem.transfer_us.tolist()
        targets = problem.target_us.tolist()
        for g in self._gpus if problem.tiers.meet else ():
            most_us = NEVER_US if g in self._broken else least_us
            for k in self._classes:
                if targets[k] >= NO_TARGET_US or not reach.most[g, k]:
                    continue
                stayed = self._count[g][k] - self._arrived[g][k]
                for count, most, extra in (
                    (stayed, int(reach.most[g, k]), 0),
                    (self._arrived[g][k], int(reach.arrive_max[g, k]), transfer[k]),
                ):
                    if most and most_us + extra > targets[k]:
                        beyond = self._model.new_int_var(0, most_us + extra - targets[k], "")
                        self._model.add(beyond >= self._round[g] + extra - targets[k])
                        late.append(weight[k] * self._product(beyond, most_us + extra - targets[k], count, most))
        self._lateness = self._sum(late)

    def _count_each_tier(self) -> None:
        """One objective for each tier."""
        problem = self._problem
        self._worst = self._model.new_int_var(0, NEVER_US, "")
        capped = self._reach.cap_us < NEVER_US - 1 and not self._broken
        if capped:
            self._model.add(self._worst <= self._reach.cap_us)
        for latency in self._round:
            self._model.add(self._worst >= latency)
        self._tier["repair", 0] = self._sum([*self._excess, *self._stuck])
        for rank in range(problem.ranks):
            of_rank = np.flatnonzero(problem.priority_rank == rank).tolist()
            placed = self._sum(self._placed[g][k] for g in self._gpus for k in of_rank)
            self._tier["serve", rank] = int(problem.waiting[of_rank].sum()) - placed
        self._tier["meet", 0] = self._lateness
        emptied = np.flatnonzero(problem.leaving).tolist()
        self._tier["leave", 0] = self._sum(count for g in emptied for count in self._count[g])
        self._tier["balance", 0] = self._worst
        self._tier["move", 0] = self._moved_mib

    # Parts of rules ----------------------------------------------------------------------------------------------

    def _variables(self, most: IntArray) -> list[list[Any]]:
        return [[self._model.new_int_var(0, n, "") if n else 0 for n in row] for row in most.tolist()]

    def _sum(self, terms: Any) -> Any:
        return self._cp.LinearExpr.sum([term for term in terms if not (isinstance(term, int) and term == 0)])

    def _mark_bases(self, g: int, base: IntArray, parts: list[Any]) -> cp_model.IntVar:
        """Booleans for: a class of at least this base is present. The one for the least base is returned."""
        levels = np.unique(base).tolist()
        marks = [self._model.new_bool_var("") for _ in levels]
        for lower, higher in pairwise(marks):
            self._model.add_implication(higher, lower)
        for k in self._classes:
            most = int(self._reach.most[g, k])
            if most:
                self._model.add(self._count[g][k] <= most * marks[levels.index(int(base[k]))])
        steps = [levels[0], *np.diff(levels).tolist()]
        parts += [int(step) * mark for step, mark in zip(steps, marks, strict=True) if step]
        return marks[0]

    def _cost(self, table: IntArray, low: int, high: int, count: Any, present: cp_model.IntVar | None) -> Any:
        """table[count] from below, for counts from low to high; exact, for latencies are only ever pressed down."""
        costs = table[np.minimum(np.arange(low, high + 1), len(table) - 1)].tolist()
        slopes = [after - before for before, after in pairwise(costs)]
        if len(set(slopes)) <= 1:
            if isinstance(count, int) or not slopes:
                return costs[0]
            if slopes[0] or costs[0]:
                return slopes[0] * count + (costs[0] - slopes[0] * low)
            return 0
        cost = self._model.new_int_var(0, max(costs), "")
        if slopes == sorted(slopes):
            for i, slope in _first_of_each(slopes):
                self._model.add(cost >= slope * count + (costs[i] - slope * (low + i)))
        elif low == 0 and slopes[1:] == sorted(slopes[1:]):
            if present is None:
                present = self._model.new_bool_var("")
                self._model.add(count <= high * present)
            for i, slope in _first_of_each(slopes[1:]):
                self._model.add(cost >= slope * count + (costs[i + 1] - slope * (i + 1)) * present)
        else:
            at = self._model.new_int_var(0, high - low, "")
            self._model.add(at == count - low)
            self._model.add_element(at, costs, cost)
        return cost

    def _product(self, factor: Any, factor_max: int, count: Any, count_max: int) -> Any:
        product = self._model.new_int_var(0, factor_max * count_max, "")
        self._model.add_multiplication_equality(product, [factor, count])
        return product

    def _hint(self, placement: Placement) -> None:
        self._model.clear_hints()  # type: ignore[no-untyped-call]
        for variables, values in (
            (self._out, placement.out),
            (self._arrived, placement.arrived),
            (self._placed, placement.placed),
        ):
            for row, of_row in zip(variables, values.tolist(), strict=True):
                for variable, value in zip(row, of_row, strict=True):
                    if not isinstance(variable, int):
                        self._model.add_hint(variable, value)

    def _read(self, solver: cp_model.CpSolver) -> Placement:
        def values(variables: Sequence[Sequence[Any]]) -> IntArray:
            shape = self._problem.running.shape
            flat = [v if isinstance(v, int) else solver.value(v) for row in variables for v in row]
            return np.array(flat, dtype=np.int64).reshape(shape)

        return Placement(out=values(self._out), arrived=values(self._arrived), placed=values(self._placed))


def _first_of_each(slopes: Sequence[int]) -> list[tuple[int, int]]:
    """Where each slope begins."""
    return [(i, slope) for i, slope in enumerate(slopes) if i == 0 or slope != slopes[i - 1]]


def _whole(bound: float) -> int | None:
    """What a bound of CP-SAT, a float, proves in whole units."""
    if not math.isfinite(bound):
        return None
    return max(0, math.ceil(bound - 1e-6 - 1e-12 * abs(bound)))
