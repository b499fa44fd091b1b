"""The plan of one epoch as JSON, format `epochal.epoch-plan/1`.

Decides how plans, reports and what came before are named in a file; must never know how a plan was found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scheduler.cluster import GpuId, MoveKind, NodeId, SessionId
from scheduler.plan import (
    Decision,
    ForecastReport,
    GpuAim,
    Move,
    Plan,
    ProfileForecast,
    Report,
    Seat,
    StageTime,
    TierName,
    TierReport,
)
from scheduler.validation import problems_of
from traces.errors import BadInputError, Finding

EPOCH_PLAN_FORMAT = "epochal.epoch-plan/1"

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    """Keys that later versions add are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Seat(_Part):
    gpu: str | None = None
    node: str | None = None


class _Move(_Part):
    session_id: str
    kind: MoveKind
    source: str | None = None
    target: str | None = None
    source_node: str | None = None
    target_node: str | None = None
    state_bytes: _Count
    wave: _Count
    reason: str


class _Tier(_Part):
    tier: TierName
    unit: str
    before: _Number
    value: _Number
    bound: _Number
    gap: _Number
    proven: bool
    proof: str


class _Stage(_Part):
    solver: str
    seconds: _Number
    end_reason: str
    value: _Number | None = None
    bound: _Number
    gap: _Number


class _ProfileForecast(_Part):
    profile: str
    mean: _Number
    quantile: _Number
    coverage: _Number | None = None
    pinball: _Number | None = None
    mae: _Number | None = None


class _Forecast(_Part):
    service_level: _Number
    horizon_epochs: _Count
    origins: _Count
    profiles: list[_ProfileForecast]

    def report(self) -> ForecastReport:
        return ForecastReport(
            service_level=self.service_level,
            horizon_epochs=self.horizon_epochs,
            origins=self.origins,
            profiles=tuple(ProfileForecast(**profile.model_dump()) for profile in self.profiles),
        )


class _Report(_Part):
    solver: str
    end_reason: str
    tiers: list[_Tier] = Field(min_length=1)
    stages: list[_Stage] = []
    fallback: str | None = None
    warnings: list[str] = []
    forecast: _Forecast | None = None


class EpochPlanJson(_Part):
    """What a file of this format holds."""

    format: Literal["epochal.epoch-plan/1"]
    version: _Count
    seats: dict[str, _Seat]
    gpus: dict[str, GpuAim]
    moves: list[_Move]
    report: _Report
    next_step_s: _Number
    scale_in_wanted: dict[str, bool] = {}

    def decision(self) -> Decision:
        """As it was before it was written."""
        return Decision(
            plan=Plan(
                version=self.version,
                seats={SessionId(name): _seat(seat) for name, seat in self.seats.items()},
                gpus={GpuId(name): aim for name, aim in self.gpus.items()},
                moves=tuple(_move(move) for move in self.moves),
            ),
            report=Report(
                solver=self.report.solver,
                end_reason=self.report.end_reason,
                tiers=tuple(TierReport(**tier.model_dump()) for tier in self.report.tiers),
                stages=tuple(StageTime(**stage.model_dump()) for stage in self.report.stages),
                fallback=self.report.fallback,
                warnings=tuple(self.report.warnings),
                forecast=None if self.report.forecast is None else self.report.forecast.report(),
            ),
            next_step_s=self.next_step_s,
            scale_in_wanted=self.scale_in_wanted,
        )


def epoch_plan_json(decision: Decision) -> dict[str, Any]:
    """JSON-ready; places that do not apply are left out."""
    plan = decision.plan
    return {
        "format": EPOCH_PLAN_FORMAT,
        "version": plan.version,
        "seats": {session_id: _given(seat) for session_id, seat in plan.seats.items()},
        "gpus": dict(plan.gpus),
        "moves": [_given(move) for move in plan.moves],
        "report": dataclasses.asdict(decision.report),
        "next_step_s": decision.next_step_s,
        "scale_in_wanted": dict(decision.scale_in_wanted),
    }


def parse_epoch_plan(data: Any, source: str) -> Decision:
    """A decision from JSON data; raises `BadInputError` with every mistake."""
    if not isinstance(data, Mapping):
        raise BadInputError.of(source, f'must be an object with format="{EPOCH_PLAN_FORMAT}"')
    try:
        return EpochPlanJson.model_validate(data).decision()
    except ValidationError as error:
        problems = problems_of(error, EpochPlanJson)
        raise BadInputError([Finding(source=source, message=problem.message) for problem in problems]) from None


def _given(value: Seat | Move) -> dict[str, Any]:
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {name: of for name, of in fields.items() if of is not None}


def _seat(seat: _Seat) -> Seat:
    return Seat(gpu=_gpu(seat.gpu), node=_node(seat.node))


def _move(move: _Move) -> Move:
    return Move(
        session_id=SessionId(move.session_id),
        kind=move.kind,
        source=_gpu(move.source),
        target=_gpu(move.target),
        source_node=_node(move.source_node),
        target_node=_node(move.target_node),
        state_bytes=move.state_bytes,
        wave=move.wave,
        reason=move.reason,
    )


def _gpu(name: str | None) -> GpuId | None:
    return None if name is None else GpuId(name)


def _node(name: str | None) -> NodeId | None:
    return None if name is None else NodeId(name)
