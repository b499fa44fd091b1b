"""Planning from a notebook or a script, with files or objects.

Decides how paths become values and which clock is read; must never print.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from scheduler.fleet import Fleet
from scheduler.fleet_file import load_fleet, with_overrides
from scheduler.offline import MilpName, OfflineOptions, Progress, SolverName, plan_offline
from scheduler.offline_plan import Minimize, OfflinePlan
from scheduler.state import FleetState, load_state
from traces.store import read_trace
from traces.trace import Trace


def epochal_plan(
    trace: Trace | Path | str,
    fleet: Fleet | Path | str,
    *,
    minimize: Minimize = "cost",
    gpus: Mapping[str, int] | None = None,
    state: FleetState | Path | str | None = None,
    frontier: bool = False,
    deadline_s: float = 60.0,
    gap: float = 1e-4,
    solver: SolverName = "auto",
    milp: MilpName = "HiGHS",
    seed: int = 0,
    epoch_s: float | None = None,
) -> OfflinePlan:
    """Plan a trace on a fleet, each given as an object or as the path of its file.

    `gpus` (type -> count) belongs to `minimize="latency"`; `epoch_s` overrides the fleet's. Raises `BadInputError` for
    input that cannot be used.
    """
    fleet = fleet if isinstance(fleet, Fleet) else load_fleet(Path(fleet))
    overrides: dict[str, str] = {}
    if epoch_s is not None:
        fleet, _ = with_overrides(fleet, {"epoch_s": epoch_s})
        overrides["epoch_s"] = "set by the caller"
    trace = trace if isinstance(trace, Trace) else read_trace(Path(trace))
    if isinstance(state, str | Path):
        state = load_state(Path(state), fleet)
    options = OfflineOptions(
        minimize=minimize,
        gpus=gpus,
        state=state,
        frontier=frontier,
        deadline_s=deadline_s,
        gap=gap,
        solver=solver,
        milp=milp,
        seed=seed,
    )
    return plan_by_the_clock(trace, fleet, options, overrides)


def plan_by_the_clock(
    trace: Trace,
    fleet: Fleet,
    options: OfflineOptions,
    overrides: Mapping[str, str],
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> OfflinePlan:
    """`plan_offline` on this machine's clock; `overrides` (fleet key -> where it was overridden) goes into the plan."""
    plan = plan_offline(trace, fleet, options, clock=time.monotonic, stop=stop, progress=progress)
    return dataclasses.replace(plan, overrides=dict(overrides))
