"""A benchmark's figures reach people and programs, and a failed gate fails the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bench
from bench.__main__ import main
from bench.hardware import this_machine
from bench.registry import BENCHMARKS
from bench.render import to_json, to_markdown
from bench.result import BenchResult, Gate, Size


def a_result(*, ok: bool = True, name: str = "speed") -> BenchResult:
    return BenchResult(
        name=name,
        settings={"seeds": 3, "limit_s": 1.5},
        rows=({"case": "tiny", "s p50": 0.123456}, {"case": "large", "s p50": None}),
        gates=(Gate(claim="quick enough", ok=ok, measured="0.1 s"),),
    )


def test_markdown_holds_settings_hardware_table_and_gates() -> None:
    text = to_markdown(a_result(ok=False))
    assert "seeds 3, limit_s 1.5" in text
    assert this_machine().cpu in text
    assert "| case | s p50 |\n|---|---|\n| tiny | 0.1235 |\n| large | - |" in text
    assert "- FAILS: quick enough (measured: 0.1 s)" in text


def test_json_keeps_every_digit() -> None:
    (result,) = json.loads(to_json([a_result()]))
    assert result["format"] == "epochal.bench/1"
    assert result["rows"][0] == {"case": "tiny", "s p50": 0.123456}
    assert result["gates"] == [{"claim": "quick enough", "ok": True, "measured": "0.1 s"}]
    assert result["hardware"]["cores"] >= 1


def test_rows_with_different_columns_are_our_bug() -> None:
    with pytest.raises(AssertionError, match="rows differ"):
        BenchResult(name="speed", settings={}, rows=({"a": 1}, {"b": 1}), gates=())


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("output_format", ["table", "markdown", "json"])
def test_the_exit_code_tells_whether_all_gates_hold(
    ok: bool,
    code: int,
    output_format: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[Size] = []

    def run(size: Size) -> BenchResult:
        asked.append(size)
        return a_result(ok=ok)

    assert main(["speed", "--size", "small", "--format", output_format], {"speed": run}) == code
    assert asked == ["small"]
    told = capsys.readouterr()
    assert "quick enough" in told.out
    assert ("gate failed: speed: quick enough" in told.err) is not ok


def test_an_unknown_benchmark_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["sped"], {"speed": lambda _: a_result()})
    assert refused.value.code == 2
    assert "NAME=sped must be one of speed" in capsys.readouterr().err


def test_each_benchmark_is_registered() -> None:
    written = {
        path.stem.replace("_", "-") for path in Path(bench.__path__[0]).glob("*.py") if "\ndef run(" in path.read_text()
    }
    assert written == set(BENCHMARKS)
