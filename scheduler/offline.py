"""The offline planner: the cheapest (or fastest) schedule for a whole trace, with a certificate.

Decides how a solved problem becomes an `OfflinePlan`, and which goal asks which solver; must never know a file, a clock
or a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from scheduler.fleet import Fleet
from scheduler.formulate_offline import MICROSECONDS, Formulated, formulate
from scheduler.offline_plan import (
    GPUS_SCHEMA,
    NEEDED_SCHEMA,
    PLACEMENTS_SCHEMA,
    Certificate,
    Minimize,
    Objective,
    OfflinePlan,
    SolverReport,
)
from scheduler.state import FleetState
from solvers.offline_bounds import NeededRows
from solvers.offline_portfolio import CostResult, StageReport, minimize_cost
from solvers.offline_problem import OfflineObjective, OfflineSolution
from traces.trace import Trace

SolverName = Literal["auto", "greedy", "sweep", "exact"]

OPTIMAL_GAP = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where the search stands."""

    stage: str
    elapsed_s: float
    value: float | None = None  # of the incumbent: dollars, or milliseconds in latency mode
    bound: float | None = None
    gap: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineOptions:
    """What to minimise, from where, and when to stop."""

    minimize: Minimize = "cost"
    gpus: Mapping[str, int] | None = None  # GPU type -> count; required (and only allowed) for latency
    state: FleetState | None = None
    frontier: bool = False
    deadline_s: float = 60.0
    gap: float = 1e-4  # stop at this relative gap
    solver: SolverName = "auto"
    seed: int = 0


def plan_offline(
    trace: Trace,
    fleet: Fleet,
    options: OfflineOptions,
    *,
    clock: Callable[[], float],
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> OfflinePlan:
    """Plan a trace.

    `clock` is monotonic seconds; `stop` is polled and ends the search with the best schedule so far. Raises
    `BadInputError` where trace and fleet do not fit (unknown profile, a session that fits on no GPU).
    """
    started_s = clock()
    formulated = formulate(trace, fleet, gpus=options.gpus, state=options.state)

    def report(stage: StageReport) -> None:
        gap = None
        if stage.dollars and stage.bound_dollars is not None:
            gap = (stage.dollars - stage.bound_dollars) / stage.dollars
        progress(
            Progress(
                stage=stage.stage,
                elapsed_s=clock() - started_s,
                value=stage.dollars,
                bound=stage.bound_dollars,
                gap=gap,
            )
        )

    result = minimize_cost(
        formulated.problem,
        stage=options.solver,
        deadline_s=options.deadline_s,
        gap=options.gap,
        seed=options.seed,
        clock=clock,
        stop=stop,
        report=report,
    )
    return OfflinePlan(
        trace_name=trace.name,
        trace_sha256=trace.sha256,
        sessions=trace.session_count,
        periods=trace.period_count,
        horizon_s=trace.horizon_us / MICROSECONDS,
        fleet=fleet,
        overrides={},
        minimize=options.minimize,
        objective=_objective(result.objective),
        certificate=_certificate(result),
        solver=SolverReport(name=result.solver, end_reason=result.end_reason, seed=options.seed, versions=_versions()),
        seconds=clock() - started_s,
        gpus=_gpus(formulated, result.solution),
        placements=_placements(formulated, result.solution),
        needed=_needed(formulated, fleet, result.bound.rows),
    )


def _objective(value: OfflineObjective) -> Objective:
    return Objective(
        total_dollars=value.dollars,
        gpu_dollars=value.gpu_dollars,
        move_dollars=value.move_dollars,
        gpu_hours=value.gpu_hours,
        chunk_latency_ms_max=value.latency_ms_max,
        chunk_latency_ms_mean=value.latency_ms_mean,
        late_session_seconds=value.late_us / MICROSECONDS,
        unserved_session_seconds=sum(value.unserved_us) / MICROSECONDS,
        migrations=value.migrations,
    )


def _certificate(result: CostResult) -> Certificate:
    value = result.objective
    unserved_us = min(result.service.unserved_us, float(sum(value.unserved_us)))
    late_us = max(0.0, min(result.service.unserved_or_late_us - sum(value.unserved_us), float(value.late_us)))
    gaps = (
        result.gap,
        (sum(value.unserved_us) - unserved_us) / max(1.0, sum(value.unserved_us)),
        (value.late_us - late_us) / max(1.0, value.late_us),
    )
    return Certificate(
        status="optimal" if max(gaps) <= OPTIMAL_GAP else "feasible",
        method=result.bound.method,
        gap=result.gap,
        bound_unserved_session_seconds=unserved_us / MICROSECONDS,
        bound_late_session_seconds=late_us / MICROSECONDS,
        bound_dollars=result.bound_dollars,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in ("epochal", "numpy", "numba", "highspy", "ortools", "polars"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a checkout that is not installed
            found[package] = "unknown"
    return found


def _seconds(values_us: npt.NDArray[np.int64]) -> pl.Series:
    return pl.Series(values_us / float(MICROSECONDS))


def _gpus(formulated: Formulated, solution: OfflineSolution) -> pl.DataFrame:
    problem = formulated.problem
    gpu = solution.span_gpu
    types = np.array(formulated.gpu_types)[problem.gpu_type[gpu]]
    return pl.DataFrame(
        {
            "gpu_id": np.array(formulated.gpu_ids)[gpu].tolist(),
            "gpu_type": types.tolist(),
            "node": np.array(formulated.gpu_nodes)[gpu].tolist(),
            "on_s": _seconds(solution.span_on_us),
            "off_s": _seconds(solution.span_off_us),
        },
        schema=GPUS_SCHEMA,
    )


def _placements(formulated: Formulated, solution: OfflineSolution) -> pl.DataFrame:
    ids = pl.Series(list(formulated.gpu_ids), dtype=pl.String)
    return pl.DataFrame(
        {
            "session_id": formulated.session_ids.gather(solution.piece_period),
            "gpu_id": ids.gather(solution.piece_gpu),
            "start_s": _seconds(solution.piece_start_us),
            "end_s": _seconds(solution.piece_end_us),
        },
        schema=PLACEMENTS_SCHEMA,
    )


def _needed(formulated: Formulated, fleet: Fleet, rows: NeededRows) -> pl.DataFrame:
    """Rows in the fleet's order of profiles and GPU types; what is not in use weighs nothing."""
    weights = np.zeros((len(rows.epoch), len(fleet.profiles)))
    names = list(fleet.profiles)
    for k, profile in enumerate(formulated.profiles):
        weights[:, names.index(profile)] = rows.weights[:, k]
    limits = np.zeros((len(rows.epoch), len(fleet.gpu_types)))
    types = list(fleet.gpu_types)
    for t, gpu_type in enumerate(formulated.gpu_types):
        limits[:, types.index(gpu_type)] = rows.limits[:, t]
    return pl.DataFrame(
        {
            "epoch": rows.epoch,
            "at_s": _seconds(rows.at_us),
            "weights": weights.tolist(),
            "type_weights": limits.tolist(),
        },
        schema=NEEDED_SCHEMA,
    )
