"""What an operator sets about planning, in a file (YAML): fields of `PlannerSettings`; what is left out stays as it is.

Decides which file is refused; must never know how a setting is followed.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from scheduler.lined_yaml import read_yaml
from scheduler.planner_settings import PlannerSettings
from scheduler.validation import problems_of
from traces.errors import BadInputError, Finding


def load_planner(path: Path) -> PlannerSettings:
    """Raises `BadInputError` with every mistake and its line."""
    document = read_yaml(path)
    given = {} if document.data is None else document.data
    if not isinstance(given, dict):
        raise BadInputError.of(str(path), "must be a mapping of settings to values")
    findings, settings = list(document.findings), PlannerSettings()
    try:
        settings = PlannerSettings.model_validate(given, strict=False)  # keys are text here
    except ValidationError as error:
        findings += [
            Finding(source=str(path), message=problem.message, line=document.line_of(problem.path))
            for problem in problems_of(error, PlannerSettings)
        ]
    if findings:
        raise BadInputError(sorted(findings, key=lambda finding: finding.line or 0))
    return settings
