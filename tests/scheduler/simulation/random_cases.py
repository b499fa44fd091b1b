"""Small random runs that have a bit of everything: tight memories, slow links, instants that coincide, faults, chaos.

Decides which fleets, traces, settings and policies a simulator is tried with; must never know what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import polars as pl
from hypothesis import strategies as st

from scheduler.fleet import Fleet
from scheduler.fleet_checks import check_fleet
from scheduler.policy import Policy, Prepared
from scheduler.simulation.settings import Failure, SimulationSettings, Straggler
from tests.scheduler.simulation.random_policies import ChaosPolicy, SensiblePolicy
from traces.trace import PERIODS_SCHEMA, SESSIONS_SCHEMA, Trace

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run; `prepared()` is a new policy each time, because policies remember."""

    fleet: Fleet
    trace: Trace
    settings: SimulationSettings
    planning_s: float
    gpus_at_start: dict[str, int]
    policy: str  # sensible, chaos, reckless
    seed: int

    def prepared(self) -> Prepared:
        policy: Policy
        if self.policy == "sensible":
            policy = SensiblePolicy(self.fleet)
        else:
            policy = ChaosPolicy(self.fleet, self.seed, reckless=self.policy == "reckless")
        return Prepared(name=self.policy, policy=policy, planning_s=self.planning_s, gpus_at_start=self.gpus_at_start)


class Choice(Protocol):
    """Where chance comes from: a generator with a seed, or hypothesis."""

    def among(self, options: Sequence[T]) -> T: ...

    def whole(self, least: int, most: int) -> int: ...


@dataclass(frozen=True, slots=True)
class _Seeded:
    rng: np.random.Generator

    def among(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def whole(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))


@dataclass(frozen=True, slots=True)
class _Drawn:
    draw: st.DrawFn

    def among(self, options: Sequence[T]) -> T:
        return self.draw(st.sampled_from(options))

    def whole(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))


def seeded_case(seed: int) -> Case:
    return _case(_Seeded(np.random.default_rng(seed)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    return _case(_Drawn(draw))


def _case(choice: Choice) -> Case:
    fleet = _fleet(choice)
    trace = _trace(choice, fleet)
    return Case(
        fleet=fleet,
        trace=trace,
        settings=SimulationSettings(
            ahead_chunks=choice.among([2, 2, 1, 3]),
            early_spacing_s=choice.among([0.25, 0.05, 1.0, 0.333333]),
            faults=_faults(choice, fleet, trace.horizon_us),
            seed=choice.whole(0, 9),
        ),
        planning_s=choice.among([0.0, 0.0, 0.05, 0.3, fleet.epoch_s, 2.5 * fleet.epoch_s]),
        gpus_at_start={name: choice.whole(0, 4) for name in fleet.gpu_types if choice.among([True, True, False])},
        policy=choice.among(["sensible", "chaos", "chaos", "reckless"]),
        seed=choice.whole(0, 2**20),
    )


def _fleet(choice: Choice) -> Fleet:
    types = ["x", "b"][: choice.whole(1, 2)]
    batching = choice.among(["grouped", "packed", "turboserve"])
    profiles = ["p", "q", "r"][: choice.whole(1, 3)]
    state_gib = {name: choice.among([0.25, 0.1, 0.5, 0.03]) for name in profiles}
    data: dict[str, Any] = {
        "format": "epochal.fleet/1",
        "epoch_s": choice.among([2.0, 1.0, 1.5, 0.7, 5.0]),
        "batching": batching,
        "gpu_types": {
            name: {
                "memory_gib": 4.0 + choice.among([1.0, 0.5, 0.75, 2.0, 10.0]),
                "weights_gib": 4.0,
                "price_per_hour": choice.among([3.6, 1.0]),
                "startup_s": choice.among([0.5, 0.0, 1.0, 2.0, 0.123456]),
            }
            for name in types
        },
        "pools": _pools(choice, types),
        "links": {
            "device_host_gb_s": choice.among([1.0, 0.3, 0.1, 50.0]),
            "device_device_gb_s": choice.among([1.0, 0.7, 0.2, 300.0]),
            "node_node_gb_s": choice.among([0.5, 0.3, 0.1, 1.0, 35.0]),
            "latency_ms": choice.among([8.0, 0.0, 0.5, 100.0]),
        },
        "default_profile": "p",
        "profiles": {
            name: {
                "chunk_s": choice.among([0.5, 1.0, 0.25, 0.3]),
                "state_gib": state_gib[name],
                **choice.among([{}, {"target_ms": 200.0}, {"target_ms": 100.0}]),
            }
            for name in profiles
        },
        "target": {
            "chunk_latency_ms": choice.among([250.0, 100.0]),
            "first_chunk_ms": choice.among([300.0, 1000.0, 100.0]),
        },
    }
    _add_costs(choice, data, types)
    fleet, problems = check_fleet(data)
    assert fleet is not None, problems
    return fleet


def _pools(choice: Choice, types: list[str]) -> list[dict[str, Any]]:
    """At most six GPUs on at most three nodes; every type has a pool, and a type may have two."""
    shapes = choice.among(
        [[(1, 2)], [(1, 1)], [(2, 2)], [(3, 1)], [(1, 3), (1, 1)], [(2, 1), (1, 2)], [(1, 2), (2, 2)]]
    )
    if len(shapes) < len(types):
        shapes = [*shapes, (1, 1)]
    return [
        {
            "gpu_type": types[index % len(types)],
            "nodes": nodes,
            "gpus_per_node": per_node,
            "gpus_min": choice.among([0, 1, min(2, nodes * per_node)]),
            **choice.among([{}, {}, {"host_memory_gib": 0.5}, {"host_memory_gib": 0.25}]),
        }
        for index, (nodes, per_node) in enumerate(shapes)
    ]


def _add_costs(choice: Choice, data: dict[str, Any], types: list[str]) -> None:
    """Latencies from nothing to more than a chunk; now and then a profile that cannot run on the second type."""

    def table() -> list[float]:
        step = choice.among([40.0, 100.0, 10.0, 0.0, 250.0, 33.3333])
        first = choice.among([step, step, 100.0, 0.0])
        return [first + step * count for count in range(choice.among([3, 1, 2, 5]))]

    for profile in data["profiles"].values():
        able = types if choice.among([True, True, False]) else types[:1]
        match data["batching"]:
            case "grouped":
                profile["latency_ms"] = {name: table() for name in able}
            case "packed":
                profile["per_session_ms"] = {name: choice.among([50.0, 20.0, 0.0, 130.1]) for name in able}
            case "turboserve":
                profile["base_ms"] = {name: choice.among([50.0, 20.0, 0.0, 130.1]) for name in able}
    if data["batching"] == "packed":
        data["packed"] = {
            name: {"fixed_ms": choice.among([50.0, 0.0, 200.5]), "sessions_max": choice.among([4, 1, 2, 8])}
            for name in types
        }
    if data["batching"] == "turboserve":
        data["crowding_ms"] = {name: table() for name in types}


def _trace(choice: Choice, fleet: Fleet) -> Trace:
    count, stretch = choice.among([3, 1, 5, 8, 15]), choice.among([1, 1, 2, 6])
    bodies = []
    for index in range(count):
        marks = sorted({_instant(choice, fleet, stretch) for _ in range(2 * choice.among([1, 2, 1, 3, 4]))})
        marks = marks[: len(marks) // 2 * 2] or [0, 500_000]
        periods = list(zip(marks[::2], marks[1::2], strict=True))
        profile = choice.among([None, *fleet.profiles])
        bodies.append((periods, f"s{index}", profile, choice.among([None, "t1"]), choice.whole(0, 2)))
    bodies.sort(key=lambda body: (body[0][0][0], body[1]))
    rows = sorted((start, index, end) for index, body in enumerate(bodies) for start, end in body[0])
    return Trace(
        name="random.csv",
        sha256="ab" * 32,
        sessions=pl.DataFrame([body[1:] for body in bodies], schema=SESSIONS_SCHEMA, orient="row"),
        periods=pl.DataFrame([(index, start, end) for start, index, end in rows], schema=PERIODS_SCHEMA, orient="row"),
    )


def _instant(choice: Choice, fleet: Fleet, stretch: int = 1) -> int:
    """In microseconds, within about six seconds or `stretch` times as many; often something else happens then too."""
    chunk_s = next(iter(fleet.profiles.values())).chunk_s
    match choice.among(["tenth", "epoch", "chunk", "any", "beside"]):
        case "epoch":
            return choice.whole(0, 4 * stretch) * round(fleet.epoch_s * 1e6)
        case "chunk":
            return choice.whole(0, 12 * stretch) * round(chunk_s * 1e6)
        case "any":
            return choice.whole(0, 6_000_000 * stretch)
        case "beside":
            return choice.whole(1, 4 * stretch) * round(fleet.epoch_s * 1e6) + choice.among([-1, 1])
        case _:
            return choice.whole(0, 60 * stretch) * 100_000


def _faults(choice: Choice, fleet: Fleet, horizon_us: int) -> tuple[Failure | Straggler, ...]:
    faults: list[Failure | Straggler] = []
    for _ in range(choice.among([0, 0, 1, 2, 4])):
        at_s = min(_instant(choice, fleet), horizon_us) / 1e6
        draw = choice.whole(0, 7)
        if choice.among([True, False]):
            faults.append(Failure(at_s=at_s, draw=draw, repair_s=choice.among([1.0, 0.0, 0.3, 100.0])))
        else:
            factor, duration_s = choice.among([1.5, 1.1, 3.0]), choice.among([1.0, 0.25, 2.0])
            faults.append(Straggler(at_s=at_s, draw=draw, factor=factor, duration_s=duration_s))
    return tuple(sorted(faults, key=lambda fault: fault.at_s))
