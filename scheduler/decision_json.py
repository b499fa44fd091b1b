"""One decision and everything that it rested on as JSON, format `epochal.decision/1`.

Decides what has to be kept so that a decision can be taken again; must never know who asks why.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scheduler.cluster import Snapshot
from scheduler.epoch_plan_json import EPOCH_PLAN_FORMAT, epoch_plan_json, parse_epoch_plan
from scheduler.fleet import Fleet
from scheduler.fleet_checks import check_fleet
from scheduler.plan import Decision
from scheduler.plan_check import check_plan
from scheduler.planner_settings import PlannerSettings
from scheduler.snapshot_json import parse_snapshot, snapshot_json
from scheduler.state import read_json
from scheduler.validation import problems_of
from traces.errors import BadInputError, Finding

DECISION_FORMAT = "epochal.decision/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision with what was known when it was taken."""

    fleet: Fleet
    settings: PlannerSettings
    snapshot: Snapshot
    now_s: float
    decision: Decision


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)
    format: Literal["epochal.decision/1"]
    now_s: Annotated[float, Field(allow_inf_nan=False)]
    fleet: dict[str, Any]
    settings: PlannerSettings
    snapshot: dict[str, Any]
    plan: dict[str, Any]


def decision_json(record: DecisionRecord) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "format": DECISION_FORMAT,
        "now_s": record.now_s,
        "fleet": record.fleet.effective(),
        "settings": record.settings.model_dump(mode="json"),
        "snapshot": snapshot_json(record.snapshot),
        "plan": epoch_plan_json(record.decision),
    }


def load_decision(path: Path | str) -> DecisionRecord:
    """Read a decision file; raises `BadInputError` with every mistake of the first part that has any."""
    return parse_decision(read_json(Path(path)), str(path))


def load_plan(path: Path | str) -> Decision:
    """The decision of a decision file or of a file of its plan alone."""
    data = read_json(Path(path))
    if isinstance(data, dict) and data.get("format") == EPOCH_PLAN_FORMAT:
        return parse_epoch_plan(data, str(path))
    return parse_decision(data, str(path)).decision


def parse_decision(data: Any, source: str) -> DecisionRecord:
    """A record from JSON data. The plan must be one that may be carried out in that snapshot."""
    if not isinstance(data, dict):
        raise BadInputError.of(source, f'must be an object with format="{DECISION_FORMAT}", as epochal step writes it')
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        _refuse(source, [problem.message for problem in problems_of(error, _File)])
    fleet, problems = check_fleet(file.fleet)
    if fleet is None:
        _refuse(source, [f"fleet.{problem.message}" for problem in problems])
    snapshot = parse_snapshot(file.snapshot, fleet, source, at="snapshot")
    try:
        decision = parse_epoch_plan(file.plan, source)
    except BadInputError as error:
        _refuse(source, [f"plan.{finding.message}" for finding in error.findings])
    wrong = [f"plan: {message}" for message in check_plan(snapshot, fleet, decision.plan, file.settings.limits)]
    if wrong:
        _refuse(source, wrong)
    return DecisionRecord(fleet=fleet, settings=file.settings, snapshot=snapshot, now_s=file.now_s, decision=decision)


def _refuse(source: str, messages: list[str]) -> NoReturn:
    raise BadInputError([Finding(source=source, message=message) for message in messages]) from None
