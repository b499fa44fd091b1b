"""kv-cache-tester: recorded agentic coding sessions, one row per request with its time of service.

Decides which requests make a session body; must never know when sessions come, for the set has no absolute times.
Source: github.com/callanjfox/kv-cache-tester, traces/ flattened to one CSV row per request.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from traces.assemble import microseconds
from traces.demand import Bodies, bodies_from_periods
from traces.importers.mapping import RequestMapping, periods_from_requests
from traces.importers.rawfile import raw_csv

_COLUMNS: dict[str, type[pl.DataType]] = {
    "trace_id": pl.String,
    "agent_id": pl.String,
    "agent_start": pl.Float64,
    "t": pl.Float64,
    "api_time": pl.Float64,
}


def kv_cache_tester_bodies(path: Path, mapping: RequestMapping | None = None, *, agents: bool = False) -> Bodies:
    """One body per recorded session, cut at long gaps; active while a request is served.

    Requests without a time of service get the median one. `agents` adds the requests of nested agents (same clock).
    """
    rows = raw_csv(path, _COLUMNS, nullable=("agent_id", "agent_start", "api_time"))
    rows = rows.with_columns(pl.col("api_time").fill_null(rows["api_time"].median()))
    if not agents:
        rows = rows.filter(pl.col("agent_id").is_null())
    start = (rows["t"] + rows["agent_start"].fill_null(0.0)).to_numpy()
    end = start + rows["api_time"].to_numpy()
    group = rows["trace_id"].rank("dense").cast(pl.Int64).to_numpy()
    periods = periods_from_requests(group, microseconds(start), microseconds(end), mapping or RequestMapping())
    return bodies_from_periods(path.name, *periods)
