"""How bytes become a table of rows with their line numbers, before anything is known to be right about them.

Decides what a readable row is (quoting, encoding, one JSON object per line); must never know what a period is. Text is
read by polars where the whole file is plain, and by the standard library, in batches, where it is not: the second way
is slower, and knows the line of everything that it refuses.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from traces.columns import COLUMNS, OPTIONAL, REQUIRED, column_findings, unknown_column
from traces.errors import FINDINGS_SHOWN_MAX, BadInputError, Finding

_BATCH_ROWS = 100_000
_FIELD_CHARACTERS_MAX = 1 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON can write it, UTF-8 cannot
_NUMBERS = (pl.Int64, pl.Float64, pl.Int32)
_CSV_TYPES: dict[str, type[pl.DataType]] = {"start_s": pl.Float64, "end_s": pl.Float64, "priority": pl.Int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows as they were found: columns are a subset of `COLUMNS`, as text or in the file's own types."""

    frame: pl.DataFrame = field(repr=False)
    first_line: int  # of the first row, where rows are on consecutive lines
    lines: pl.Series | None = field(default=None, repr=False)  # of each row, where they are not


def decode_csv(data: bytes, source: str) -> Rows:
    """Rows of a CSV file with a header on line 1; blank lines are skipped."""
    data = _text(data, source)
    unix = data.replace(b"\r\n", b"\n") if b"\r" in data else data
    return _plain_csv(unix) or _careful_csv(data, source)


def _plain_csv(data: bytes) -> Rows | None:
    """Read by polars; None where quotes, blank lines, or anything unexpected ask for care."""
    if b'"' in data or b"\r" in data:
        return None
    end = data.find(b"\n")
    names = data[: end if end >= 0 else len(data)].decode().split(",")
    if set(names) - set(COLUMNS) or len(set(names)) != len(names) or not set(REQUIRED) <= set(names):
        return None
    try:
        frame = pl.read_csv(data, schema={name: _CSV_TYPES.get(name, pl.String) for name in names}, quote_char=None)
    except pl.exceptions.PolarsError:
        return None
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    whole = data.count(b",") == (len(names) - 1) * (frame.height + 1) and lines == frame.height + 1
    return Rows(frame=frame, first_line=2) if whole else None


def _careful_csv(data: bytes, source: str) -> Rows:
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
    limit = csv.field_size_limit(_FIELD_CHARACTERS_MAX)
    try:
        return _csv_rows(csv.reader(text, strict=True), source)
    finally:
        csv.field_size_limit(limit)


def _csv_rows(reader: Any, source: str) -> Rows:
    """The rows of a `csv.reader`; raises with all rows that do not have the header's number of fields."""
    found: list[Finding] = []
    header: list[str] | None = None
    total, frames, lines = 0, [], []
    for numbers, rows in _csv_batches(reader, source):
        if header is None:
            header = rows.pop(0)
            numbers.pop(0)
            if wrong := column_findings(header, source, 1):
                raise BadInputError(wrong)
        width = len(header)
        for number, row in zip(numbers, rows, strict=True):
            if len(row) != width:
                total += 1
                if len(found) < FINDINGS_SHOWN_MAX:
                    message = f"fields={len(row)} must be {width}, as in the header"
                    found.append(Finding(source=source, line=number, message=message))
        if not found:
            frames.append(pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row"))
            lines.append(pl.Series("line", numbers, dtype=pl.UInt32))
    if found:
        raise BadInputError(found, total)
    if header is None:
        raise BadInputError.of(source, f"column={REQUIRED[0]} must be present; the file is empty", 1)
    return Rows(frame=pl.concat(frames), first_line=2, lines=pl.concat(lines))


def _csv_batches(reader: Any, source: str) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Line numbers (of each row's first line) and rows that are not blank."""
    numbers: list[int] = []
    rows: list[list[str]] = []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise BadInputError.of(source, f"row must be well-formed CSV: {error}", line) from error
        if row:
            numbers.append(line)
            rows.append(row)
        if rows and (row is None or len(rows) >= _BATCH_ROWS):
            yield numbers, rows
            numbers, rows = [], []
        if row is None:
            return


def decode_jsonl(data: bytes, source: str) -> Rows:
    """Rows of a file with one JSON object per line; blank lines are skipped."""
    data = _text(data, source)
    return _plain_jsonl(data) or _careful_jsonl(data, source)


def _plain_jsonl(data: bytes) -> Rows | None:
    """Read by polars; None where a type, a key or a count is not what a plain file has."""
    if b"\\ud" in data or b"\\uD" in data:  # halves of characters, which polars does not pair
        return None
    try:
        frame = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return None
    names, rows = frame.columns, frame.height
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    if lines != rows or set(names) - set(COLUMNS) or not set(REQUIRED) <= set(names):
        return None
    for name in names:
        dtype, times = frame.schema[name], data.count(f'"{name}"'.encode())
        if name in OPTIONAL and frame[name].null_count() == rows:
            continue
        numeric = name in _CSV_TYPES
        if times != rows or dtype not in (_NUMBERS if numeric else (pl.String,)):
            return None
        texts = sum(data.count(f'"{name}":{space}"'.encode()) for space in ("", " "))
        if not numeric and texts != rows - frame[name].null_count():
            return None
    return Rows(frame=frame, first_line=1)


def _careful_jsonl(data: bytes, source: str) -> Rows:
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="\n")
    numbered = ((number, line) for number, line in enumerate(text, start=1) if line.strip())
    found: list[Finding] = []
    frames, lines = [], []
    unknown: set[str] = set()
    total = 0
    while batch := list(itertools.islice(numbered, _BATCH_ROWS)):
        rows = []
        for number, line in batch:
            row, wrong = _json_row(line, unknown)
            rows.append(row)
            total += len(wrong)
            found += [Finding(source=source, line=number, message=message) for message in wrong]
        del found[FINDINGS_SHOWN_MAX:]
        if not found:
            frames.append(pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row"))
            lines.append(pl.Series("line", [number for number, _ in batch], dtype=pl.UInt32))
    if found:
        raise BadInputError(found, total)
    if not frames:
        raise BadInputError.of(source, "rows=0 must be at least 1: a trace without periods plans nothing")
    return Rows(frame=pl.concat(frames), first_line=1, lines=pl.concat(lines))


def _json_row(line: str, unknown: set[str]) -> tuple[list[str | None], list[str]]:
    """The values of one line in the order of `COLUMNS`, as text, and what is wrong with them."""
    wrong: list[str] = []
    try:
        pairs = json.loads(line, object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError) as error:
        return [], [f"row must be one JSON object: {error}"]
    if not line.lstrip().startswith("{"):
        return [], ["row must be one JSON object, like " + '{"session_id": "a", "start_s": 0, "end_s": 1.5}']
    values = dict(pairs)
    if len(values) != len(pairs):
        wrong.append("row must name each key once")
    new = [name for name in values if name not in COLUMNS and name not in unknown]
    unknown.update(new)
    wrong += [unknown_column(name) for name in new]
    row = []
    for name in COLUMNS:
        value = values.get(name)
        text = _json_value(name, value)
        if text is None and value is not None:
            wanted = "a number" if name in _CSV_TYPES else "a string"
            wrong.append(f"{name}={json.dumps(value)[:80]} must be {wanted}")
        row.append(text)
    return row, wrong


def _json_value(name: str, value: object) -> str | None:
    if isinstance(value, bool):
        return None
    if name in _CSV_TYPES:
        return repr(value) if isinstance(value, int | float) else None
    text = str(value) if isinstance(value, str | int) else None
    return text if text is None or _SURROGATE.search(text) is None else None


def decode_parquet(data: bytes, source: str) -> Rows:
    """Rows of a Parquet file; their numbers count from 1."""
    try:
        names = list(pl.read_parquet_schema(io.BytesIO(data)))
        if wrong := column_findings(names, source, None):
            raise BadInputError(wrong)
        frame = pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines() or ["unknown reason"]
        raise BadInputError.of(source, f"file must be readable Parquet: {reason[0]}") from error
    return Rows(frame=frame, first_line=1)


def _text(data: bytes, source: str) -> bytes:
    """The bytes without a byte order mark, known to be UTF-8."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.isascii():
        return data
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"encoding must be UTF-8: byte 0x{data[error.start]:02x} is not"
        raise BadInputError.of(source, message, line) from error
    return data
