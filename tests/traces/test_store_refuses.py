"""What is refused, and in which words."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import polars as pl
import pytest

from tests.traces.builders import a_file, a_trace
from traces.assemble import trace_from_periods
from traces.errors import FINDINGS_SHOWN_MAX, BadInputError
from traces.store import read_trace, write_trace

H = "session_id,start_s,end_s"
HEADER = H + "\n"


def the_error(path: Path) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        read_trace(path)
    return caught.value


CSV_CASES = {
    "reversed": (HEADER + "a,0,1\nb,7.5,3\n", "3: end_s=3.0 must be > start_s=7.5"),
    "no length": (HEADER + "a,1,1\n", "2: end_s=1.0 must be > start_s=1.0"),
    "rounds to nothing": (HEADER + "a,1,1.0000001\n", "2: end_s=1.0000001 must be a microsecond or more after"),
    "negative": (HEADER + "a,-1,1\n", "2: start_s=-1.0 must be >= 0"),
    "slightly negative": (HEADER + "a,-1e-9,1\n", "2: start_s=-1e-9 must be >= 0"),
    "NaN": (HEADER + "a,nan,1\n", "2: start_s=NaN must be finite"),
    "infinite": (HEADER + "a,0,inf\n", "2: end_s=inf must be finite"),
    "too large": (HEADER + "a,0,1700000000\n", "2: end_s=1700000000.0 must be at most 1e+09, in seconds"),
    "no number": (HEADER + "a,0,1\nb,soon,1\n", "3: start_s=soon must be a number of seconds"),
    "missing time": (HEADER + "a,0,\n", "2: end_s= must be a number of seconds"),
    "no id": (HEADER + ",0,1\n", "2: session_id= must not be empty"),
    "overlap": (HEADER + "a,0,5\nb,0,1\na,4,6\n", "4: start_s=4.0 must be >= 5.0, where an earlier"),
    "contained": (HEADER + "a,0,9\na,1,2\na,7,8\n", "4: start_s=7.0 must be >= 9.0, where"),
    "repeated row": (HEADER + "a,0,9\na,0,9\n", "3: start_s=0.0 must be >= 9.0, where"),
    "profile changes": (H + ",profile\na,0,1,x\na,2,3,y\n", "3: profile=y must be x as on line 2: "),
    "profile ends": (H + ",profile\na,0,1,x\na,2,3,\n", "3: profile= must be x as on line 2"),
    "tenant changes": (H + ",tenant\na,0,1,x\na,2,3,y\n", "3: tenant=y must be x as on line 2"),
    "priority changes": (H + ",priority\na,0,1,0\na,2,3,1\n", "3: priority=1 must be 0 as on line 2"),
    "priority fraction": (H + ",priority\na,0,1,1.5\n", "2: priority=1.5 must be a whole number"),
    "priority word": (H + ",priority\na,0,1,high\n", "2: priority=high must be a whole number"),
    "priority too large": (H + ",priority\na,0,1,3000000000\n", "2: priority=3000000000 must be a whole"),
    "too few fields": (HEADER + "a,0,1\nb,1\n", "3: fields=2 must be 3, as in the header"),
    "too many fields": (HEADER + "a,0,1,2\n", "2: fields=4 must be 3, as in the header"),
    "few and many": (HEADER + "a,0,1,2\nb,0\n", "2: fields=4 must be 3"),
    "missing column": ("session_id,start_s\na,0\n", "1: column=end_s must be present"),
    "unknown column": (H + ",profil\na,0,1,x\n", "1: column='profil' must be one of session_id, start_s"),
    "repeated column": (H + ",end_s\na,0,1,2\n", "1: column=end_s must appear once, not 2 times"),
    "header only": (HEADER, "1: rows=0 must be at least 1"),
    "empty": ("", "1: column=session_id must be present; the file is empty"),
    "after blank lines": (HEADER + "\n\na,0,1\n\nb,2,1\n", "6: end_s=1 must be > start_s=2"),
    "after a quoted line break": (HEADER + '"a\nb",0,1\nc,2,1\n', "4: end_s=1.0 must be > start_s=2.0"),
    "open quote": (HEADER + 'a,0,1\n"b,2,3\n', "3: row must be well-formed CSV"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), CSV_CASES.values(), ids=CSV_CASES.keys())
def test_a_bad_csv_is_refused_with_file_line_field_and_fix(tmp_path: Path, text: str, message: str) -> None:
    path = a_file(tmp_path, text)
    assert f"{path}:{message}".replace("end_s=1 must be > start_s=2", "end_s=1.0 must be > start_s=2.0") in str(
        the_error(path)
    )


ROW = '{"session_id":"a","start_s":0,"end_s":1}\n'
JSONL_CASES = {
    "reversed": (ROW + '{"session_id":"b","start_s":3,"end_s":1}\n', "2: end_s=1.0 must be > start_s=3.0"),
    "after a blank line": ("\n" + ROW + '{"session_id":"b","start_s":3,"end_s":1}\n', "3: end_s=1.0 must be > "),
    "cut": (ROW + '{"session_id":"b","sta', "2: row must be one JSON object"),
    "a list": (ROW + "[1, 2]\n", "2: row must be one JSON object"),
    "two on a line": (ROW.strip() + ROW, "1: row must be one JSON object"),
    "NaN": ('{"session_id":"a","start_s":NaN,"end_s":1}\n', "1: start_s=nan must be finite"),
    "a bool": ('{"session_id":"a","start_s":true,"end_s":1}\n', "1: start_s=true must be a number"),
    "a number in quotes": ('{"session_id":"a","start_s":"0","end_s":1}\n', '1: start_s="0" must be a number'),
    "an object as id": ('{"session_id":{"x":1},"start_s":0,"end_s":1}\n', "1: session_id="),
    "a float as id": ('{"session_id":1.0,"start_s":0,"end_s":1}\n', "1: session_id=1.0 must be a string"),
    "no end": (ROW + '{"session_id":"b","start_s":3}\n', "2: end_s= must be a number of seconds"),
    "unknown key": (ROW + '{"session_id":"b","start_s":3,"end_s":4,"prio":1}\n', "2: column='prio' must be one of"),
    "repeated key": ('{"session_id":"a","session_id":"b","start_s":0,"end_s":1}\n', "1: row must name each key once"),
    "half a character": ('{"session_id":"\\ud800","start_s":0,"end_s":1}\n', '1: session_id="\\ud800" must be'),
    "a huge number": ('{"session_id":"a","start_s":0,"end_s":1' + "0" * 400 + "}\n", "must be finite"),
    "nothing": ("", "rows=0 must be at least 1"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), JSONL_CASES.values(), ids=JSONL_CASES.keys())
def test_a_bad_jsonl_is_refused_with_file_line_field_and_fix(tmp_path: Path, text: str, message: str) -> None:
    path = a_file(tmp_path, text, "trace.jsonl")
    assert message in str(the_error(path))


def test_parquet_findings_name_the_row(tmp_path: Path) -> None:
    pl.DataFrame({"session_id": ["a", "b"], "start_s": [0.0, 3.0], "end_s": [1.0, 2.0]}).write_parquet(
        tmp_path / "t.parquet"
    )
    assert str(the_error(tmp_path / "t.parquet")) == f"{tmp_path / 't.parquet'}:2: end_s=2.0 must be > start_s=3.0"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.Series("start_s", ["2026-01-01"]).str.to_date(), "type of start_s=Date must be numbers"),
        (pl.Series("session_id", [1.5]), "type of session_id=Float64 must be strings"),
        (pl.Series("start_s", [None], dtype=pl.Float64), "1: start_s= must be a number of seconds"),
        (pl.Series("other", [1]), "column='other' must be one of"),
    ],
)
def test_parquet_with_wrong_types_is_refused(tmp_path: Path, column: pl.Series, message: str) -> None:
    frame = pl.DataFrame({"session_id": ["a"], "start_s": [0.0], "end_s": [1.0]}).with_columns(column)
    frame.write_parquet(tmp_path / "t.parquet")
    assert message in str(the_error(tmp_path / "t.parquet"))


def test_the_first_twenty_findings_are_told_in_the_order_of_lines_with_the_total(tmp_path: Path) -> None:
    rows = [f"s{i},{5 if i % 2 else -1},3" for i in range(100)]
    error = the_error(a_file(tmp_path, HEADER + "\n".join(rows)))
    assert (error.total, len(error.findings)) == (100, FINDINGS_SHOWN_MAX)
    assert [finding.line for finding in error.findings] == list(range(2, 22))
    assert str(error).endswith("... and 80 more")


def test_findings_of_all_kinds_are_told_at_once(tmp_path: Path) -> None:
    text = H + ",profile\na,0,5,x\na,4,6,y\nb,nan,1,\nc,2,1,\n"
    assert the_error(a_file(tmp_path, text)).total == 4


def test_broken_rows_are_counted_over_the_whole_file(tmp_path: Path) -> None:
    error = the_error(a_file(tmp_path, HEADER + "a,0\n" * 250_001))
    assert (error.total, len(error.findings), error.findings[-1].line) == (250_001, FINDINGS_SHOWN_MAX, 21)


@pytest.mark.parametrize(("name", "line"), [("t.csv", 3), ("t.jsonl", 3)])
def test_other_encodings_are_refused_at_their_line(tmp_path: Path, name: str, line: int) -> None:
    path = a_file(tmp_path, (HEADER + "a,0,1\nä,1,2\n").encode("latin-1"), name)
    assert f"{path}:{line}: encoding must be UTF-8: byte 0xe4 is not" in str(the_error(path))


def test_utf16_is_refused(tmp_path: Path) -> None:
    assert "encoding must be UTF-8" in str(the_error(a_file(tmp_path, (HEADER + "a,0,1\n").encode("utf-16"))))


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    assert str(the_error(tmp_path / name)).endswith("must be a readable file: No such file or directory")


def test_a_folder_is_no_trace(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    assert "must be a readable file" in str(the_error(tmp_path / "t.csv"))


@pytest.mark.parametrize("name", ["trace.txt", "trace", "trace.parquet.gz", "trace.gz"])
def test_unknown_endings_are_refused(tmp_path: Path, name: str) -> None:
    assert "must be one of .csv, .csv.gz, .jsonl, .jsonl.gz, .parquet" in str(the_error(a_file(tmp_path, "x", name)))


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + "a,0,1\n" * 1000).encode())
    flipped = bytes([*whole[:30], whole[30] ^ 0xFF, *whole[31:]])
    for data in (whole[:-9], flipped, b"plain", b""):
        assert "t.csv.gz:" in str(the_error(a_file(tmp_path, data, "t.csv.gz")))


def test_cut_or_overwritten_parquet_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_trace(a_trace(" ".join(f"s{i} {i}-{i + 1}" for i in range(50))), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    for kept in range(0, len(whole) - 1, 37):
        assert "file must be readable Parquet" in str(the_error(a_file(tmp_path, whole[:kept], "bad.parquet")))
    for start in range(0, len(whole) - 40, 90):
        data = whole[:start] + bytes(40) + whole[start + 40 :]
        with contextlib.suppress(BadInputError):  # a value that is overwritten may still be a value
            assert read_trace(a_file(tmp_path, data, "bad.parquet")).period_count
    capfd.readouterr()  # polars reports its panics there


def test_a_table_in_memory_is_refused_with_row_numbers() -> None:
    frame = pl.DataFrame({"session_id": ["a", "b"], "start_s": [0.0, 3.0], "end_s": [1.0, 2.0]})
    with pytest.raises(BadInputError, match=r"^mine:2: end_s=2\.0 must be > start_s=3\.0$"):
        trace_from_periods(frame, name="mine")
