"""What writing promises: round trips, equal bytes, whole files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.traces.builders import a_file, a_trace
from tests.traces.test_store_reads import IDS
from traces.assemble import trace_from_periods
from traces.columns import COLUMNS
from traces.errors import BadInputError
from traces.store import ENDINGS, read_trace, write_bytes, write_trace
from traces.trace import Trace

OPTIONAL_ID = st.none() | IDS


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    rows = []
    for name in draw(st.lists(IDS, min_size=1, max_size=4, unique=True)):
        constant = (draw(OPTIONAL_ID), draw(OPTIONAL_ID), draw(st.integers(-2, 2)))
        at = draw(st.integers(0, 10**15 // 2))
        for gap, length in draw(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10**9)), min_size=1, max_size=4)):
            rows.append((name, (at + gap) / 1e6, (at + gap + length) / 1e6, *constant))
            at += gap + length
    types = (pl.String, pl.Float64, pl.Float64, pl.String, pl.String, pl.Int64)
    return trace_from_periods(pl.DataFrame(rows, schema=dict(zip(COLUMNS, types, strict=True)), orient="row"))


@pytest.mark.parametrize("ending", ENDINGS)
@settings(deadline=None, max_examples=25)
@given(trace=traces())
def test_a_trace_survives_every_format(tmp_path_factory: pytest.TempPathFactory, ending: str, trace: Trace) -> None:
    path = tmp_path_factory.getbasetemp() / f"round{ending}"
    write_trace(trace, path)
    again = read_trace(path)
    assert again.sessions.equals(trace.sessions)
    assert again.periods.equals(trace.periods)
    assert again.warnings == ()


@pytest.mark.parametrize("ending", ENDINGS)
def test_equal_traces_give_equal_bytes(tmp_path: Path, ending: str) -> None:
    digests = set()
    for index, text in enumerate(("a 0-1 a 1-2 b 1-5", "b 1-5 a 0-2")):
        write_trace(a_trace(text), tmp_path / f"{index}{ending}")
        digests.add(hashlib.sha256((tmp_path / f"{index}{ending}").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_sha256_of_a_trace_in_memory_is_that_of_its_csv_file(tmp_path: Path) -> None:
    trace = a_trace("a 0-1.5 b 1-5")
    write_trace(trace, tmp_path / "t.csv")
    assert read_trace(tmp_path / "t.csv").sha256 == trace.sha256


def test_columns_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    write_trace(a_trace("a 0-1"), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "session_id,start_s,end_s\na,0.0,1.0\n"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = a_file(tmp_path, "old", "folder.csv")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_bytes(tmp_path / "taken", b"new")
    write_bytes(path, b"new")
    assert path.read_text() == "new"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder.csv", "taken"]


def test_writing_to_an_unknown_ending_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"ending=\.xlsx must be one of"):
        write_trace(a_trace("a 0-1"), tmp_path / "t.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_times_are_written_as_the_shortest_decimals(tmp_path: Path) -> None:
    write_trace(a_trace("a 1.099169-2.3 b 76.407949-123456.789012"), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == ["a,1.099169,2.3", "b,76.407949,123456.789012"]
