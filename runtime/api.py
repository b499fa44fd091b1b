"""Planning, simulating and comparing from a notebook or a script, with files or objects.

Decides how paths become values and which clock is read; must never print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.planning import optimum_by_the_clock, plan_by_the_clock
from runtime.simulating import Choice, RunOptions, Work, run_all, simulate_by_the_clock
from scheduler.compare import Comparison, cells, compare
from scheduler.fleet import Fleet
from scheduler.fleet_file import load_fleet, with_overrides
from scheduler.offline import MilpName, OfflineOptions, SolverName
from scheduler.offline_plan import Minimize, OfflinePlan
from scheduler.simulation.fault_law import FaultLaw
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.settings import PlanTime
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
    fleet = _fleet(fleet)
    overrides: dict[str, str] = {}
    if epoch_s is not None:
        fleet, _ = with_overrides(fleet, {"epoch_s": epoch_s})
        overrides["epoch_s"] = "set by the caller"
    trace = _trace(trace)
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


def epochal_simulate(
    trace: Trace | Path | str,
    fleet: Fleet | Path | str,
    policy: str = "epochal",
    *,
    parameters: Mapping[str, object] | None = None,
    seed: int = 0,
    faults: FaultLaw | None = None,
    plan_time: PlanTime = "stated",
    rounds: bool = False,
) -> Outcome:
    """Run a policy on a trace in virtual time; `parameters` are the policy's, by name.

    Raises `BadInputError` for input that cannot be used, unknown policies and parameters among it.
    """
    name = "" if isinstance(fleet, Fleet) else Path(fleet).name
    options = RunOptions(faults=faults or FaultLaw(), plan_time=plan_time, rounds=rounds, fleet_name=name)
    return simulate_by_the_clock(_trace(trace), _fleet(fleet), _choice(policy, parameters), seed, options)


def epochal_compare(
    traces: Sequence[Trace | Path | str],
    fleet: Fleet | Path | str,
    policies: Sequence[str],
    *,
    parameters: Mapping[str, Mapping[str, object]] | None = None,
    seeds: int = 1,
    faults: FaultLaw | None = None,
    optimum_s: float = 10.0,
    frontier: bool = False,
    jobs: int = 1,
) -> Comparison:
    """Run policies on traces with seeds 0, 1, ... beside the offline optimum; `parameters` by policy, then by name.

    With several `jobs` a script must guard its own start (`if __name__ == "__main__":`). Raises `BadInputError` for
    input that cannot be used.
    """
    name = "" if isinstance(fleet, Fleet) else Path(fleet).name
    given = parameters or {}
    work = Work(
        traces=[_trace(trace) for trace in traces],
        fleet=_fleet(fleet),
        choices={policy: _choice(policy, given.get(policy)) for policy in policies},
        options=RunOptions(faults=faults or FaultLaw(), fleet_name=name),
        keep_all=False,
    )
    plans = [
        optimum_by_the_clock(trace, work.fleet, optimum_s, frontier=frontier) if optimum_s > 0 else None
        for trace in work.traces
    ]
    runs = run_all(work, cells(len(work.traces), policies, seeds), processes=jobs, stop=lambda: False)
    return compare(runs, plans, [trace.name for trace in work.traces])


def _choice(policy: str, parameters: Mapping[str, object] | None) -> Choice:
    return Choice(policy=policy, settings={name: str(value) for name, value in (parameters or {}).items()})


def _fleet(fleet: Fleet | Path | str) -> Fleet:
    return fleet if isinstance(fleet, Fleet) else load_fleet(Path(fleet))


def _trace(trace: Trace | Path | str) -> Trace:
    return trace if isinstance(trace, Trace) else read_trace(Path(trace))
