"""What the options of `simulate`, `compare` and `whatif` must be, beyond what their types say.

Decides how texts become policies' settings, and which values are refused; must never run anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from scheduler.policies.registry import POLICIES
from scheduler.validation import nearest
from traces.errors import BadInputError, Finding

Settings = dict[str, str]
TraceArgument = Annotated[Path, typer.Argument(help="Trace: .csv, .jsonl (either may be .gz) or .parquet.")]
PolicyOption = Annotated[str, typer.Option(help="Name of the policy.")]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the policy; repeatable.")
]


def check_policies(names: Sequence[str], option: str) -> None:
    """Raises `BadInputError` naming the nearest policy for each that is not known, and for what is given twice."""
    findings = [
        Finding(source=option, message=f'"{name}" must be the name of a policy; {nearest(name, POLICIES)}')
        for name in names
        if name not in POLICIES
    ]
    findings += [
        Finding(source=option, message=f"{name} is given twice; keep one")
        for index, name in enumerate(names)
        if name in names[:index]
    ]
    if not names:
        findings.append(Finding(source=option, message=f"is empty; it must name policies: {', '.join(POLICIES)}"))
    if findings:
        raise BadInputError(findings)


def parse_settings(texts: Sequence[str]) -> Settings:
    """`name=value` of one policy, as texts."""
    return dict(map(_parsed, texts))


def parse_policy_settings(texts: Sequence[str], policies: Sequence[str]) -> Mapping[str, Settings]:
    """`policy.name=value`, by policy."""
    found: dict[str, Settings] = {policy: {} for policy in policies}
    for text in texts:
        key, value = _parsed(text)
        policy, dot, name = key.partition(".")
        if not dot or not name:
            raise BadInputError.of("--set", f'"{text}" must be policy.name=value')
        if policy not in found:
            message = f'"{policy}" must be one of the policies compared; {nearest(policy, policies)}'
            raise BadInputError.of("--set", message)
        found[policy][name] = value
    return found


def split_names(text: str) -> list[str]:
    """`a, b,c` as names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def check_optimum_s(optimum_s: float, *, needed: bool = False) -> None:
    """Raises `BadInputError` unless it is a time, or 0 where the optimum may be left out."""
    if not math.isfinite(optimum_s) or optimum_s < 0 or (needed and optimum_s == 0):
        must = "> 0" if needed else ">= 0"
        raise BadInputError.of("--optimum-s", f"{optimum_s:g} must be a finite number {must}")


def check_distinct_names(paths: Sequence[Path]) -> None:
    """Runs are told apart by the name of their trace; raises `BadInputError` where two files share one."""
    names = [path.name for path in paths]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise BadInputError.of(str(paths[index]), f"is the second trace named {name}; rename one of them")


def _parsed(text: str) -> tuple[str, str]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise BadInputError.of("--set", f'"{text}" must be name=value')
    return name, value
