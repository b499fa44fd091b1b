"""The offline problem to proven optimality, for instances small enough for CP-SAT.

Decides in which order tiers are solved, how effort is shared among them, and what counts as proven; must never know a
clock: limits are in CP-SAT's deterministic units, with its own wall clock as a backstop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from solvers.contents import TooManyContentsError
from solvers.offline_exact_grid import ContentChoices, Grid, elementary_grid
from solvers.offline_exact_model import ExactModel, Strictness
from solvers.offline_problem import OfflineProblem, OfflineSolution
from solvers.offline_spans import spans_for

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

Minimize = Literal["cost", "latency"]

UNITS_PER_SECOND = 0.5  # deterministic units allowed per second of the limit; a unit takes about a second or less
TIER_SHARE = 0.6  # of what is left, for a tier that others follow

ALL_ON_TIME = Strictness(everyone_served=True, on_time=True)
ALL_SERVED = Strictness(everyone_served=True, on_time=False)
ANYTHING = Strictness(everyone_served=False, on_time=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactResult:
    """`optimal` only if every tier is proven; `none` if no schedule was found."""

    solution: OfflineSolution | None
    status: Literal["optimal", "feasible", "none"]
    end_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    solution: OfflineSolution | None = None


def exact_size(problem: OfflineProblem) -> int:
    """GPUs times the active periods of all elementary intervals: the number of choices in the largest model."""
    epoch_us = problem.epoch_us
    if not problem.periods:
        return 0
    grids = {problem.startup_us[t] % epoch_us for t in problem.gpu_type.tolist()} | {0, 1}
    cuts = np.unique(np.concatenate([problem.start_us, problem.end_us]))
    first, last = np.searchsorted(cuts, problem.start_us), np.searchsorted(cuts, problem.end_us)
    crossed = (problem.end_us - 1) // epoch_us - problem.start_us // epoch_us
    return problem.gpus * int((last - first + len(grids) * crossed).sum())


def solve_exact(
    problem: OfflineProblem,
    *,
    minimize: Minimize,
    time_limit_s: float,
    seed: int,
    workers: int = 1,
    hint: OfflineSolution | None = None,
) -> ExactResult:
    """Lexicographic optimum of problem.md's section 5, tier by tier; in latency mode every GPU is on throughout.

    The strictest part of the schedules comes first (everybody served and on time, then everybody served, then all): the
    first that is not empty holds the optimum, and the strict parts have small models. The search begins at `hint`.
    One worker and equal arguments give equal answers unless the backstop of `time_limit_s` of wall time strikes first.
    """
    if minimize == "latency":
        problem = replace(problem, gpu_always_on=np.ones(problem.gpus, dtype=np.bool_))
    if not problem.gpus or not problem.periods:
        return ExactResult(solution=_solution(problem, []), status="optimal", end_reason="nothing to place")
    effort = _Effort(time_limit_s, seed, workers)
    stages = (ALL_ON_TIME, ALL_SERVED, ANYTHING) if minimize == "cost" else (ALL_SERVED, ANYTHING)
    proven = True
    for strictness in stages:
        try:
            outcome = _solve_stage(problem, minimize, strictness, effort, hint)
        except TooManyContentsError as error:
            return ExactResult(solution=None, status="none", end_reason=str(error))
        if outcome.solution is not None:
            optimal = proven and outcome.status == "optimal"
            return ExactResult(
                solution=outcome.solution,
                status="optimal" if optimal else "feasible",
                end_reason="every tier is proven" if optimal else "time limit",
            )
        proven &= outcome.status == "infeasible"
    return ExactResult(solution=None, status="none", end_reason="time limit")


class _Effort:
    """What is left of the limits; one solver call at a time draws on it."""

    def __init__(self, time_limit_s: float, seed: int, workers: int) -> None:
        self._seconds, self._units = time_limit_s, time_limit_s * UNITS_PER_SECOND
        self._seed, self._workers = seed, workers

    def solve(self, model: cp_model.CpModel, share: float) -> tuple[cp_model.CpSolver, str]:
        """Solve with a share of what is left; the status in CP-SAT's words."""
        from ortools.sat.python import cp_model

        solver = cp_model.CpSolver()
        solver.parameters.num_workers = self._workers
        solver.parameters.catch_sigint_signal = False  # it would take the handler away from whoever has one
        solver.parameters.random_seed = self._seed
        solver.parameters.linearization_level = 2  # contents and paid epochs are a good relaxation
        solver.parameters.max_deterministic_time = max(self._units * share, 0.0)
        solver.parameters.max_time_in_seconds = max(self._seconds * share, 0.0)
        status = solver.status_name(solver.solve(model))
        assert status != "MODEL_INVALID", model.validate()
        self._seconds -= solver.wall_time
        self._units -= solver.deterministic_time
        return solver, status


def _solve_stage(
    problem: OfflineProblem,
    minimize: Minimize,
    strictness: Strictness,
    effort: _Effort,
    hint: OfflineSolution | None,
) -> _Outcome:
    """All tiers of one model, each fixed at its value before the next."""
    from ortools.sat.python import cp_model

    grid = elementary_grid(problem, waiting=not strictness.everyone_served)
    contents = ContentChoices(problem, _sessions_max(problem, grid), allow_late=not strictness.on_time)
    model = cp_model.CpModel()
    exact = ExactModel(problem, grid, contents, model, minimize=minimize, strictness=strictness)
    exact.build()
    if hint is not None:
        exact.suggest(hint)
    tiers = exact.tiers()
    if strictness == ALL_ON_TIME:
        tiers = [cp_model.LinearExpr.sum([]), *tiers]  # first whether there is such a schedule at all
    solution: OfflineSolution | None = None
    proven = True
    for position, tier in enumerate(tiers):
        model.minimize(tier)
        solver, status = effort.solve(model, TIER_SHARE if position < len(tiers) - 1 else 1.0)
        if status == "INFEASIBLE":
            assert solution is None, "a tier fixed at a value that was reached cannot be infeasible"
            return _Outcome(status="infeasible")
        if status == "UNKNOWN":
            proven = False
            break
        proven &= status == "OPTIMAL"
        solution = _solution(problem, _pieces(exact, solver))
        model.add(tier <= solver.value(tier))
        _hint(model, solver)
    if solution is None:
        return _Outcome(status="unknown")
    return _Outcome(status="optimal" if proven else "feasible", solution=solution)


def _hint(model: cp_model.CpModel, solver: cp_model.CpSolver) -> None:
    """Begin the next tier where this one ended."""
    model.clear_hints()  # type: ignore[no-untyped-call]
    for index, value in enumerate(solver.response_proto.solution):
        model.add_hint(model.get_int_var_from_proto_index(index), value)


def _sessions_max(problem: OfflineProblem, grid: Grid) -> list[int]:
    """[classes]: most that are active at once."""
    counts = [np.bincount(problem.class_index[list(active)], minlength=problem.classes) for active in grid.active]
    return [int(most) for most in np.max(counts, axis=0)]


def _pieces(exact: ExactModel, solver: cp_model.CpSolver) -> list[tuple[int, int, int, int]]:
    """(period, gpu, start, end), adjacent intervals on one GPU joined."""
    pieces: list[tuple[int, int, int, int]] = []
    cut_us = exact.grid.cut_us
    on = sorted(key for key, variable in exact.served.items() if solver.boolean_value(variable))
    for period, interval, gpu in on:
        if pieces and pieces[-1][:2] == (period, gpu) and pieces[-1][3] == cut_us[interval]:
            pieces[-1] = (*pieces[-1][:3], cut_us[interval + 1])
        else:
            pieces.append((period, gpu, cut_us[interval], cut_us[interval + 1]))
    return pieces


def _solution(problem: OfflineProblem, pieces: list[tuple[int, int, int, int]]) -> OfflineSolution:
    columns = np.array(pieces, dtype=np.int64).reshape(-1, 4).T
    gpu = columns[1].astype(np.int32)
    span_gpu, span_on_us, span_off_us = spans_for(problem, gpu, columns[2], columns[3])
    return OfflineSolution(
        piece_period=columns[0].astype(np.int32),
        piece_gpu=gpu,
        piece_start_us=columns[2],
        piece_end_us=columns[3],
        span_gpu=span_gpu,
        span_on_us=span_on_us,
        span_off_us=span_off_us,
    )
