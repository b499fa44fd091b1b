"""Offline plans on this machine's clock: one that is asked for, and one that runs are compared with.

Decides which clock is read; must never print, nor load a simulator.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

from scheduler.fleet import Fleet
from scheduler.offline import OfflineOptions, Progress, plan_offline
from scheduler.offline_plan import OfflinePlan
from traces.trace import Trace


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


def optimum_by_the_clock(
    trace: Trace,
    fleet: Fleet,
    deadline_s: float,
    *,
    frontier: bool = False,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> OfflinePlan:
    """The offline plan that runs are compared with."""
    options = OfflineOptions(deadline_s=deadline_s, gap=1e-3, frontier=frontier)
    return plan_offline(trace, fleet, options, clock=time.monotonic, stop=stop, progress=progress)
