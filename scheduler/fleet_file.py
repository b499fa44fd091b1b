"""Fleet files and what overrides them: the environment, then the command line.

Decides which value of a fleet key is in force and where it came from; must never know a session or a trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scheduler.fleet import Fleet
from scheduler.fleet_checks import check_fleet
from scheduler.lined_yaml import KeyPath, dotted, parse_yaml, read_yaml
from scheduler.validation import nearest
from traces.errors import BadInputError, Finding

ENVIRONMENT_PREFIX = "EPOCHAL_"
FROM_COMMAND_LINE = "set on the command line"


def load_fleet(path: Path | str) -> Fleet:
    """Read and validate a fleet file; raises `BadInputError` with every mistake and its line."""
    path = Path(path)
    document = read_yaml(path)
    fleet, problems = check_fleet(document.data)
    findings = list(document.findings)
    findings += [
        Finding(source=str(path), message=problem.message, line=document.line_of(problem.path)) for problem in problems
    ]
    if findings or fleet is None:
        raise BadInputError(sorted(findings, key=lambda finding: finding.line or 0))
    return fleet


def with_overrides(
    fleet: Fleet, command_line: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> tuple[Fleet, dict[str, str]]:
    """Put the command line over the environment over the fleet.

    `command_line` maps dotted fleet keys (`epoch_s`, `budget.moves_per_epoch`) to values; `environment` maps
    variables to text, of which those that start with `EPOCHAL_` count (`EPOCHAL_BUDGET__MOVES_PER_EPOCH`; list entries
    by index, other characters than letters and digits as `_`). Returns the fleet and, per top-level key, where it was
    overridden. Raises `BadInputError` for unknown names and invalid values.
    """
    known = {path: _variable(path) for path in _scalars(fleet)}
    values: dict[KeyPath, tuple[Any, str, str]] = {}  # path -> (value, its source, how the plan tells it)
    for path, value, name in _from_environment(environment or {}, known):
        values[path] = (value, name, f"set by the environment ({name})")
    by_name = {dotted(path): path for path in known}
    for key, value in command_line.items():
        if key not in by_name:
            raise BadInputError.of("command line", f"{key} is not a fleet key; {nearest(key, by_name)}")
        values[by_name[key]] = (value, f"--{key.replace('_', '-')}", FROM_COMMAND_LINE)
    if not values:
        return fleet, {}
    data = fleet.effective()
    for path, (value, _, _) in values.items():
        _put(data, path, value)
    changed, problems = check_fleet(data)
    if problems or changed is None:
        every = ", ".join(source for _, source, _ in values.values())
        raise BadInputError(
            [Finding(source=values[p.path][1] if p.path in values else every, message=p.message) for p in problems]
        )
    told: dict[str, list[str]] = {}
    for path, (_, _, text) in values.items():
        told.setdefault(str(path[0]), []).append(text if len(path) == 1 else f"{dotted(path)} {text}")
    return changed, {key: "; ".join(texts) for key, texts in told.items()}


def _from_environment(
    environment: Mapping[str, str], known: Mapping[KeyPath, str]
) -> Iterator[tuple[KeyPath, Any, str]]:
    paths: dict[str, list[KeyPath]] = {}
    for path, variable in known.items():
        paths.setdefault(variable, []).append(path)
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if name not in paths:
            raise BadInputError.of(name, f"is not a known variable; {nearest(name, paths)}")
        if len(paths[name]) > 1:
            keys = " and ".join(map(dotted, paths[name]))
            raise BadInputError.of(name, f"could mean {keys}; set it in the fleet file")
        yield paths[name][0], parse_yaml(environment[name], name).data, name


def _variable(path: KeyPath) -> str:
    parts = (re.sub(r"[^A-Z0-9]", "_", str(part).upper()) for part in path)
    return ENVIRONMENT_PREFIX + "__".join(parts)


def _scalars(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The places of single values, those that are left to their default included."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            child = getattr(value, name)
            table = child is None and "dict" in str(field.annotation)
            if not table and (path, name) != ((), "format"):
                yield from _scalars(child, (*path, name))
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from _scalars(child, (*path, key))
    elif isinstance(value, list):
        if all(isinstance(child, BaseModel) for child in value):
            for index, child in enumerate(value):
                yield from _scalars(child, (*path, index))
    else:
        yield path


def _put(data: Any, path: KeyPath, value: Any) -> None:
    for part in path[:-1]:
        data = data.setdefault(part, {}) if isinstance(data, dict) else data[part]
    data[path[-1]] = value
