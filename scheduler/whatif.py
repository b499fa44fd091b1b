"""What if: the same trace and fleet with one thing changed, each change by itself.

Decides which changes there are and what each makes of trace and fleet; must never know how a case is planned or run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scheduler.compare import Optimum
from scheduler.fleet import Fleet
from scheduler.fleet_file import with_overrides
from scheduler.simulation.outcome import Summary
from scheduler.validation import nearest
from traces.errors import BadInputError
from traces.scale import scale_arrivals
from traces.trace import Trace

WHATIF_FORMAT = "epochal.whatif/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be tried, in the order of the fields."""

    arrivals: Sequence[float] = ()  # factors
    gpus: Sequence[str] = ()  # types: every pool has this one instead
    target_ms: Sequence[float] = ()  # of the fleet; profiles' own targets keep their ratio to it
    startup_s: Sequence[float] = ()  # of every GPU type


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A trace and a fleet, and what was changed."""

    name: str  # "base", "arrivals x 1.5", "target 600 ms"
    trace: Trace = field(repr=False)
    fleet: Fleet = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a case."""

    name: str
    optimum: Optimum
    summary: Summary


def cases_of(trace: Trace, fleet: Fleet, changes: Changes, *, seed: int) -> tuple[Case, ...]:
    """The base case, then one case per change; raises `BadInputError` for a change that cannot be made."""
    cases = [Case(name="base", trace=trace, fleet=fleet)]
    for factor in changes.arrivals:
        scaled = scale_arrivals(trace, factor, seed=seed)
        cases.append(Case(name=f"arrivals x {factor:g}", trace=scaled, fleet=fleet))
    cases += [Case(name=f"GPUs {name}", trace=trace, fleet=_with_gpus(fleet, name)) for name in changes.gpus]
    for target_ms in changes.target_ms:
        ratio = target_ms / fleet.target.chunk_latency_ms
        keys = {"target.chunk_latency_ms": target_ms}
        keys |= {
            f"profiles.{name}.target_ms": profile.target_ms * ratio
            for name, profile in fleet.profiles.items()
            if profile.target_ms is not None
        }
        cases.append(Case(name=f"target {target_ms:g} ms", trace=trace, fleet=_changed(fleet, keys, "--target-ms")))
    for startup_s in changes.startup_s:
        keys = {f"gpu_types.{name}.startup_s": startup_s for name in fleet.gpu_types}
        cases.append(Case(name=f"start-up {startup_s:g} s", trace=trace, fleet=_changed(fleet, keys, "--startup-s")))
    return tuple(cases)


def answers_json(answers: Sequence[Answer], policy: str) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "format": WHATIF_FORMAT,
        "policy": policy,
        "cases": [
            {
                "case": answer.name,
                "optimum": {
                    "bound_dollars": answer.optimum.bound_dollars,
                    "plan_dollars": answer.optimum.plan_dollars,
                    "gap": answer.optimum.gap,
                    "late_session_seconds": answer.optimum.late_session_seconds,
                    "unserved_session_seconds": answer.optimum.unserved_session_seconds,
                },
                "summary": answer.summary.to_json(),
            }
            for answer in answers
        ],
    }


def _with_gpus(fleet: Fleet, gpu_type: str) -> Fleet:
    if gpu_type not in fleet.gpu_types:
        message = f'"{gpu_type}" must be a GPU type of the fleet; {nearest(gpu_type, fleet.gpu_types)}'
        raise BadInputError.of("--gpu", message)
    keys = {f"pools[{index}].gpu_type": gpu_type for index in range(len(fleet.pools))}
    return _changed(fleet, keys, "--gpu")


def _changed(fleet: Fleet, keys: dict[str, Any], option: str) -> Fleet:
    """Findings are told of the option, not of the fleet key that it sets."""
    try:
        changed, _ = with_overrides(fleet, keys)
    except BadInputError as error:
        raise BadInputError.of(option, error.findings[0].message) from None
    return changed
