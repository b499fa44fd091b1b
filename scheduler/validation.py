"""How a value that a pydantic model refuses is told to its author.

Decides the words for each kind of mistake; must never know which file or which model it was.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from scheduler.lined_yaml import KeyPath, dotted

VALUE_CHARACTERS_MAX = 40
NAMES_MAX = 12  # known names that are listed

_MUST = {
    "greater_than": "must be > {gt:g}",
    "greater_than_equal": "must be >= {ge:g}",
    "less_than_equal": "must be <= {le:g}",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be text; quote it",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "literal_error": "must be {expected}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong at one place of the data."""

    path: KeyPath
    message: str


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Every mistake that pydantic found, in our words."""
    return [_problem(details, model) for details in error.errors(include_url=False)]


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` where a known name is close, otherwise the known ones."""
    names = list(known)
    lowered = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"did you mean {lowered[close[0]]}?"
    if len(names) > NAMES_MAX:
        return f"known are {', '.join(names[:NAMES_MAX])} and {len(names) - NAMES_MAX} more"
    return f"known are {', '.join(names)}" if names else "none is known"


def shown(value: Any) -> str:
    """A value as its author wrote it, more or less."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, float):
        text = f"{value:.15g}"
    else:
        text = json.dumps(value, ensure_ascii=False) if value is None or isinstance(value, str | bool) else f"{value}"
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[: VALUE_CHARACTERS_MAX - 3]}..."


def _problem(details: ErrorDetails, model: type[BaseModel]) -> Problem:
    path: KeyPath = tuple(details["loc"])
    name, kind, value = dotted(path), details["type"], details["input"]
    if kind == "missing":
        return Problem(path=path, message=f"{name} is missing; it must be given")
    if kind == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        return Problem(path=path, message=f"{name} is not a known key; {nearest(str(path[-1]), known)}")
    context = details.get("ctx", {})
    must = _MUST[kind].format(**context) if kind in _MUST else f"must be right: {details['msg']}"
    if isinstance(value, dict | list):
        return Problem(path=path, message=f"{name} is {shown(value)}; it {must}")
    return Problem(path=path, message=f"{name}={shown(value)} {must}")


def _keys_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that the model knows at a place."""
    annotation: Any = model
    for part in path:
        fields = _model_in(annotation)
        if fields is not None:
            field = fields.model_fields.get(str(part))
            annotation = None if field is None else field.annotation
        else:
            annotation = next(iter(reversed(get_args(annotation))), None)
    found = _model_in(annotation)
    return [] if found is None else list(found.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None
