"""GPUs that fail or slow down, drawn from stated rates.

Decides how often, for how long and who; must never know what a fault does to a run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from scheduler.simulation.settings import Failure, Straggler
from scheduler.validation import nearest
from traces.errors import BadInputError, Finding

FAULTS_MAX = 100_000
_DRAW_MAX = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultLaw:
    """Faults arrive at random (Poisson) at these rates over the whole fleet; 0 is never."""

    failures_per_h: float = 0.0
    repair_s: float = 300.0
    stragglers_per_h: float = 0.0
    straggler_factor: float = 1.5
    straggler_s: float = 120.0


def parse_faults(text: str, source: str = "--faults") -> FaultLaw:
    """`failures_per_h=2,repair_s=600`; raises `BadInputError` for unknown names and impossible values."""
    known = {field.name for field in fields(FaultLaw)}
    values: dict[str, float] = {}
    findings = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (part.strip() for part in item.partition("="))
        if name not in known:
            message = f'"{name}" must be one of the rates and times; {nearest(name, sorted(known))}'
        elif (value := _number(number)) is None:
            message = f'{name}="{number}" must be a finite number >= 0'
        elif name == "straggler_factor" and value <= 1:
            message = f"straggler_factor={value:g} must be > 1"
        else:
            values[name] = value
            continue
        findings.append(Finding(source=source, message=message))
    if findings:
        raise BadInputError(findings)
    return FaultLaw(**values)


def draw_faults(law: FaultLaw, horizon_s: float, seed: int) -> tuple[Failure | Straggler, ...]:
    """Those of a run, by time; equal arguments draw the same ones."""
    rng = np.random.default_rng([seed, 0xFA])
    expected = (law.failures_per_h + law.stragglers_per_h) * horizon_s / 3600
    if expected > FAULTS_MAX:
        raise BadInputError.of("--faults", f"about {expected:.3g} faults must be at most {FAULTS_MAX:,}; lower rates")
    failures = [
        Failure(at_s=at_s, draw=draw, repair_s=law.repair_s)
        for at_s, draw in _arrivals(rng, law.failures_per_h, horizon_s)
    ]
    stragglers = [
        Straggler(at_s=at_s, draw=draw, factor=law.straggler_factor, duration_s=law.straggler_s)
        for at_s, draw in _arrivals(rng, law.stragglers_per_h, horizon_s)
    ]
    return tuple(sorted([*failures, *stragglers], key=lambda fault: fault.at_s))


def _arrivals(rng: np.random.Generator, rate_per_h: float, horizon_s: float) -> list[tuple[float, int]]:
    count = int(rng.poisson(rate_per_h * horizon_s / 3600))
    at_s = np.sort(rng.uniform(0, horizon_s, count)).round(6)
    return list(zip(at_s.tolist(), rng.integers(_DRAW_MAX, size=count).tolist(), strict=True))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
