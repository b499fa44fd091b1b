"""What a simulated run leaves behind: its tables, and the summary of `epochal.summary/1`.

Decides which figures there are and how they are named; must never know how they came about.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from html import escape
from typing import Any

import polars as pl

PERIODS: dict[str, type[pl.DataType]] = {  # one row per active period, in the trace's order
    "session_id": pl.String,
    "profile": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "first_chunk_ms": pl.Float64,  # null: there was none
    "chunks": pl.Int64,
    "late_chunks": pl.Int64,  # the first is not counted
    "stall_s": pl.Float64,
    "unserved_s": pl.Float64,  # waiting, on no GPU
}
STAYS: dict[str, type[pl.DataType]] = {  # where sessions were: one row per uninterrupted stay in one status
    "session_id": pl.String,
    "status": pl.String,  # active, idle, suspended, waiting
    "gpu_id": pl.String,  # null: suspended or waiting
    "start_s": pl.Float64,
    "end_s": pl.Float64,
}
MOVES: dict[str, type[pl.DataType]] = {
    "session_id": pl.String,
    "kind": pl.String,
    "source": pl.String,  # null: host memory, or no state yet
    "target": pl.String,  # null: host memory
    "start_s": pl.Float64,  # from here on both sides hold the state
    "freeze_s": pl.Float64,  # from here on it travels; null: it was over before
    "end_s": pl.Float64,
    "gib": pl.Float64,  # 0 for a place
    "reason": pl.String,
    "result": pl.String,  # done, failed, cancelled (the session closed)
}
GPUS: dict[str, type[pl.DataType]] = {  # one row per time on
    "gpu_id": pl.String,
    "gpu_type": pl.String,
    "node": pl.String,
    "on_s": pl.Float64,  # paid from here on; negative where it starts up before the trace begins
    "ready_s": pl.Float64,  # null: it was off or lost before
    "off_s": pl.Float64,
    "end": pl.String,  # stopped, lost, horizon
}
EPOCHS: dict[str, type[pl.DataType]] = {  # one row per control epoch
    "start_s": pl.Float64,
    "active": pl.Int64,  # at the end of the epoch, as the next three
    "waiting": pl.Int64,
    "idle": pl.Int64,
    "suspended": pl.Int64,
    "gpus_paid": pl.Int64,  # at the end of the epoch
    "gpus_ready": pl.Int64,
    "chunks": pl.Int64,  # delivered in the epoch
    "late_chunks": pl.Int64,
    "latency_ms_p50": pl.Float64,  # null: no chunk
    "latency_ms_p99": pl.Float64,
    "latency_ms_max": pl.Float64,
}
DECISIONS: dict[str, type[pl.DataType]] = {  # one row per step
    "at_s": pl.Float64,  # of the snapshot
    "early": pl.Boolean,
    "planning_ms": pl.Float64,  # measured; null where no clock was given
    "solver": pl.String,
    "gap": pl.Float64,  # of the headline tier; null: nothing proved a bound
    "fallback": pl.String,  # null: nothing went wrong
    "moves": pl.Int64,
    "starts": pl.Int64,
    "drains": pl.Int64,
}
LATENCIES: dict[str, type[pl.DataType]] = {  # the distribution of chunk latencies over the run, ascending
    "latency_ms": pl.Float64,
    "chunks": pl.Int64,
}
ROUNDS: dict[str, type[pl.DataType]] = {  # runs of equal batch rounds, where asked for
    "gpu_id": pl.String,
    "start_s": pl.Float64,  # of the first
    "every_s": pl.Float64,  # from one begin to the next; 0 where there is one only
    "rounds": pl.Int64,
    "latency_ms": pl.Float64,
    "sessions": pl.Int64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """By nearest rank: the smallest value that at least that share of all is no larger than; 0 where there is none."""

    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one run, in the units of their names; as JSON it is `epochal.summary/1`."""

    trace: str
    fleet: str
    policy: str
    seed: int
    horizon_s: float
    sessions: int
    chunks: int
    gpu_dollars: float
    gpu_hours: float
    gpus_max: int  # paid at once
    chunk_latency_ms: Percentiles
    first_chunk_ms: Percentiles
    late_first_chunk_ratio: float
    late_chunk_ratio: float
    stall_seconds: float
    continuous_play_ratio: float
    unserved_session_seconds: float
    migrations: int
    migrated_gib: float
    resumes: int
    gap: Percentiles  # of the headlines of all decisions that proved a bound
    fallbacks: int
    planning_ms: Percentiles  # measured; 0 where no clock was given
    seconds: float  # the run took, measured; 0 where no clock was given

    def to_json(self) -> dict[str, Any]:
        """In the order and with the keys of `epochal.summary/1`; `timing` is all that may differ between equal runs."""
        fields = asdict(self)
        planning_ms, seconds = fields.pop("planning_ms"), fields.pop("seconds")
        del fields["first_chunk_ms"]["p95"], fields["gap"]["p95"], planning_ms["p95"]
        return {"format": "epochal.summary/1", **fields, "timing": {"planning_ms": planning_ms, "seconds": seconds}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The run in full; schemas are those of this module."""

    periods: pl.DataFrame
    stays: pl.DataFrame
    moves: pl.DataFrame
    gpus: pl.DataFrame
    epochs: pl.DataFrame
    decisions: pl.DataFrame
    latencies: pl.DataFrame
    rounds: pl.DataFrame | None  # only where asked for

    def by_name(self) -> dict[str, pl.DataFrame]:
        """Those that there are."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: table for name, table in found.items() if table is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One simulated run."""

    summary: Summary
    tables: Tables

    def to_polars(self) -> dict[str, pl.DataFrame]:
        """Every table of the run by name."""
        return self.tables.by_name()

    def headline(self) -> dict[str, str]:
        """The figures people ask for first, in words and units."""
        run = self.summary
        chunk, first, plan = run.chunk_latency_ms, run.first_chunk_ms, run.planning_ms
        return {
            "Run": f"{run.policy} on {run.trace}, fleet {run.fleet or '-'}, seed {run.seed}",
            "Demand": f"{run.sessions:,} sessions, {run.chunks:,} chunks in {run.horizon_s / 3600:,.2f} h",
            "GPUs": f"${run.gpu_dollars:,.2f} for {run.gpu_hours:,.2f} h, {run.gpus_max:,} at most",
            "Chunk latency": f"p50 {chunk.p50:,.0f}, p99 {chunk.p99:,.0f}, max {chunk.max:,.0f} ms",
            "First chunk": f"p50 {first.p50:,.0f}, p99 {first.p99:,.0f}, max {first.max:,.0f} ms",
            "Late": f"{run.late_chunk_ratio:.3%} of chunks, {run.late_first_chunk_ratio:.3%} of first chunks",
            "Stalls": f"{run.stall_seconds:,.1f} s; {run.continuous_play_ratio:.2%} of periods play without one",
            "Unserved": f"{run.unserved_session_seconds:,.1f} session-seconds",
            "Moves": f"{run.migrations:,} migrations ({run.migrated_gib:,.1f} GiB), {run.resumes:,} resumes",
            "Gap": f"p50 {run.gap.p50:.2%}, p99 {run.gap.p99:.2%}, max {run.gap.max:.2%}; {run.fallbacks:,} fallbacks",
            "Planning": f"p50 {plan.p50:,.1f}, p99 {plan.p99:,.1f}, max {plan.max:,.1f} ms",
            "Took": f"{run.seconds:,.1f} s",
        }

    def _repr_html_(self) -> str:
        cells = (f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in self.headline().items())
        return f"<table>{''.join(cells)}</table>"
