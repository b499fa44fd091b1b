"""Tiny fleets, traces and plans, whose figures can be worked out by hand.

Decides defaults that keep a test short; must never compute with the code under test.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from scheduler.fleet import Fleet
from scheduler.offline_plan import (
    GPUS_SCHEMA,
    NEEDED_SCHEMA,
    PLACEMENTS_SCHEMA,
    Certificate,
    Objective,
    OfflinePlan,
    SolverReport,
)
from traces.trace import PERIODS_SCHEMA, SESSIONS_SCHEMA, Trace

FLEET: dict[str, Any] = {
    "format": "epochal.fleet/1",
    "epoch_s": 10.0,
    "batching": "grouped",
    "gpu_types": {"h100": {"memory_gib": 20.0, "weights_gib": 4.0, "price_per_hour": 3.6, "startup_s": 20.0}},
    "pools": [{"gpu_type": "h100", "nodes": 2, "gpus_per_node": 2}],
    "links": {"device_host_gb_s": 50.0, "device_device_gb_s": 300.0, "node_node_gb_s": 35.0, "latency_ms": 8.0},
    "profiles": {"a": {"chunk_s": 1.0, "state_gib": 4.0, "latency_ms": {"h100": [100.0, 200.0, 300.0]}}},
    "target": {"chunk_latency_ms": 250.0, "first_chunk_ms": 3000.0},
    "budget": {"moves_per_epoch": 4, "moves_out_per_gpu": 2, "moves_in_per_gpu": 2, "gib_per_epoch": 20.0},
}


def a_fleet(changes: Mapping[str, Any] | None = None) -> Fleet:
    """One GPU type at $0.001 a second, 2 sessions of profile a within the target; `changes` by dotted key."""
    data = copy.deepcopy(FLEET)
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        place: Any = data
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return Fleet.model_validate(data)


def a_trace(text: str, priorities: Mapping[str, int] | None = None) -> Trace:
    """`"s1 0-20; s2:world 0-30 40-60"`: sessions with an optional profile and their active periods in seconds."""
    sessions, periods = [], []
    for index, part in enumerate(text.split(";")):
        name, *spans = part.split()
        session_id, _, profile = name.partition(":")
        sessions.append((session_id, profile or None, None, (priorities or {}).get(session_id, 0)))
        for span in spans:
            start, end = span.split("-")
            periods.append((index, round(float(start) * 1e6), round(float(end) * 1e6)))
    periods.sort(key=lambda row: (row[1], row[0]))
    return Trace(
        name="tiny.csv",
        sha256="ab" * 32,
        sessions=pl.DataFrame(sessions, schema=SESSIONS_SCHEMA, orient="row"),
        periods=pl.DataFrame(periods, schema=PERIODS_SCHEMA, orient="row"),
    )


def a_plan(
    trace: Trace,
    fleet: Fleet,
    *,
    gpus: Sequence[tuple[str, str, str, float, float]],
    placements: Sequence[tuple[str, str, float, float]],
    objective: Objective,
    certificate: Certificate,
    needed: Sequence[tuple[int, float, list[float], list[float]]] = (),
    **more: Any,
) -> OfflinePlan:
    """A plan from rows, as somebody worked it out."""
    values: dict[str, Any] = {
        "trace_name": trace.name,
        "trace_sha256": trace.sha256,
        "sessions": trace.session_count,
        "periods": trace.period_count,
        "horizon_s": trace.horizon_us / 1e6,
        "fleet": fleet,
        "overrides": {},
        "minimize": "cost",
        "objective": objective,
        "certificate": certificate,
        "solver": SolverReport(name="by hand", end_reason="worked out", seed=0, versions={}),
        "seconds": 0.5,
        "gpus": pl.DataFrame(gpus, schema=GPUS_SCHEMA, orient="row"),
        "placements": pl.DataFrame(placements, schema=PLACEMENTS_SCHEMA, orient="row"),
        "needed": pl.DataFrame(needed, schema=NEEDED_SCHEMA, orient="row"),
    }
    return OfflinePlan(**values | more)


MOVE_S = 0.008 + 4 * 2**30 / 300e9  # one state of 4 GiB inside a node
MOVE_DOLLARS = MOVE_S * 0.001


def a_moving_trace() -> Trace:
    """Three sessions; from 20 s on one GPU is enough."""
    return a_trace("s1 0-20; s2 0-30; s3 5-45")


def a_moving_plan() -> OfflinePlan:
    """Two GPUs until 20 s, when s2 moves to g0; 110 GPU-seconds, the least there is.

    Latency: g0 holds 1, 2, 2, 1 sessions from 0, 5, 20, 30 to 45 s, g1 holds 1 until 20 s.
    """
    total = 0.110 + MOVE_DOLLARS
    return a_plan(
        a_moving_trace(),
        a_fleet(),
        gpus=[("g0", "h100", "0/0", -20, 50), ("g1", "h100", "0/0", -20, 20)],
        placements=[("s1", "g0", 0, 20), ("s2", "g1", 0, 20), ("s2", "g0", 20, 30), ("s3", "g0", 5, 45)],
        objective=Objective(
            total_dollars=total,
            gpu_dollars=0.110,
            move_dollars=MOVE_DOLLARS,
            gpu_hours=110 / 3600,
            chunk_latency_ms_max=200.0,
            chunk_latency_ms_mean=14000 / 90,
            late_session_seconds=0.0,
            unserved_session_seconds=0.0,
            migrations=1,
        ),
        certificate=Certificate(
            status="feasible",
            method="by hand",
            gap=MOVE_DOLLARS / total,
            bound_unserved_session_seconds=0.0,
            bound_late_session_seconds=0.0,
            bound_dollars=0.110,
        ),
        needed=[(epoch, at_s, [1.0], [2.0]) for epoch, at_s in enumerate([5.0, 10.0, 20.0, 30.0, 40.0])],
    )
