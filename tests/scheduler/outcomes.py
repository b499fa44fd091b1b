"""Runs to look at: made up from a made-up schedule, consistent enough for every picture, without a simulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from scheduler.fleet import Fleet
from scheduler.offline_plan import OfflinePlan
from scheduler.simulation.outcome import (
    DECISIONS,
    EPOCHS,
    GPUS,
    LATENCIES,
    MOVES,
    PERIODS,
    ROUNDS,
    STAYS,
    Outcome,
    Percentiles,
    Summary,
    Tables,
)
from tests.scheduler.report_plans import PROFILE_MS, Shape, a_fleet, a_plan
from traces.trace import Trace

NOBODY = Percentiles(p50=0.0, p95=0.0, p99=0.0, max=0.0)


def a_summary(**changes: Any) -> Summary:
    """A run that costs $100 and serves everybody in time."""
    values: dict[str, Any] = {
        "trace": "evening.csv",
        "fleet": "fleet.yaml",
        "policy": "epochal",
        "seed": 0,
        "horizon_s": 3600.0,
        "sessions": 40,
        "chunks": 10_000,
        "gpu_dollars": 100.0,
        "gpu_hours": 40.0,
        "gpus_max": 8,
        "chunk_latency_ms": Percentiles(p50=400.0, p95=590.0, p99=680.0, max=740.0),
        "first_chunk_ms": Percentiles(p50=600.0, p95=1200.0, p99=1900.0, max=2500.0),
        "late_first_chunk_ratio": 0.0,
        "late_chunk_ratio": 0.0,
        "stall_seconds": 0.0,
        "continuous_play_ratio": 1.0,
        "unserved_session_seconds": 0.0,
        "migrations": 12,
        "migrated_gib": 38.4,
        "resumes": 30,
        "gap": Percentiles(p50=0.0, p95=0.01, p99=0.02, max=0.05),
        "fallbacks": 0,
        "planning_ms": Percentiles(p50=20.0, p95=45.0, p99=80.0, max=120.0),
        "seconds": 3.5,
    }
    return Summary(**values | changes)


def an_outcome(
    shape: Shape | None = None, *, policy: str = "epochal", gpus: int = 8, profiles: int = 2, slower: float = 1.0
) -> tuple[Outcome, Fleet, Trace, OfflinePlan]:
    """A run that puts sessions as a made-up plan does, with the plan as the optimum."""
    shape = Shape(horizon_s=3600.0, moves=20) if shape is None else shape
    fleet = a_fleet(tuple(PROFILE_MS)[:profiles], pools={"h100": gpus})
    plan, trace = a_plan(fleet, shape)
    rng = np.random.default_rng(shape.seed)
    tables = Tables(
        periods=_periods(trace, rng, slower),
        stays=_stays(plan, rng),
        moves=_moves(plan),
        gpus=_gpus(plan, fleet, trace.horizon_us / 1e6),
        epochs=_epochs(plan, fleet, trace, rng, slower),
        decisions=_decisions(plan, fleet, trace, rng, slower),
        latencies=_latencies(rng, slower),
        rounds=pl.DataFrame([("0/0/0", 0.0, 0.75, 40, 400.0, 3)], schema=ROUNDS, orient="row"),
    )
    late = slower > 1
    summary = a_summary(
        trace=trace.name,
        policy=policy,
        horizon_s=trace.horizon_us / 1e6,
        sessions=trace.session_count,
        chunks=int(tables.periods["chunks"].sum()),
        gpu_dollars=plan.objective.gpu_dollars * slower,
        late_chunk_ratio=0.01 * slower if late else 0.0,
        late_first_chunk_ratio=0.004 * slower if late else 0.0,
        migrations=tables.moves.height,
        stall_seconds=float(tables.periods["stall_s"].sum()),
        chunk_latency_ms=Percentiles(p50=400.0 * slower, p95=600.0 * slower, p99=700.0 * slower, max=745.0 * slower),
    )
    return Outcome(summary=summary, tables=tables), fleet, trace, plan


def seeded(outcome: Outcome, seed: int, factor: float) -> Outcome:
    """The same run with another seed, a little dearer."""
    dollars = outcome.summary.gpu_dollars * factor
    return replace(outcome, summary=replace(outcome.summary, seed=seed, gpu_dollars=dollars))


def _periods(trace: Trace, rng: np.random.Generator, slower: float) -> pl.DataFrame:
    rows = trace.periods.with_row_index("n").join(
        trace.sessions.with_row_index("session_index"), on="session_index", maintain_order="left"
    )
    count = rows.height
    seconds = (rows["end_us"] - rows["start_us"]) / 1e6
    stalled = rng.random(count) < 0.08 * slower
    return pl.DataFrame(
        {
            "session_id": rows["session_id"],
            "profile": rows["profile"],
            "start_s": rows["start_us"] / 1e6,
            "end_s": rows["end_us"] / 1e6,
            "first_chunk_ms": rng.gamma(4.0, 150.0 * slower, count),
            "chunks": (seconds / 0.75).cast(pl.Int64),
            "late_chunks": stalled.astype(np.int64),
            "stall_s": np.where(stalled, rng.exponential(0.8, count), 0.0),
            "unserved_s": np.zeros(count),
        },
        schema=PERIODS,
    )


def _stays(plan: OfflinePlan, rng: np.random.Generator) -> pl.DataFrame:
    rows: list[tuple[str, str, str | None, float, float]] = []
    for session, gpu, start, end in plan.placements.iter_rows():
        middle = start + (end - start) * 0.7
        suspended = min(middle + float(rng.exponential(30.0)), end)
        rows += [(session, "active", gpu, start, middle), (session, "idle", gpu, middle, suspended)]
        if suspended < end and rng.random() < 0.5:
            rows.append((session, "suspended", None, suspended, end))
        elif rng.random() < 0.05:
            rows.append((session, "waiting", None, suspended, end))
    return pl.DataFrame([row for row in rows if row[3] < row[4]], schema=STAYS, orient="row")


def _moves(plan: OfflinePlan) -> pl.DataFrame:
    rows = [
        (session, "migrate", source, target, at - 0.2, at - 0.1, at, 3.2, "balance", "done")
        for session, at, source, target in plan.moves.iter_rows()
    ]
    rows += [
        (session, "resume", None, gpu, start, start, start + 0.1, 3.2, "returned", "done")
        for session, gpu, start, _ in plan.placements.head(30).iter_rows()
    ]
    return pl.DataFrame(rows, schema=MOVES, orient="row")


def _gpus(plan: OfflinePlan, fleet: Fleet, horizon_s: float) -> pl.DataFrame:
    rows = [
        (gpu, kind, node, on, on + fleet.gpu_types[kind].startup_s, min(off, horizon_s), "stopped")
        for gpu, kind, node, on, off in plan.gpus.iter_rows()
        if on < horizon_s
    ]
    return pl.DataFrame(rows, schema=GPUS, orient="row")


def _epochs(plan: OfflinePlan, fleet: Fleet, trace: Trace, rng: np.random.Generator, slower: float) -> pl.DataFrame:
    start = np.arange(0, trace.horizon_us / 1e6, fleet.epoch_s)
    active = [int(((trace.periods["start_us"] <= s * 1e6) & (trace.periods["end_us"] > s * 1e6)).sum()) for s in start]
    paid = [int(((plan.gpus["on_s"] <= s) & (plan.gpus["off_s"] > s)).sum()) for s in start]
    p50 = slower * (350 + 60 * rng.random(len(start)))
    top = p50 * (1.6 + 0.3 * rng.random(len(start)))
    return pl.DataFrame(
        {
            "start_s": start,
            "active": active,
            "waiting": rng.poisson(0.1 * slower, len(start)),
            "idle": rng.poisson(2.0, len(start)),
            "suspended": rng.poisson(4.0, len(start)),
            "gpus_paid": paid,
            "gpus_ready": paid,
            "chunks": [6 * a for a in active],
            "late_chunks": rng.poisson(0.3 * (slower > 1), len(start)),
            "latency_ms_p50": p50,
            "latency_ms_p99": p50 * 1.55,
            "latency_ms_max": top,
        },
        schema=EPOCHS,
    )


def _decisions(plan: OfflinePlan, fleet: Fleet, trace: Trace, rng: np.random.Generator, slower: float) -> pl.DataFrame:
    at = np.arange(0, trace.horizon_us / 1e6, fleet.epoch_s)
    paid = np.array([int(((plan.gpus["on_s"] <= s) & (plan.gpus["off_s"] > s)).sum()) for s in at])
    return pl.DataFrame(
        {
            "at_s": at,
            "early": rng.random(len(at)) < 0.3,
            "planning_ms": slower * (4 + 2.5 * paid) * rng.lognormal(0, 0.35, len(at)),
            "solver": "pattern",
            "gap": np.where(rng.random(len(at)) < 0.6, 0.0, rng.exponential(0.02, len(at))),
            "fallback": pl.Series([None] * len(at), dtype=pl.String),
            "moves": 1,
            "starts": 0,
            "drains": 0,
        },
        schema=DECISIONS,
    )


def _latencies(rng: np.random.Generator, slower: float) -> pl.DataFrame:
    values = np.sort(rng.gamma(20.0, 20.0 * slower, 3000)).round(1)
    unique, counts = np.unique(values, return_counts=True)
    return pl.DataFrame({"latency_ms": unique, "chunks": counts}, schema=LATENCIES)
