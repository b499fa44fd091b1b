"""One cell of the comparison: a policy on one workload at one seed, or the bound of that trace and fleet.

Decides what a cell is made from and measures it; must never know what other cells show.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from bench.cells import Result, keep, kept, key_of, sources_sha256
from bench.compare_cases import OFFLINE, WORKLOADS, Case
from runtime.planning import plan_by_the_clock
from scheduler.demand import demand_arrays
from scheduler.fleet import Fleet
from scheduler.headroom_rule import cheapest_pool, gpus_by_epoch
from scheduler.offline import OfflineOptions
from scheduler.policies.registry import prepare
from scheduler.simulation.settings import SimulationSettings
from scheduler.simulation.simulate import simulate
from traces.trace import Trace

OFFLINE_DEADLINE_S = 20.0
FIXED_SHARE = 0.9  # of the epochs that a fixed fleet has enough GPUs for, by the reference's rule


@dataclass(frozen=True, slots=True, kw_only=True)
class SeededCase:
    """A case at one seed; what a process is asked to run."""

    case: Case
    seed: int


def run_cell(cell: SeededCase) -> Result:
    """From before, if everything is as it was."""
    trace, fleet = _made(cell.case.compared.name, cell.seed)
    parameters = _parameters(cell.case, trace, fleet)
    content = {
        "trace": trace.sha256,
        "fleet": fleet.effective(),
        "policy": cell.case.policy,
        "parameters": dict(parameters),
        "seed": cell.seed,
        "deadline_s": OFFLINE_DEADLINE_S,
    }
    key = key_of(content, _sources())
    known = kept(key)
    if known is None:
        begun_s = time.process_time()
        known = _simulated(cell, trace, fleet, parameters) if cell.case.policy != OFFLINE else _bound(trace, fleet)
        known["cpu_s"] = time.process_time() - begun_s
        keep(key, known)
    return known


def _simulated(cell: SeededCase, trace: Trace, fleet: Fleet, parameters: Mapping[str, str]) -> Result:
    prepared = prepare(cell.case.policy, fleet, trace, seed=cell.seed, parameters=parameters)
    outcome = simulate(
        trace,
        fleet,
        prepared,
        SimulationSettings(seed=cell.seed),
        fleet_name=cell.case.compared.workload.fleet,
        clock=time.perf_counter,
    )
    return {"summary": outcome.summary.to_json()}


def _bound(trace: Trace, fleet: Fleet) -> Result:
    plan = plan_by_the_clock(trace, fleet, OfflineOptions(deadline_s=OFFLINE_DEADLINE_S), {})
    return {"bound_dollars": plan.certificate.bound_dollars, "plan_dollars": plan.objective.total_dollars}


def _parameters(case: Case, trace: Trace, fleet: Fleet) -> Mapping[str, str]:
    """A fixed fleet of the size that the reference's rule asks for at most nine tenths of the time."""
    if case.parameters.get("gpus") != "fixed":
        return case.parameters
    count: dict[str, int] = {}
    profile, start_us, end_us = demand_arrays(trace, fleet)
    for index in np.unique(profile).tolist():
        pool = cheapest_pool(fleet, index)
        assert pool is not None, "every profile of the workloads is on time somewhere"
        mine = profile == index
        epoch_us = round(fleet.epoch_s * 1e6)
        wanted = gpus_by_epoch(start_us[mine], end_us[mine], pool.capacity, epoch_us, trace.horizon_us)
        count[pool.gpu_type] = count.get(pool.gpu_type, 0) + int(np.quantile(wanted, FIXED_SHARE))
    return {"gpus": "+".join(f"{gpu_type}={number}" for gpu_type, number in count.items())}


@cache
def _sources() -> str:
    return sources_sha256()


@lru_cache(maxsize=4)
def _made(name: str, seed: int) -> tuple[Trace, Fleet]:
    """Workloads of all sizes have names of their own."""
    compared = next(one for listed in WORKLOADS.values() for one in listed if one.name == name)
    return compared.made(seed)
