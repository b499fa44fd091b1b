"""What a valid file becomes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.traces.builders import a_file, periods_us
from tests.traces.naive import naive_periods, naive_rows
from traces.assemble import microseconds
from traces.store import read_trace

HEADER = "session_id,start_s,end_s\n"


def test_sessions_are_in_the_order_of_their_first_start_and_ties_by_id(tmp_path: Path) -> None:
    trace = read_trace(a_file(tmp_path, HEADER + "z,1,2\nb,3,4\na,3,4\nz,5,6\n"))
    assert trace.sessions["session_id"].to_list() == ["z", "a", "b"]
    seconds = [(index, start // 10**6, end // 10**6) for index, start, end in trace.periods.rows()]
    assert seconds == [(0, 1, 2), (1, 3, 4), (2, 3, 4), (0, 5, 6)]


def test_unsorted_rows_are_sorted_with_a_warning_that_counts(tmp_path: Path) -> None:
    trace = read_trace(a_file(tmp_path, HEADER + "a,5,6\nb,1,2\nc,3,4\nd,7,8\n"))
    assert trace.sessions["session_id"].to_list() == ["b", "c", "a", "d"]
    assert trace.warnings == ("2 of 4 rows began before an earlier row: sorted by start_s",)


def test_touching_periods_are_joined_and_counted_after(tmp_path: Path) -> None:
    trace = read_trace(a_file(tmp_path, HEADER + "a,0,1\na,1,2\nb,2,3\na,2.000001,3\n"))
    assert periods_us(trace) == {"a": [(0, 2_000_000), (2_000_001, 3_000_000)], "b": [(2_000_000, 3_000_000)]}
    assert (trace.session_count, trace.period_count, len(trace.warnings)) == (2, 3, 1)


def test_touching_periods_of_two_sessions_stay_apart(tmp_path: Path) -> None:
    assert read_trace(a_file(tmp_path, HEADER + "a,0,1\nb,1,2\n")).period_count == 2


def test_sha256_is_of_the_bytes_of_the_file(tmp_path: Path) -> None:
    path = a_file(tmp_path, "\ufeff" + HEADER + "a,0,1\n")
    assert read_trace(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_optional_columns_keep_their_values_and_empty_means_none(tmp_path: Path) -> None:
    text = "tenant,session_id,priority,start_s,end_s,profile\nt1,a,-3,0,1,p\n,b,,0,1,\n"
    trace = read_trace(a_file(tmp_path, text))
    assert trace.sessions.rows() == [("a", "p", "t1", -3), ("b", None, None, 0)]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffsession_id,start_s,end_s\na,0,1\nb,1,2\n",
        "session_id,start_s,end_s\r\na,0,1\r\nb,1,2\r\n",
        "session_id,start_s,end_s\ra,0,1\rb,1,2",
        "session_id,start_s,end_s\n\na,0,1\n\n\nb,1,2\n\n",
        '"session_id","start_s","end_s"\n"a","0","1"\n"b",1,2\n',
        "end_s,session_id,start_s\n1,a,0\n2,b,1",
        "session_id,start_s,end_s\na, 0 ,1 \nb,1.0e0,2\n",
    ],
    ids=["bom", "crlf", "cr", "blank lines", "quoted", "other order", "spaces and exponents"],
)
def test_every_way_to_write_the_same_csv_is_read_the_same(tmp_path: Path, text: str) -> None:
    assert periods_us(read_trace(a_file(tmp_path, text))) == {"a": [(0, 1_000_000)], "b": [(1_000_000, 2_000_000)]}


def test_escaped_characters_in_jsonl_are_paired(tmp_path: Path) -> None:
    line = json.dumps({"session_id": "\U0001f600\u00e4", "start_s": 0, "end_s": 1})
    assert read_trace(a_file(tmp_path, line, "t.jsonl")).sessions["session_id"].to_list() == ["\U0001f600\u00e4"]


@pytest.mark.parametrize(
    "lines",
    [
        '{"session_id":"7","start_s":0,"end_s":1}\n{"session_id":"b","start_s":1,"end_s":2}\n',
        '{"session_id":7,"start_s":0.0,"end_s":1.0}\n\n{"session_id":"b","end_s":2,"start_s":1}',
        '{"session_id": 7, "start_s": 0, "end_s": 1, "profile": null}\r\n{"session_id":"b","start_s":1,"end_s":2}\r\n',
    ],
    ids=["plain", "numbers as ids and a blank line", "spaces, null, crlf"],
)
def test_every_way_to_write_the_same_jsonl_is_read_the_same(tmp_path: Path, lines: str) -> None:
    trace = read_trace(a_file(tmp_path, lines, "trace.jsonl"))
    assert periods_us(trace) == {"7": [(0, 1_000_000)], "b": [(1_000_000, 2_000_000)]}


def test_parquet_from_other_programs_may_hold_integers_and_categories(tmp_path: Path) -> None:
    frame = pl.DataFrame({"session_id": [5, 6], "start_s": [0, 1], "end_s": [1.5, 2.5]})
    frame = frame.with_columns(pl.Series("profile", ["a", "b"]), pl.Series("priority", [1.0, None]))
    frame.with_columns(pl.col("profile").cast(pl.Categorical)).write_parquet(tmp_path / "t.parquet")
    trace = read_trace(tmp_path / "t.parquet")
    assert trace.sessions.rows() == [("5", "a", None, 1), ("6", "b", None, 0)]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(min_value=0, max_value=1e9) | st.decimals(0, 10**6, places=7).map(float), min_size=1))
def test_times_round_as_python_rounds_to_six_places(seconds: list[float]) -> None:
    assert microseconds(np.array(seconds)).tolist() == [round(round(value, 6) * 1e6) for value in seconds]


IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@st.composite
def valid_rows(draw: st.DrawFn) -> list[tuple[str, float, float]]:
    """Periods that touch, leave gaps, and come in any order, with times finer than a microsecond."""
    rows = []
    for name in draw(st.lists(IDS, min_size=1, max_size=4, unique=True)):
        at = draw(st.integers(0, 50))
        for gap, length in draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), min_size=1, max_size=5)):
            rows.append((name, (at + gap) / 7, (at + gap + length) / 7))
            at += gap + length
    return draw(st.permutations(rows))


@settings(deadline=None, max_examples=50)
@given(rows=valid_rows(), ending=st.sampled_from([".csv", ".jsonl"]))
def test_reading_agrees_with_an_independent_reader(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float, float]], ending: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"oracle{ending}"
    if ending == ".jsonl":
        keys = ("session_id", "start_s", "end_s")
        path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    else:
        pl.DataFrame(rows, schema=["session_id", "start_s", "end_s"], orient="row").write_csv(
            path, quote_style="always"
        )
    assert periods_us(read_trace(path)) == naive_periods(naive_rows(path))
