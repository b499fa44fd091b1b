"""An offline plan: a schedule for a whole trace, with its certificate.

Decides what a finished plan holds and how its numbers are named (the plan folder mirrors it field by field); must never
know how it was found or where it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from scheduler.fleet import Fleet

Minimize = Literal["cost", "latency"]

GPUS_SCHEMA: dict[str, type[pl.DataType]] = {
    "gpu_id": pl.String,
    "gpu_type": pl.String,
    "node": pl.String,  # "<pool index>/<node index>"
    "on_s": pl.Float64,  # paid from here, a multiple of epoch_s, negative back to the start-up
    "off_s": pl.Float64,  # to here
}
PLACEMENTS_SCHEMA: dict[str, type[pl.DataType]] = {
    "session_id": pl.String,
    "gpu_id": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
}
NEEDED_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "epoch": pl.Int64,
    "at_s": pl.Float64,
    "weights": pl.List(pl.Float64),  # one per profile, in the fleet's order
    "type_weights": pl.List(pl.Float64),  # one per GPU type, in the fleet's order
}
FRONTIER_SCHEMA: dict[str, type[pl.DataType]] = {
    "target_ms": pl.Float64,
    "total_dollars": pl.Float64,
    "bound_dollars": pl.Float64,
    "gap": pl.Float64,
    "status": pl.String,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What the schedule costs and what its users feel."""

    total_dollars: float
    gpu_dollars: float
    move_dollars: float
    gpu_hours: float
    chunk_latency_ms_max: float  # of f_g over all GPUs and instants
    chunk_latency_ms_mean: float  # of f_g, weighted by session-seconds
    late_session_seconds: float
    unserved_session_seconds: float
    migrations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """How far from optimal the plan can be, and by which argument."""

    status: Literal["optimal", "feasible"]  # optimal only if every gap is <= 1e-6
    method: str  # one sentence
    gap: float  # (value - bound) / value of the minimised quantity
    bound_unserved_session_seconds: float
    bound_late_session_seconds: float
    bound_dollars: float | None = None  # minimize cost
    bound_latency_ms: float | None = None  # minimize latency
    bound_mean_latency_ms: float | None = None
    gap_mean: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverReport:
    """Who answered, and why it stopped."""

    name: str
    end_reason: str
    seed: int
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflinePlan:
    """A checked schedule for one trace on one fleet."""

    trace_name: str
    trace_sha256: str
    sessions: int
    periods: int
    horizon_s: float
    fleet: Fleet  # effective: defaults filled in, overrides applied
    overrides: Mapping[str, str]  # fleet key -> where it was overridden
    minimize: Minimize
    objective: Objective
    certificate: Certificate
    solver: SolverReport
    seconds: float  # wall time of planning
    gpus: pl.DataFrame = field(repr=False)  # GPUS_SCHEMA
    placements: pl.DataFrame = field(repr=False)  # PLACEMENTS_SCHEMA
    needed: pl.DataFrame = field(repr=False)  # NEEDED_SCHEMA
    frontier: pl.DataFrame | None = field(default=None, repr=False)  # FRONTIER_SCHEMA

    @property
    def gap(self) -> float:
        return self.certificate.gap
