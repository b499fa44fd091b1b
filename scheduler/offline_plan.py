"""An offline plan: a schedule for a whole trace, with its certificate.

Decides what a finished plan holds and how its numbers are named (the plan folder mirrors it field by field); must never
know how it was found or where it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Literal

import polars as pl

from scheduler.fleet import Fleet
from scheduler.state import FleetState

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
MOVES_SCHEMA: dict[str, type[pl.DataType]] = {
    "session_id": pl.String,
    "at_s": pl.Float64,
    "source": pl.String,  # GPU ids
    "target": pl.String,
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
    state: FleetState | None = field(default=None, repr=False)  # what held at time 0, where the plan began from it

    @property
    def gap(self) -> float:
        """(value - bound) / value of the minimised quantity."""
        return self.certificate.gap

    @property
    def moves(self) -> pl.DataFrame:
        """Migrations in the order of time; MOVES_SCHEMA.

        Moves after an unserved interruption are left out: placements alone do not tell them from a resumption.
        """
        previous = pl.col("gpu_id").shift().over("session_id", order_by="start_s").alias("source")
        ended_s = pl.col("end_s").shift().over("session_id", order_by="start_s").alias("ended_s")
        moved = (pl.col("source") != pl.col("gpu_id")) & ((pl.col("start_s") - pl.col("ended_s")).abs() < 5e-7)
        rows = self.placements.with_columns(previous, ended_s).filter(moved).sort("start_s", "session_id")
        return rows.select("session_id", at_s="start_s", source="source", target="gpu_id")

    def to_polars(self) -> dict[str, pl.DataFrame]:
        """Every table of the plan by name: gpus, placements, moves, needed, and frontier where there is one."""
        tables = {"gpus": self.gpus, "placements": self.placements, "moves": self.moves, "needed": self.needed}
        return tables if self.frontier is None else tables | {"frontier": self.frontier}

    def headline(self) -> dict[str, str]:
        """The figures people ask for first, in words and units."""
        goal, proof = self.objective, self.certificate
        name = self.trace_name or self.trace_sha256[:12]
        parts = f"GPUs {_dollars(goal.gpu_dollars)}, moves {_dollars(goal.move_dollars)}"
        rows = {
            "Trace": f"{name}: {self.sessions:,} sessions, {self.periods:,} periods",
            "Status": f"{proof.status} ({self.solver.name}: {self.solver.end_reason})",
            "Total": f"{_dollars(goal.total_dollars)} ({parts})",
        }
        if proof.bound_dollars is not None:
            rows["Bound"] = f"{_dollars(proof.bound_dollars)}, gap {proof.gap:.4%}"
        rows["GPU hours"] = f"{goal.gpu_hours:,.2f}"
        rows["Chunk latency"] = (
            f"{goal.chunk_latency_ms_max:,.1f} ms at most, {goal.chunk_latency_ms_mean:,.1f} ms mean"
        )
        if proof.bound_latency_ms is not None:
            rows["Latency bound"] = f"{proof.bound_latency_ms:,.1f} ms, gap {proof.gap:.4%}"
        rows["Migrations"] = f"{goal.migrations:,}"
        rows["Late"] = f"{goal.late_session_seconds:,.1f} session-seconds"
        rows["Unserved"] = f"{goal.unserved_session_seconds:,.1f} session-seconds"
        return rows

    def _repr_html_(self) -> str:
        cells = (f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in self.headline().items())
        return f"<table>{''.join(cells)}</table>"


def _dollars(amount: float) -> str:
    """Cents, and hundredths of them below $100."""
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:,.4f}"
