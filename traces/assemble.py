"""Rows become a trace, or a list of what is wrong with them.

Decides which periods are valid, how times are rounded, and what is sorted and joined; must never know files or formats.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from traces.columns import OPTIONAL, column_findings
from traces.decode import Rows
from traces.encode import csv_bytes, seconds, trace_table
from traces.errors import FINDINGS_SHOWN_MAX, BadInputError, Finding
from traces.trace import PERIODS_SCHEMA, SESSIONS_SCHEMA, Trace

TIME_S_MAX = 1e9  # 31 years: beyond, a float does not hold microseconds, and it is a date rather than a time
_PRIORITY_MAX = 2**31 - 1


def trace_from_periods(periods: pl.DataFrame, *, name: str = "periods") -> Trace:
    """A trace from a table in memory with the columns of a trace file; `sha256` is that of its canonical CSV.

    Raises `BadInputError` with row numbers, counted from 1, exactly as reading a file does.
    """
    return assemble(Rows(frame=periods, first_line=1), name=name, source=name, header_line=None)


def assemble(rows: Rows, *, name: str, source: str, header_line: int | None, sha256: str | None = None) -> Trace:
    """Check, round, sort and join; `source` is how findings call the input."""
    frame = rows.frame
    if wrong := column_findings(frame.columns, source, header_line):
        raise BadInputError(wrong)
    if not frame.height:
        raise BadInputError.of(source, "rows=0 must be at least 1: a trace without periods plans nothing", header_line)
    if wrong := _type_findings(frame, source, header_line):
        raise BadInputError(wrong)
    if rows.lines is None:
        line = pl.int_range(rows.first_line, rows.first_line + frame.height, dtype=pl.UInt32, eager=True)
    else:
        line = rows.lines
    typed = _typed(frame, line.alias("line"))
    found = _Found()
    _check_rows(typed, found)
    good = typed.filter(pl.col("good")) if found.total else typed
    del typed
    sessions = _sessions(good)
    keyed = good.join(sessions.select("session_id", "session_index"), on="session_id", maintain_order="left")
    _check_constant(keyed, sessions, found)
    order = keyed.select("line", "session_index", "start_us", "end_us").sort(
        "session_index", "start_us", "end_us", maintain_order=True
    )
    _check_overlaps(order, sessions, found)
    found.raise_for(source)
    out_of_order = int((keyed["start_us"] < keyed["start_us"].cum_max().shift(1)).sum())
    periods, joined = _joined(order)
    sessions = sessions.select([pl.col(column).cast(dtype) for column, dtype in SESSIONS_SCHEMA.items()])
    warnings = _warnings(out_of_order, joined, frame.height)
    digest = sha256 or hashlib.sha256(csv_bytes(trace_table(sessions, periods))).hexdigest()
    return Trace(name=name, sha256=digest, sessions=sessions, periods=periods, warnings=warnings)


def microseconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole microseconds nearest to each time; as Python's `round(s, 6)`, which looks at the exact value of the float.

    The product with 1e6 is itself rounded, so the few values next to a half are settled one by one.
    """
    scaled = seconds * 1e6
    whole = np.rint(scaled)
    half = np.abs(np.abs(scaled - np.floor(scaled)) - 0.5) <= np.abs(scaled) * 2.0**-51
    for index in np.flatnonzero(half):
        whole[index] = round(round(float(seconds[index]), 6) * 1e6)
    return whole.astype(np.int64)


@dataclass(slots=True)
class _Found:
    """Findings as they are made: the earliest few in words, all of them counted."""

    total: int = 0
    shown: list[tuple[int, str]] = field(default_factory=list)

    def add(self, bad: pl.DataFrame, message: pl.Expr) -> None:
        """Every row of `bad` is a finding; `message` is its text."""
        if bad.height:
            self.total += bad.height
            first = bad.sort("line").head(FINDINGS_SHOWN_MAX).select("line", message.alias("message"))
            self.shown += first.iter_rows()

    def raise_for(self, source: str) -> None:
        if self.total:
            early = sorted(self.shown)[:FINDINGS_SHOWN_MAX]
            findings = [Finding(source=source, line=line, message=message) for line, message in early]
            raise BadInputError(findings, self.total)


def _type_findings(frame: pl.DataFrame, source: str, line: int | None) -> list[Finding]:
    found = []
    for name, dtype in frame.schema.items():
        text = dtype in (pl.String, pl.Categorical, pl.Null) or isinstance(dtype, pl.Enum) or dtype.is_integer()
        number = dtype.is_numeric() or dtype in (pl.String, pl.Null)
        if not (number if name in ("start_s", "end_s", "priority") else text):
            wanted = "numbers" if name in ("start_s", "end_s", "priority") else "strings"
            found.append(Finding(source=source, line=line, message=f"type of {name}={dtype} must be {wanted}"))
    return found


def _typed(frame: pl.DataFrame, line: pl.Series) -> pl.DataFrame:
    """line, session_id, the optional columns, raw and rounded times, raw priority, good (no finding in the row)."""
    columns: list[pl.Series] = [line, frame["session_id"].cast(pl.String)]
    for name in ("profile", "tenant"):
        given = frame[name].cast(pl.String) if name in frame.columns else pl.Series(name, [], dtype=pl.String)
        columns.append(given.extend_constant(None, frame.height - len(given)))
    table = pl.DataFrame(columns).with_columns(
        [pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in ("profile", "tenant")]
    )
    raw = frame["priority"] if "priority" in frame.columns else pl.Series("priority", [0], dtype=pl.Int32)
    raw = raw.new_from_index(0, frame.height) if "priority" not in frame.columns else raw
    number = _number(raw).fill_null(float("nan"))
    absent = raw.is_null() | (raw == "" if raw.dtype == pl.String else pl.repeat(False, len(raw), eager=True))
    whole = (number == number.round()) & (number.abs() <= _PRIORITY_MAX)
    table = table.with_columns(
        raw.alias("priority_raw"),
        (absent | whole).fill_null(value=False).alias("priority_good"),
        pl.select(pl.when(whole & ~absent).then(number).otherwise(0.0).cast(pl.Int64)).to_series().alias("priority"),
    )
    for name in ("start_s", "end_s"):
        seconds = _number(frame[name])
        usable = (seconds.is_finite() & (seconds.abs() <= TIME_S_MAX)).fill_null(value=False)
        safe = pl.select(pl.when(usable).then(seconds).otherwise(0.0)).to_series().to_numpy()
        rounded = pl.Series(name.replace("_s", "_us"), microseconds(safe))
        table = table.with_columns(
            frame[name].alias(f"{name}_raw"), seconds.alias(name), usable.alias(f"{name}_usable"), rounded
        )
    return table.with_columns(_good().alias("good"))


def _number(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        column = column.str.strip_chars()
    return column.cast(pl.Float64, strict=False)


def _good() -> pl.Expr:
    times = pl.col("start_s_usable") & pl.col("end_s_usable") & (pl.col("start_s") >= 0)
    named = pl.col("session_id").fill_null("") != ""
    return (named & times & (pl.col("end_us") > pl.col("start_us")) & pl.col("priority_good")).fill_null(value=False)


def _check_rows(table: pl.DataFrame, found: _Found) -> None:
    """What can be seen in one row alone."""
    bad = table.filter(~pl.col("good"))
    found.add(bad.filter(pl.col("session_id").fill_null("") == ""), pl.lit("session_id= must not be empty"))
    for name in ("start_s", "end_s"):
        column, raw = pl.col(name), pl.format(f"{name}={{}}", pl.col(f"{name}_raw").cast(pl.String).fill_null(""))
        found.add(bad.filter(column.is_null()), pl.concat_str(raw, pl.lit(" must be a number of seconds")))
        found.add(bad.filter(~column.is_finite()), pl.concat_str(raw, pl.lit(" must be finite")))
        far = bad.filter(column.is_finite() & (column.abs() > TIME_S_MAX))
        found.add(
            far, pl.concat_str(raw, pl.lit(f" must be at most {TIME_S_MAX:g}, in seconds from the trace's start"))
        )
    usable = bad.filter(pl.col("start_s_usable") & pl.col("end_s_usable"))
    start, end = pl.col("start_s"), pl.col("end_s")
    found.add(usable.filter(start < 0), pl.format("start_s={} must be >= 0", start))
    found.add(usable.filter(end <= start), pl.format("end_s={} must be > start_s={}", end, start))
    nothing = usable.filter((end > start) & (pl.col("end_us") <= pl.col("start_us")))
    found.add(nothing, pl.format("end_s={} must be a microsecond or more after start_s={}", end, start))
    text = pl.col("priority_raw").cast(pl.String).fill_null("")
    message = pl.format(f"priority={{}} must be a whole number between -{_PRIORITY_MAX} and {_PRIORITY_MAX}", text)
    found.add(bad.filter(~pl.col("priority_good")), message)


def _sessions(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per session with the values of its first row, in the order of first start, ties by session id."""
    first = [pl.col(name).first() for name in ("line", *OPTIONAL)]
    grouped = rows.group_by("session_id", maintain_order=True).agg(pl.col("start_us").min().alias("first_us"), *first)
    return grouped.sort("first_us", "session_id").with_row_index("session_index")


def _check_constant(rows: pl.DataFrame, sessions: pl.DataFrame, found: _Found) -> None:
    """Profile, tenant and priority do not change within a session."""
    for name in OPTIONAL:
        if rows[name].n_unique() < 2:
            continue
        first = sessions.select(name, "line").rename({name: "first", "line": "first_line"})[rows["session_index"]]
        changed = pl.concat([rows, first], how="horizontal").filter(pl.col(name).ne_missing(pl.col("first")))
        value, before = (pl.col(column).cast(pl.String).fill_null("") for column in (name, "first"))
        what = f"{name}={{}} must be {{}} as on line {{}}: session {{}} keeps its {name}"
        found.add(changed, pl.format(what, value, before, "first_line", "session_id"))


def _check_overlaps(order: pl.DataFrame, sessions: pl.DataFrame, found: _Found) -> None:
    """Periods of one session do not overlap; `order` is sorted by session and start."""
    same = pl.col("session_index") == pl.col("session_index").shift(1)
    if not order.select((same & (pl.col("start_us") < pl.col("end_us").shift(1))).any()).item():
        return
    until = pl.col("end_us").cum_max().shift(1).over("session_index")
    bad = order.with_columns(until.alias("until")).filter(pl.col("start_us") < pl.col("until"))
    bad = bad.with_columns(
        sessions["session_id"].gather(bad["session_index"]),
        pl.Series("start_s", seconds(bad["start_us"])),
        pl.Series("until_s", seconds(bad["until"])),
    )
    what = "start_s={} must be >= {}, where an earlier period of session {} ends"
    found.add(bad, pl.format(what, "start_s", "until_s", "session_id"))


def _joined(order: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The periods in the order of a trace, touching ones joined, and how many joins that took."""
    same = pl.col("session_index") == pl.col("session_index").shift(1)
    touches = order.select(
        (same & (pl.col("start_us") == pl.col("end_us").shift(1))).fill_null(value=False)
    ).to_series()
    opens = order.filter(~touches)
    ends = order["end_us"].filter(~touches.shift(-1, fill_value=False))
    periods = opens.select("session_index", "start_us").with_columns(ends.alias("end_us"))
    periods = periods.sort("start_us", "session_index").select(
        [pl.col(column).cast(dtype) for column, dtype in PERIODS_SCHEMA.items()]
    )
    return periods, int(touches.sum())


def _warnings(out_of_order: int, joined: int, rows: int) -> tuple[str, ...]:
    told = []
    if out_of_order:
        told.append(f"{out_of_order} of {rows} rows began before an earlier row: sorted by start_s")
    if joined:
        told.append(f"{joined} of {rows} rows continued the previous period of their session: joined to it")
    return tuple(told)
