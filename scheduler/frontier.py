"""The frontier between cost and latency: the least cost of each target, with certificates.

Decides which targets are tried; must never know how one of them is solved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import polars as pl

from scheduler.fleet import Fleet
from scheduler.formulate_offline import Formulated
from scheduler.offline_certificate import OPTIMAL_GAP
from scheduler.offline_options import OfflineOptions
from scheduler.offline_plan import FRONTIER_SCHEMA
from solvers.contents import CONTENTS_MAX, TooManyContentsError, enumerate_contents
from solvers.offline_portfolio import minimize_cost
from traces.errors import BadInputError

POINTS_MAX = 12
GAP = 1e-3  # a point is good enough


def cost_frontier(
    formulated: Formulated,
    fleet: Fleet,
    options: OfflineOptions,
    *,
    clock: Callable[[], float],
    stop: Callable[[], bool],
    tell: Callable[[str], None],
) -> pl.DataFrame:
    """One row per target: the least cost found, its bound and its gap.

    The fleet's target is set to latencies that change what a GPU can hold, evenly chosen, at most `POINTS_MAX`; targets
    of profiles' own keep their ratio to it. Targets at which somebody would be late or unserved are left out. The
    points share the deadline evenly.
    """
    problem = formulated.problem
    base_ms = fleet.target.chunk_latency_ms
    rows: list[dict[str, object]] = []
    targets = _targets(formulated, base_ms)
    for number, target_ms in enumerate(targets, start=1):
        if stop():
            break
        tell(f"frontier {number}/{len(targets)}")
        ratio = target_ms / base_ms
        result = minimize_cost(
            replace(problem, target_ms=tuple(own * ratio for own in problem.target_ms)),
            stage=options.solver,
            milp=options.milp,
            deadline_s=options.deadline_s / len(targets),
            gap=GAP,
            seed=options.seed,
            clock=clock,
            stop=stop,
            report=lambda _: None,
        )
        if sum(result.objective.unserved_us) + result.objective.late_us > 0:
            continue
        rows.append(
            {
                "target_ms": target_ms,
                "total_dollars": result.objective.dollars,
                "bound_dollars": result.bound_dollars,
                "gap": result.gap,
                "status": "optimal" if result.gap <= OPTIMAL_GAP else "feasible",
            }
        )
    return pl.DataFrame(rows, schema=FRONTIER_SCHEMA)


def _targets(formulated: Formulated, base_ms: float) -> list[float]:
    """Targets at which some content becomes possible, from the least at which every class can run alone."""
    problem = formulated.problem
    own = np.array(problem.target_ms) / base_ms
    needed: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    alone = np.full(problem.classes, np.inf)
    for limits in problem.types:
        table = enumerate_contents(limits, problem.target_ms, allow_late=True)
        strictest = np.where(table.counts > 0, own, np.inf).min(axis=1)
        needed.append(np.where(np.isfinite(strictest), table.latency_ms / strictest, 0.0))
        single = table.counts.sum(axis=1) == 1
        for k in range(problem.classes):
            mine = single & (table.counts[:, k] == 1)
            alone[k] = min(alone[k], float(needed[-1][mine].min(initial=np.inf)))
    values = np.unique(np.round(np.concatenate(needed), 6))
    values = values[(values >= alone.max()) & (values <= 3 * max(base_ms, float(alone.max())))]
    chosen = np.unique(np.linspace(0, max(len(values) - 1, 0), POINTS_MAX - 1).round().astype(int))
    return sorted({*values[chosen[chosen < len(values)]].tolist(), base_ms})


@contextmanager
def refused_if_too_many(fleet: Fleet) -> Iterator[None]:
    """Tell a fleet whose GPUs could hold more different contents than can be listed."""
    try:
        yield
    except TooManyContentsError as error:
        raise BadInputError.of(
            "fleet",
            f"profiles ({len(fleet.profiles)}) and batch sizes admit more than {CONTENTS_MAX} different contents of "
            "one GPU; plan with fewer profiles, merge similar ones, or cut the latency tables",
        ) from error
