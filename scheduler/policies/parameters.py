"""A policy's parameters as somebody writes them, `headroom=0.85`, made the values of its settings.

Decides which texts are good values and what is said about bad ones; must never know what a parameter does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scheduler.fleet import Fleet
from scheduler.validation import nearest, problems_of
from traces.errors import BadInputError, Finding

ServiceLevel = Annotated[float, Field(ge=0.5, lt=1, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Headroom = Annotated[float, Field(ge=0.1, le=1, allow_inf_nan=False)]
SpareShare = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]


class PolicySettings(BaseModel):
    """The fields of a subclass are a policy's parameters; values may be given as text."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HeuristicSettings(PolicySettings):
    """What every heuristic has."""

    keep_idle_s: Seconds = 0.0  # how long an idle session keeps its room on the device


Settings = TypeVar("Settings", bound=PolicySettings)


def with_parameters(settings: type[Settings], policy: str, parameters: Mapping[str, str]) -> Settings:
    """The defaults, but for what is given by name; raises `BadInputError` where names or values are wrong."""
    try:
        return settings.model_validate(dict(parameters))
    except ValidationError as error:
        findings = [Finding(source=policy, message=problem.message) for problem in problems_of(error, settings)]
        raise BadInputError(findings) from None


def gpus_by_type(text: str, fleet: Fleet, policy: str) -> dict[str, int]:
    """`h100=8+b200=2`; raises `BadInputError` where a type is unknown or the pools have fewer."""
    found: dict[str, int] = {}
    for part in text.split("+"):
        name, _, count = (piece.strip() for piece in part.partition("="))
        pools = [pool for pool in fleet.pools if pool.gpu_type == name]
        if not pools:
            near = nearest(name, dict.fromkeys(pool.gpu_type for pool in fleet.pools))
            raise BadInputError.of(policy, f"gpus={text}: no pool has GPU type {name or part!r}; {near}")
        most = sum(pool.nodes * pool.gpus_per_node for pool in pools)
        if not (count.isdecimal() and int(count) <= most):
            raise BadInputError.of(policy, f"gpus={text}: {name}={count} must be a whole number from 0 to {most}")
        found[name] = int(count)
    return found
