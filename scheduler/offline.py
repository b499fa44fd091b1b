"""The offline planner: the cheapest (or fastest) schedule for a whole trace, with a certificate.

Decides how a trace and a fleet become numbers, and how solved numbers become an `OfflinePlan`; must never know a file,
a clock or a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from scheduler.fleet import Fleet
from scheduler.offline_plan import Minimize, OfflinePlan
from scheduler.state import FleetState
from traces.trace import Trace

SolverName = Literal["auto", "greedy", "sweep", "cp-sat", "highs", "cbc"]


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
    raise NotImplementedError
