"""The offline planner: the cheapest (or fastest) schedule for a whole trace, with a certificate.

Decides how a solved problem becomes an `OfflinePlan`, and which goal asks which solver; must never know a file, a clock
or a terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from scheduler.fleet import Fleet
from scheduler.formulate_offline import MICROSECONDS, Formulated, formulate
from scheduler.frontier import cost_frontier, refused_if_too_many
from scheduler.offline_certificate import cost_certificate, latency_certificate
from scheduler.offline_options import MilpName, OfflineOptions, Progress, SolverName
from scheduler.offline_plan import Certificate, Objective, OfflinePlan, SolverReport
from scheduler.offline_tables import gpus_table, needed_table, no_rows, placements_table
from solvers.contents import enumerate_contents
from solvers.latency import minimize_latency
from solvers.offline_bounds import NeededRows
from solvers.offline_objective import violations
from solvers.offline_portfolio import minimize_cost
from solvers.offline_problem import OfflineObjective, OfflineSolution
from solvers.type_counts import usable_milp_solvers
from traces.errors import BadInputError
from traces.trace import Trace

__all__ = ["MilpName", "OfflineOptions", "Progress", "SolverName", "plan_offline"]


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
    tell = _Teller(clock, started_s, progress)
    if options.minimize == "latency":
        found = _fastest(formulated, fleet, options, clock=clock, stop=stop, tell=tell)
    else:
        found = _cheapest(formulated, fleet, options, clock=clock, stop=stop, tell=tell)
    faults = violations(formulated.problem, found.solution)
    assert not faults, f"a schedule breaks the rules: {faults[0]}"
    frontier = None
    if options.frontier and options.minimize == "cost":
        frontier = cost_frontier(formulated, fleet, options, clock=clock, stop=stop, tell=tell)
    return OfflinePlan(
        trace_name=trace.name,
        trace_sha256=trace.sha256,
        sessions=trace.session_count,
        periods=trace.period_count,
        horizon_s=trace.horizon_us / MICROSECONDS,
        fleet=fleet,
        overrides={},
        minimize=options.minimize,
        objective=_objective(found.objective),
        certificate=found.certificate,
        solver=SolverReport(name=found.solver, end_reason=found.end_reason, seed=options.seed, versions=_versions()),
        seconds=clock() - started_s,
        gpus=gpus_table(formulated, found.solution),
        placements=placements_table(formulated, found.solution),
        needed=needed_table(formulated, fleet, found.needed),
        frontier=frontier,
        state=options.state,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What either goal ends with."""

    solution: OfflineSolution
    objective: OfflineObjective
    certificate: Certificate
    solver: str
    end_reason: str
    needed: NeededRows


class _Teller:
    """Turns what solvers report into progress on the plan's own clock."""

    def __init__(self, clock: Callable[[], float], started_s: float, progress: Callable[[Progress], None]) -> None:
        self._clock, self._started_s, self._progress = clock, started_s, progress

    def __call__(self, stage: str, value: float | None = None, bound: float | None = None) -> None:
        gap = (value - bound) / value if value and bound is not None else None
        elapsed_s = self._clock() - self._started_s
        self._progress(Progress(stage=stage, elapsed_s=elapsed_s, value=value, bound=bound, gap=gap))


def _cheapest(
    formulated: Formulated,
    fleet: Fleet,
    options: OfflineOptions,
    *,
    clock: Callable[[], float],
    stop: Callable[[], bool],
    tell: _Teller,
) -> _Found:
    if len(formulated.gpu_types) > 1 and options.milp not in (usable := usable_milp_solvers()):
        raise BadInputError.of(
            "--milp", f"{options.milp} must be installed and licensed here; usable: {', '.join(usable)}"
        )
    with refused_if_too_many(fleet):
        result = minimize_cost(
            formulated.problem,
            stage=options.solver,
            milp=options.milp,
            deadline_s=options.deadline_s,
            gap=options.gap,
            seed=options.seed,
            clock=clock,
            stop=stop,
            report=lambda stage: tell(stage.stage, stage.dollars, stage.bound_dollars),
        )
    return _Found(
        solution=result.solution,
        objective=result.objective,
        certificate=cost_certificate(result),
        solver=result.solver,
        end_reason=result.end_reason,
        needed=result.bound.rows,
    )


def _fastest(
    formulated: Formulated,
    fleet: Fleet,
    options: OfflineOptions,
    *,
    clock: Callable[[], float],
    stop: Callable[[], bool],
    tell: _Teller,
) -> _Found:
    problem = formulated.problem
    with refused_if_too_many(fleet):
        tables = [enumerate_contents(limits, problem.target_ms, allow_late=True) for limits in problem.types]
        result = minimize_latency(
            problem,
            tables,
            deadline_s=clock() + options.deadline_s,
            clock=clock,
            stop=stop,
            seed=options.seed,
            progress=lambda stage: tell(stage.stage, stage.worst_ms, stage.bound_worst_ms),
        )
    return _Found(
        solution=result.solution,
        objective=result.objective,
        certificate=latency_certificate(result),
        solver="sweep and exchange",
        end_reason=result.end_reason,
        needed=no_rows(problem),
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


def _versions() -> dict[str, str]:
    found = {}
    for package in ("epochal", "numpy", "numba", "highspy", "ortools", "polars"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a checkout that is not installed
            found[package] = "unknown"
    return found
