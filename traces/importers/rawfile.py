"""Raw public files, read with the same care as ours.

Decides which columns must be there and how a bad value is told; must never know what the columns mean.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from traces.errors import FINDINGS_SHOWN_MAX, BadInputError, Finding
from traces.store import gunzip, read_bytes


def raw_bytes(path: Path) -> bytes:
    """The file's bytes, decompressed where its name ends in .gz."""
    data = read_bytes(path)
    return gunzip(data, str(path)) if path.name.lower().endswith(".gz") else data


def raw_csv(path: Path, columns: Mapping[str, type[pl.DataType]], nullable: Collection[str] = ()) -> pl.DataFrame:
    """The wanted columns of a CSV file in their types, with `line`; raises `BadInputError` for unfit values."""
    source = str(path)
    try:
        frame = pl.read_csv(io.BytesIO(raw_bytes(path)), infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise BadInputError.of(source, f"file must be CSV: {str(error).splitlines()[0]}") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        there = ", ".join(frame.columns[:12])
        raise BadInputError(
            [
                Finding(source=source, line=1, message=f"column={name} must be present; there are {there}")
                for name in missing
            ]
        )
    if not frame.height:
        raise BadInputError.of(source, "rows=0 must be at least 1")
    typed = frame.select([pl.col(name).cast(dtype, strict=False) for name, dtype in columns.items()])
    typed = typed.with_row_index("line", offset=2)
    found: list[Finding] = []
    total = 0
    for name, dtype in columns.items():
        bad = typed[name].is_null() & (frame[name].is_not_null() if name in nullable else True)
        if dtype == pl.Float64:
            bad |= ~typed[name].fill_null(0.0).is_finite()
        total += int(bad.sum())
        shown = pl.DataFrame([typed["line"], frame[name]]).filter(bad).head(FINDINGS_SHOWN_MAX)
        kind = "a finite number" if dtype.is_numeric() else "given"
        found += [
            Finding(source=source, line=line, message=f"{name}={value or ''} must be {kind}")
            for line, value in shown.rows()
        ]
    if found:
        raise BadInputError(sorted(found, key=lambda finding: finding.line or 0), total)
    return typed
