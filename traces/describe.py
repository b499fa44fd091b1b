"""What a trace looks like in numbers: durations, duty, gaps, concurrency, burstiness.

Decides how each statistic is defined; must never know how it is shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from traces.demand import SECOND_US, Floats, Ints, arrivals_of
from traces.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Of one quantity; linear interpolation, NaN-free: all zero where there is nothing to measure."""

    count: int
    mean: float
    p10: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """Sessions at once over [0, horizon)."""

    mean: float
    peak: int
    peak_to_mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Burstiness:
    """Of the openings of sessions. An index of dispersion is variance over mean of the counts per interval."""

    per_minute_mean: float
    per_minute_max: int
    dispersion_60s: float  # 1 for a Poisson process
    dispersion_1s: float
    interarrival_cv: float  # coefficient of variation of the time between openings


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCount:
    """The part of one profile; None is the fleet's default."""

    profile: str | None
    sessions: int
    periods: int
    active_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The statistics of a trace; times in seconds."""

    name: str
    sha256: str
    horizon_s: float
    sessions: int
    periods: int
    tenants: int
    duration_s: Quantiles  # first start to last end of a session
    active_s: Quantiles  # of each active period
    idle_s: Quantiles  # of each gap between two periods of a session
    periods_per_session: Quantiles
    duty: float  # active time over open time, of all sessions together
    duty_median: float  # of the sessions' own
    active: Concurrency
    open: Concurrency  # active or idle
    arrivals: Burstiness
    profiles: tuple[ProfileCount, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the names of the fields as keys."""
        return dataclasses.asdict(self)


def describe(trace: Trace) -> Description:
    """The statistics of a trace; the window is [0, horizon)."""
    periods = trace.periods.sort("session_index", "start_us")
    session, start, end = (periods[column].cast(pl.Int64).to_numpy() for column in periods.columns)
    opens = np.flatnonzero(np.diff(session, prepend=-1))
    last = np.append(opens[1:], len(session)) - 1
    first_us, last_us = start[opens], end[last]
    active_us = np.add.reduceat(end - start, opens)
    gaps = (start[1:] - end[:-1])[np.diff(session) == 0]
    return Description(
        name=trace.name,
        sha256=trace.sha256,
        horizon_s=trace.horizon_us / SECOND_US,
        sessions=trace.session_count,
        periods=trace.period_count,
        tenants=trace.sessions["tenant"].drop_nulls().n_unique(),
        duration_s=quantiles((last_us - first_us) / SECOND_US),
        active_s=quantiles((end - start) / SECOND_US),
        idle_s=quantiles(gaps / SECOND_US),
        periods_per_session=quantiles(np.diff(np.append(opens, len(session))).astype(np.float64)),
        duty=float(active_us.sum() / (last_us - first_us).sum()),
        duty_median=float(np.median(active_us / (last_us - first_us))),
        active=concurrency(start, end, trace.horizon_us),
        open=concurrency(first_us, last_us, trace.horizon_us),
        arrivals=_burstiness(trace),
        profiles=_profiles(trace),
        warnings=trace.warnings,
    )


def quantiles(values: Floats) -> Quantiles:
    """The quantiles of a sample; zeros for an empty one."""
    if not len(values):
        return Quantiles(count=0, mean=0.0, p10=0.0, p50=0.0, p90=0.0, p99=0.0, max=0.0)
    p10, p50, p90, p99 = (float(value) for value in np.quantile(values, (0.1, 0.5, 0.9, 0.99)))
    return Quantiles(
        count=len(values), mean=float(values.mean()), p10=p10, p50=p50, p90=p90, p99=p99, max=float(values.max())
    )


def steps(start_us: Ints, end_us: Ints) -> tuple[Ints, Ints]:
    """Times at which the number of open intervals changes, and the number from then on; intervals are half-open."""
    at = np.concatenate((start_us, end_us))
    change = np.repeat(np.array([1, -1], dtype=np.int64), len(start_us))
    order = np.argsort(at, kind="stable")
    at, level = at[order], np.cumsum(change[order])
    final = np.append(at[1:] != at[:-1], True)
    return at[final], level[final]


def concurrency(start_us: Ints, end_us: Ints, horizon_us: int) -> Concurrency:
    """How many intervals are open at once."""
    mean = float((end_us - start_us).sum() / horizon_us)
    peak = int(steps(start_us, end_us)[1].max())
    return Concurrency(mean=mean, peak=peak, peak_to_mean=peak / mean)


def dispersion(times_us: Ints, length_us: int, interval_s: int) -> float:
    """Variance over mean of the counts in whole intervals; 0 where there is not one whole interval."""
    counts = _counts(times_us, length_us, interval_s)
    return float(counts.var() / counts.mean()) if len(counts) and counts.any() else 0.0


def _counts(times_us: Ints, length_us: int, interval_s: int) -> Ints:
    whole = length_us // (interval_s * SECOND_US)
    return np.bincount(times_us // (interval_s * SECOND_US), minlength=whole)[:whole]


def _burstiness(trace: Trace) -> Burstiness:
    arrivals = arrivals_of(trace)
    times, length = arrivals.times_us, int(arrivals.times_us[-1]) + 1
    minutes: Sequence[int] | Ints = _counts(times, length, 60)
    between = np.diff(times)
    return Burstiness(
        per_minute_mean=len(times) / (length / (60 * SECOND_US)),
        per_minute_max=int(max(minutes, default=len(times))),
        dispersion_60s=dispersion(times, length, 60),
        dispersion_1s=dispersion(times, length, 1),
        interarrival_cv=float(between.std() / between.mean()) if len(between) and between.any() else 0.0,
    )


def _profiles(trace: Trace) -> tuple[ProfileCount, ...]:
    index = trace.periods["session_index"]
    rows = trace.periods.select(
        trace.sessions["profile"].gather(index),
        (pl.col("end_us") - pl.col("start_us")).alias("active_us"),
        "session_index",
    )
    grouped = rows.group_by("profile").agg(
        pl.col("session_index").n_unique().alias("sessions"), pl.len().alias("periods"), pl.col("active_us").sum()
    )
    ordered = grouped.sort(pl.col("sessions"), pl.col("profile"), descending=[True, False])
    return tuple(
        ProfileCount(profile=profile, sessions=sessions, periods=periods, active_hours=active_us / SECOND_US / 3600)
        for profile, sessions, periods, active_us in ordered.rows()
    )
