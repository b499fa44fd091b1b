"""Azure LLM inference traces: one row per request, with its time and its numbers of tokens.

Decides how requests of unknown users become arrivals, or sessions of one period; must never know a fleet.
Source: github.com/Azure/AzurePublicDataset, AzureLLMInferenceTrace_conv.csv (Patel et al., Splitwise, ISCA 2024).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from traces.assemble import trace_from_periods
from traces.demand import SECOND_US, Arrivals
from traces.errors import BadInputError
from traces.importers.mapping import RequestMapping
from traces.importers.rawfile import raw_csv
from traces.trace import Trace

_COLUMNS: dict[str, type[pl.DataType]] = {"TIMESTAMP": pl.String, "GeneratedTokens": pl.Int64}


def azure_arrivals(path: Path) -> Arrivals:
    """The times of all requests, from the first one."""
    times = _times_us(_rows(path))
    return Arrivals(
        name=path.name,
        length_us=int(-(-(times[-1] + 1) // (60 * SECOND_US))) * 60 * SECOND_US,
        times_us=times,
        tenant_index=np.zeros(len(times), dtype=np.int64),
        tenants=("",),
    )


def azure_trace(path: Path, mapping: RequestMapping | None = None) -> Trace:
    """Each request as a session of one period, as long as its output tokens take; those without output are left out."""
    mapping = mapping or RequestMapping()
    rows = _rows(path)
    start = _times_us(rows) / SECOND_US
    length = rows["GeneratedTokens"].to_numpy() * mapping.token_s
    ids = pl.Series("session_id", range(len(start))).cast(pl.String).str.zfill(len(str(len(start))))
    table = pl.DataFrame([ids, pl.Series("start_s", start), pl.Series("end_s", start + length)])
    return trace_from_periods(table.filter(length > 0), name=path.name)


def _rows(path: Path) -> pl.DataFrame:
    """`line`, `at` (datetime, microseconds) and GeneratedTokens, sorted by time."""
    rows = raw_csv(path, _COLUMNS)
    at = rows["TIMESTAMP"].str.slice(0, 26).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    if at.null_count():
        first = rows.filter(at.is_null()).row(0, named=True)
        message = f"TIMESTAMP={first['TIMESTAMP']} must look like 2023-11-16 18:15:46.6805900"
        raise BadInputError.of(str(path), message, first["line"])
    return rows.with_columns(at.alias("at")).sort("at", maintain_order=True)


def _times_us(rows: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    at = rows["at"].cast(pl.Int64).to_numpy()
    return np.asarray(at - at[0])
