"""What a caller asks of the offline planner, and what it hears while it waits.

Decides the choices and their defaults; must never know how they are acted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scheduler.offline_plan import Minimize
from scheduler.state import FleetState

SolverName = Literal["auto", "greedy", "sweep", "exact"]
MilpName = Literal["HiGHS", "PULP_CBC_CMD", "GUROBI", "CPLEX_PY", "XPRESS_PY", "MOSEK", "COPT"]


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
    milp: MilpName = "HiGHS"  # PuLP's name of what solves whole GPU counts of several types
    seed: int = 0
