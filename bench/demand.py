"""What a workload asks for: how much, of which profiles, and whether one GPU type alone could hold it.

Decides how the claims about workloads are measured; must never know a plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from scheduler.demand import active_over_time, demand_arrays
from scheduler.fleet import Fleet
from scheduler.formulate_offline import formulate
from solvers.contents import enumerate_contents
from solvers.weights import Weigher
from traces.assemble import trace_from_periods
from traces.errors import BadInputError
from traces.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is in a trace."""

    periods: int
    horizon_s: float
    active_mean: float
    active_max: int
    shares: Mapping[str, float]  # of the active time, by profile; in the fleet's order
    at_peak: Mapping[str, int]  # active sessions by profile, when most are active


def describe_demand(trace: Trace, fleet: Fleet) -> Demand:
    """Means, peaks and shares of a trace whose sessions name profiles of the fleet, or fall to its default."""
    profile, start_us, end_us = demand_arrays(trace, fleet)
    count = len(fleet.profiles)
    active_us = np.bincount(profile, weights=(end_us - start_us).astype(np.float64), minlength=count)
    at_us, running = active_over_time(start_us, end_us)
    peak_us = at_us[int(running.argmax())]
    here = (start_us <= peak_us) & (peak_us < end_us)
    shares = (active_us / active_us.sum()).tolist()
    return Demand(
        periods=trace.period_count,
        horizon_s=trace.horizon_us / 1e6,
        active_mean=float(active_us.sum() / trace.horizon_us),
        active_max=int(running.max()),
        shares=dict(zip(fleet.profiles, shares, strict=True)),
        at_peak=dict(zip(fleet.profiles, np.bincount(profile[here], minlength=count).tolist(), strict=True)),
    )


def gpus_needed_alone(at_peak: Mapping[str, int], fleet: Fleet, gpu_type: str) -> float | None:
    """A lower bound on the GPUs of one type that hold these sessions on time; None where some profile cannot run there.

    It is the best linear inequality that no content of a GPU violates (the dual of the configuration LP).
    """
    alone = fleet.model_copy(update={"pools": [pool for pool in fleet.pools if pool.gpu_type == gpu_type]})
    profiles = [name for name, count in at_peak.items() for _ in range(count)]
    ids = [f"s{index}" for index in range(len(profiles))]
    moment = trace_from_periods(
        pl.DataFrame({"session_id": ids, "profile": profiles}).with_columns(start_s=pl.lit(0.0), end_s=pl.lit(1.0))
    )
    try:
        problem = formulate(moment, alone, gpus=None, state=None).problem
    except BadInputError:
        return None
    table = enumerate_contents(problem.types[0], problem.target_ms, allow_late=False)
    demand = np.bincount(problem.class_index).astype(np.int32)
    inequality = Weigher([table], [1.0], [len(profiles)]).strongest(demand)
    assert inequality is not None, "there is demand, and a GPU for each session of it"
    return float(np.dot(inequality.weights, demand) / inequality.limit[0])
