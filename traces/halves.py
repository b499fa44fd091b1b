"""Traces from one half of the demand alone: bodies without arrivals, arrivals without bodies.

Decides what stands in for the missing half; must never know which set the other half is from.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from traces.assemble import trace_from_periods
from traces.demand import SECOND_US, Arrivals, Bodies
from traces.trace import Trace


def trace_of_bodies(bodies: Bodies, *, spacing_s: float = 0.0) -> Trace:
    """Every body once, in order, one opening every `spacing_s` seconds (0: all at the start)."""
    body = np.repeat(np.arange(bodies.count), np.diff(bodies.offsets))
    start_s = bodies.start_us / SECOND_US + body * spacing_s
    end_s = bodies.end_us / SECOND_US + body * spacing_s
    return _trace(bodies.name, pl.Series(body), pl.Series(start_s), pl.Series(end_s))


def trace_of_arrivals(arrivals: Arrivals, *, active_s: float) -> Trace:
    """Every arrival as a session of one period of `active_s` seconds."""
    start = pl.Series(arrivals.times_us / SECOND_US)
    tenant = pl.Series("tenant", arrivals.tenants).gather(arrivals.tenant_index)
    return _trace(arrivals.name, pl.Series(np.arange(len(start))), start, start + active_s, tenant)


def _trace(name: str, index: pl.Series, start: pl.Series, end: pl.Series, *more: pl.Series) -> Trace:
    ids = "s" + index.cast(pl.String).str.zfill(len(str(len(index))))
    columns = [ids.alias("session_id"), start.alias("start_s"), end.alias("end_s"), *more]
    return trace_from_periods(pl.DataFrame(columns).sort("start_s", "session_id"), name=name)
