"""The figures of a plan as `plan.json`, format `epochal.plan/1`.

Decides how the scalar parts of a plan are named in the file; must never know its tables or its folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scheduler.fleet import Fleet
from scheduler.fleet_checks import check_fleet
from scheduler.offline_plan import Certificate, Minimize, Objective, OfflinePlan, SolverReport
from scheduler.state import FleetState
from scheduler.validation import problems_of
from traces.errors import BadInputError, Finding

PLAN_FORMAT = "epochal.plan/1"

_Number = Annotated[float, Field(allow_inf_nan=False)]
_NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    """Keys that later versions add are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Trace(_Part):
    sha256: str
    sessions: _Count
    periods: _Count
    horizon_s: _NonNegative
    name: str = ""


class _Objective(_Part):
    total_dollars: _NonNegative
    gpu_dollars: _NonNegative
    move_dollars: _NonNegative
    gpu_hours: _NonNegative
    chunk_latency_ms_max: _NonNegative
    chunk_latency_ms_mean: _NonNegative
    late_session_seconds: _NonNegative
    unserved_session_seconds: _NonNegative
    migrations: _Count


class _Certificate(_Part):
    status: Literal["optimal", "feasible"]
    method: str
    gap: _Number
    bound_unserved_session_seconds: _Number
    bound_late_session_seconds: _Number
    bound_dollars: _Number | None = None
    bound_latency_ms: _Number | None = None
    bound_mean_latency_ms: _Number | None = None
    gap_mean: _Number | None = None
    needed: str = "needed.parquet"


class _Solver(_Part):
    name: str
    end_reason: str
    seed: int
    versions: dict[str, str]


class _Timing(_Part):
    seconds: _NonNegative


class PlanJson(_Part):
    """What `plan.json` holds; the fleet is validated as a fleet file is."""

    format: Literal["epochal.plan/1"]
    trace: _Trace
    fleet: dict[str, Any]
    overrides: dict[str, str] = {}
    minimize: Minimize
    objective: _Objective
    certificate: _Certificate
    solver: _Solver
    timing: _Timing
    state: FleetState | None = None

    def scalars(self, fleet: Fleet) -> dict[str, Any]:
        """The arguments of an `OfflinePlan`, but for its tables."""
        certificate = self.certificate.model_dump()
        del certificate["needed"]
        return {
            "trace_name": self.trace.name,
            "trace_sha256": self.trace.sha256,
            "sessions": self.trace.sessions,
            "periods": self.trace.periods,
            "horizon_s": self.trace.horizon_s,
            "fleet": fleet,
            "overrides": self.overrides,
            "minimize": self.minimize,
            "objective": Objective(**self.objective.model_dump()),
            "certificate": Certificate(**certificate),
            "solver": SolverReport(**self.solver.model_dump()),
            "seconds": self.timing.seconds,
            "state": self.state,
        }


def plan_json(plan: OfflinePlan) -> dict[str, Any]:
    """JSON-ready contents of `plan.json`; values that do not apply are left out."""
    certificate = {k: v for k, v in dataclasses.asdict(plan.certificate).items() if v is not None}
    return {
        "format": PLAN_FORMAT,
        "trace": {
            "name": plan.trace_name,
            "sha256": plan.trace_sha256,
            "sessions": plan.sessions,
            "periods": plan.periods,
            "horizon_s": plan.horizon_s,
        },
        "fleet": plan.fleet.effective(),
        "overrides": dict(plan.overrides),
        "minimize": plan.minimize,
        "objective": dataclasses.asdict(plan.objective),
        "certificate": certificate | {"needed": "needed.parquet"},
        "solver": {
            "name": plan.solver.name,
            "end_reason": plan.solver.end_reason,
            "seed": plan.solver.seed,
            "versions": dict(plan.solver.versions),
        },
        "timing": {"seconds": plan.seconds},
    } | ({} if plan.state is None else {"state": plan.state.model_dump(mode="json")})


def parse_plan_json(data: Any, source: str) -> dict[str, Any]:
    """The arguments of an `OfflinePlan`, but for its tables; raises `BadInputError` with every mistake."""
    if not isinstance(data, Mapping):
        raise BadInputError.of(source, "must be an object; give a folder that epochal plan wrote")
    try:
        parsed = PlanJson.model_validate(data)
    except ValidationError as error:
        messages = [problem.message for problem in problems_of(error, PlanJson)]
    else:
        fleet, problems = check_fleet(parsed.fleet)
        messages = [f"fleet: {problem.message}" for problem in problems]
        if fleet is not None:
            return parsed.scalars(fleet)
    raise BadInputError([Finding(source=source, message=message) for message in messages])
