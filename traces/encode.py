"""How a trace becomes bytes: equal traces give equal bytes in every format.

Decides columns, their order and number formats on writing; must never know paths or how a trace is checked.
"""

from __future__ import annotations

import gzip
import io

import numpy as np
import polars as pl
from numpy.typing import NDArray

from traces.columns import OPTIONAL

_MICROSECONDS = 1e6
_GZIP_LEVEL = 6


def trace_table(sessions: pl.DataFrame, periods: pl.DataFrame) -> pl.DataFrame:
    """One row per period in the order of `periods`; optional columns only where some session uses them."""
    index = periods["session_index"]
    used = [name for name in OPTIONAL if _used(sessions[name])]
    return pl.DataFrame(
        [
            sessions["session_id"].gather(index),
            pl.Series("start_s", seconds(periods["start_us"])),
            pl.Series("end_s", seconds(periods["end_us"])),
            *(sessions[name].gather(index) for name in used),
        ]
    )


def seconds(times_us: pl.Series) -> NDArray[np.float64]:
    """The float nearest to each time (polars multiplies by 1e-6, which is not: 1.099169 becomes 1.0991689999999998)."""
    return times_us.to_numpy() / _MICROSECONDS


def _used(column: pl.Series) -> bool:
    return bool((column != 0).any()) if column.dtype.is_integer() else column.null_count() < len(column)


def csv_bytes(table: pl.DataFrame) -> bytes:
    """UTF-8 with a header; shortest decimals that give the same microsecond."""
    return table.write_csv().encode()


def jsonl_bytes(table: pl.DataFrame) -> bytes:
    """One JSON object per line."""
    return table.write_ndjson().encode()


def parquet_bytes(table: pl.DataFrame) -> bytes:
    """One Parquet file, zstd-compressed."""
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd", compression_level=9, statistics=True)
    return buffer.getvalue()


def gzip_bytes(data: bytes) -> bytes:
    """Compressed without a name or a time, which would make equal input differ."""
    return gzip.compress(data, compresslevel=_GZIP_LEVEL, mtime=0)
