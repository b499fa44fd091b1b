"""The numbers behind the pictures of a run: latency and lateness over time, distributions, planning by fleet size.

Decides what each curve is and how it is thinned to what a screen can show; must never know how it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scheduler.offline_plan import OfflinePlan
from scheduler.report.schedule import US_PER_S, microseconds
from scheduler.report.steps import Float, Int, Steps, steps_of
from scheduler.simulation.outcome import EPOCHS, Tables

BINS_MAX = 1000
CDF_POINTS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyOverTime:
    """Of chunks by when they were delivered, [bins] each; NaN where there was none."""

    edges_us: Int  # [bins + 1]: whole epochs
    epochs_per_bin: int
    worst_ms: Float
    p99_ms: Float  # of several epochs the largest
    p50_ms: Float  # of several epochs the mean, by chunks
    late_ratio: Float  # of chunks
    waiting_max: Float  # sessions, at the ends of epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Cdf:
    """`share` of all is at most `value`; both ascending, from a share of 0."""

    value: Float
    share: Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Steps by how many GPUs were paid at their time, [sizes] each."""

    gpus: Int
    steps: Int
    planning_ms_p50: Float  # NaN where no time was measured
    planning_ms_p99: Float
    gap_p50: Float  # NaN where no bound was proven
    gap_p99: Float


def latency_over_time(tables: Tables, horizon_s: float) -> LatencyOverTime:
    """Epochs put together, so many at a time that they fit on a screen."""
    epochs = tables.epochs
    if not epochs.height:  # cut short before the first one ended
        epochs = pl.DataFrame({name: [0.0] if name == "start_s" else [None] for name in EPOCHS}, schema=EPOCHS)
    per_bin = max(-(-epochs.height // BINS_MAX), 1)
    starts_us = microseconds(epochs["start_s"])[::per_bin]
    by_bin = epochs.with_columns(bin=pl.int_range(pl.len()) // per_bin, weight=pl.col("chunks").cast(pl.Float64))
    rows = by_bin.group_by("bin", maintain_order=True).agg(
        worst=pl.col("latency_ms_max").max(),
        p99=pl.col("latency_ms_p99").max(),
        p50=(pl.col("latency_ms_p50") * pl.col("weight")).sum() / pl.col("weight").sum(),
        late=pl.col("late_chunks").sum() / pl.max_horizontal(pl.col("chunks").sum(), pl.lit(1)),
        waiting=pl.col("waiting").max().fill_null(0),
    )
    return LatencyOverTime(
        edges_us=np.append(starts_us, max(round(horizon_s * US_PER_S), int(starts_us[-1]) + 1)),
        epochs_per_bin=per_bin,
        worst_ms=_floats(rows["worst"]),
        p99_ms=_floats(rows["p99"]),
        p50_ms=_floats(rows["p50"]),
        late_ratio=_floats(rows["late"]),
        waiting_max=_floats(rows["waiting"]),
    )


def latency_cdf(tables: Tables) -> Cdf:
    """Of all chunks."""
    return _thinned(_floats(tables.latencies["latency_ms"]), _floats(tables.latencies["chunks"]))


def first_chunk_cdf(tables: Tables) -> Cdf:
    """Of all periods that had a chunk, in milliseconds."""
    values = np.sort(_floats(tables.periods["first_chunk_ms"].drop_nulls()))
    return _thinned(values, np.ones(len(values)))


def stall_cdf(tables: Tables) -> Cdf:
    """Of all periods that had a chunk: seconds with an empty buffer; begins with the share that had none."""
    values = np.sort(_floats(tables.periods.filter(pl.col("first_chunk_ms").is_not_null())["stall_s"]))
    return _thinned(values, np.ones(len(values)))


def planning_by_size(tables: Tables) -> Planning:
    """The steps of a run, grouped by the GPUs that were paid when they were taken."""
    gpus = gpus_paid(tables)
    at = gpus.at(microseconds(tables.decisions["at_s"])).astype(np.int64)
    steps = tables.decisions.select("planning_ms", "gap").with_columns(gpus=pl.Series(at, dtype=pl.Int64))

    def quantile(name: str, share: float) -> pl.Expr:
        return pl.col(name).quantile(share, "nearest")

    rows = steps.group_by("gpus").agg(
        steps=pl.len(),
        planning_p50=quantile("planning_ms", 0.5),
        planning_p99=quantile("planning_ms", 0.99),
        gap_p50=quantile("gap", 0.5),
        gap_p99=quantile("gap", 0.99),
    )
    rows = rows.sort("gpus")
    return Planning(
        gpus=rows["gpus"].to_numpy(),
        steps=rows["steps"].cast(pl.Int64).to_numpy(),
        planning_ms_p50=_floats(rows["planning_p50"]),
        planning_ms_p99=_floats(rows["planning_p99"]),
        gap_p50=_floats(rows["gap_p50"]),
        gap_p99=_floats(rows["gap_p99"]),
    )


def gpus_paid(tables: Tables) -> Steps:
    """GPUs paid at each instant."""
    return steps_of(microseconds(tables.gpus["on_s"]), microseconds(tables.gpus["off_s"]))


def gpus_planned(optimum: OfflinePlan) -> Steps:
    """GPUs on in an offline plan at each instant."""
    return steps_of(microseconds(optimum.gpus["on_s"]), microseconds(optimum.gpus["off_s"]))


def active_sessions(tables: Tables) -> Steps:
    """Sessions that want chunks at each instant."""
    return steps_of(microseconds(tables.periods["start_s"]), microseconds(tables.periods["end_s"]))


def _thinned(values: Float, weights: Float) -> Cdf:
    """The distribution at evenly spaced shares, and ever more finely towards the end, where the late ones are."""
    if not len(values):
        return Cdf(value=np.zeros(0), share=np.zeros(0))
    share = np.cumsum(weights) / weights.sum()
    last = np.append(values[1:] != values[:-1], True)
    values, share = values[last], share[last]
    if len(values) > CDF_POINTS_MAX:
        half = CDF_POINTS_MAX // 2
        wanted = np.concatenate([np.linspace(0, 1, half), 1 - np.logspace(-1, -6, half)])
        index = np.unique(np.append(np.searchsorted(share, wanted), len(values) - 1))
        values, share = values[np.minimum(index, len(values) - 1)], share[np.minimum(index, len(values) - 1)]
    return Cdf(value=np.append(values[:1], values), share=np.append(0.0, share))


def _floats(column: pl.Series) -> Float:
    """Null is NaN."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
