"""`epochal simulate`, `compare` and `whatif` as users run them: results, folders, exit codes and interrupts."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
import yaml

from runtime.api import epochal_compare, epochal_simulate
from scheduler.simulation import outcome as schemas
from tests.builders import FLEET
from tests.e2e.command import EPOCHAL, ROOT, environment, epochal

EXAMPLES = ROOT / "examples"
TABLES = ("periods", "stays", "moves", "gpus", "epochs", "decisions", "latencies", "rounds")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fleet.yaml, trace.csv, and crowd.csv, which is too much for the fleet."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "fleet.yaml").write_text(yaml.safe_dump(FLEET, sort_keys=False))
    rows = [f"s{i},{5 * i},{5 * i + 30}\ns{i},{5 * i + 50},{5 * i + 70}" for i in range(6)]
    (folder / "trace.csv").write_text("session_id,start_s,end_s\n" + "\n".join(rows) + "\n")
    crowd = "\n".join(f"s{i},0,60" for i in range(20))
    (folder / "crowd.csv").write_text(f"session_id,start_s,end_s\n{crowd}\n")
    return folder


def simulate(here: Path, trace: str, *more: str) -> subprocess.CompletedProcess[str]:
    return epochal("simulate", trace, "--fleet", "fleet.yaml", "--policy", "fixed-least-loaded", *more, cwd=here)


def test_a_run_is_written_with_its_tables_report_and_perfetto_trace(here: Path) -> None:
    done = simulate(here, "trace.csv", "-o", "run", "--rounds", "--perfetto", "run.json", "--format", "json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["format"], summary["policy"], summary["fleet"]) == (
        "epochal.summary/1",
        "fixed-least-loaded",
        "fleet.yaml",
    )
    assert json.loads((here / "run" / "summary.json").read_text()) == summary
    for name in TABLES:
        table = pl.read_parquet(here / "run" / f"{name}.parquet")
        assert dict(table.schema) == getattr(schemas, name.upper())
    page = (here / "run" / "report.html").read_text(encoding="utf-8")
    assert "fixed-least-loaded on trace.csv" in page
    assert "GPUs on in the offline optimum" in page
    phases = {event["ph"] for event in json.loads((here / "run.json").read_text())["traceEvents"]}
    assert {"M", "X", "C"} <= phases


def test_equal_runs_are_equal_but_for_their_timing(here: Path) -> None:
    first, second = (json.loads(simulate(here, "trace.csv", "--format", "json").stdout) for _ in range(2))
    assert {**first, "timing": None} == {**second, "timing": None}


def test_who_is_late_makes_the_exit_code_3(here: Path) -> None:
    done = simulate(here, "crowd.csv", "-o", "crowd", "--optimum-s", "0")
    assert done.returncode == 3, done.stderr
    assert "Written to" in done.stdout
    assert (here / "crowd" / "summary.json").exists()


def test_faults_and_settings_reach_the_run(here: Path) -> None:
    plain = json.loads(simulate(here, "trace.csv", "--format", "json").stdout)
    struck = simulate(here, "trace.csv", "--format", "json", "--faults", "failures_per_h=200,repair_s=60")
    assert struck.returncode in (0, 3), struck.stderr
    assert json.loads(struck.stdout)["unserved_session_seconds"] > plain["unserved_session_seconds"]
    more = json.loads(simulate(here, "trace.csv", "--format", "json", "--set", "gpus=h100=4").stdout)
    assert more["gpus_max"] == 4


def test_a_comparison_is_printed_and_written(here: Path) -> None:
    arguments = ("trace.csv", "crowd.csv", "--fleet", "fleet.yaml", "--policies", "fixed-least-loaded,hpa")
    done = epochal("compare", *arguments, "--seeds", "2", "--optimum-s", "3", "-o", "both", "--runs", cwd=here)
    assert done.returncode == 0, done.stderr
    for text in ("trace.csv: mean over 2 seeds", "crowd.csv", "bound (offline)", "above bound", "hpa"):
        assert text in done.stdout
    rows = pl.read_parquet(here / "both" / "comparison.parquet")
    assert rows.select("trace", "policy").rows() == [
        ("trace.csv", "fixed-least-loaded"),
        ("trace.csv", "hpa"),
        ("crowd.csv", "fixed-least-loaded"),
        ("crowd.csv", "hpa"),
    ]
    served = rows.filter(pl.col("trace") == "trace.csv")
    assert (served["gpu_dollars"] >= served["bound_dollars"] - 0.05).all()
    summaries = json.loads((here / "both" / "summaries.json").read_text())
    assert len(summaries) == 8
    assert (here / "both" / "runs" / "1-hpa-1" / "stays.parquet").exists()
    assert "Epochal comparison" in (here / "both" / "report.html").read_text(encoding="utf-8")


def test_several_processes_give_the_same_summaries(here: Path) -> None:
    arguments = ("trace.csv", "--fleet", "fleet.yaml", "--policies", "fixed-least-loaded,hpa", "--optimum-s", "0")
    found = []
    for jobs in ("1", "2"):
        done = epochal("compare", *arguments, "--jobs", jobs, "--format", "json", cwd=here)
        assert done.returncode == 0, done.stderr
        found.append([{**summary, "timing": None} for summary in json.loads(done.stdout)])
    assert found[0] == found[1]


def test_what_if_tells_each_change_beside_the_base_case(here: Path) -> None:
    changes = ("--arrivals", "2", "--target-ms", "120", "--startup-s", "5", "--optimum-s", "3")
    arguments = ("trace.csv", "--fleet", "fleet.yaml", "--policy", "hpa", *changes, "-o", "whatif.json")
    done = epochal("whatif", *arguments, cwd=here)
    assert done.returncode == 0, done.stderr
    for text in ("base", "arrivals x 2", "target 120 ms", "start-up 5 s", "Bound $", "hpa: GPU $"):
        assert text in done.stdout
    cases = json.loads((here / "whatif.json").read_text())["cases"]
    base, more, tight, quick = (case["optimum"]["plan_dollars"] for case in cases)
    assert more > base < tight
    assert quick < base
    assert [case["summary"]["sessions"] for case in cases] == [6, 12, 6, 6]


def test_runs_and_comparisons_from_python(here: Path) -> None:
    outcome = epochal_simulate(here / "trace.csv", here / "fleet.yaml", "hpa", parameters={"target": 0.5}, seed=3)
    assert (outcome.summary.policy, outcome.summary.seed) == ("hpa", 3)
    assert outcome.to_polars()["periods"].height == 12
    comparison = epochal_compare([here / "trace.csv"], here / "fleet.yaml", ["hpa", "two-choices"], optimum_s=2)
    assert comparison.rows["policy"].to_list() == ["hpa", "two-choices"]
    assert "two-choices" in comparison._repr_html_()


@contextmanager
def running_for_long(
    here: Path, *arguments: str, until: bytes = b"00:01:"
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that shows so much of its progress and goes on, and its terminal."""
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [*EPOCHAL, *arguments], cwd=here, env=environment(), stdout=subprocess.DEVNULL, stderr=other_end
    )
    os.close(other_end)
    try:
        read_until(terminal, until)
        yield process, terminal
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def read_until(terminal: int, text: bytes) -> None:
    seen = b""
    while text not in seen:
        seen += os.read(terminal, 4096)


LONG = (str(EXAMPLES / "traces/mooncake-45min.csv.gz"), "--fleet", str(EXAMPLES / "fleets/one-type.yaml"))


def test_the_first_interrupt_ends_the_run_where_it_is_and_writes_it(here: Path) -> None:
    arguments = ("simulate", *LONG, "--policy", "epochal-no-exact", "-o", "cut")
    with running_for_long(here, *arguments) as (process, terminal):
        process.send_signal(signal.SIGINT)
        read_until(terminal, b"interrupted; the figures are of the first")
        assert process.wait(timeout=60) == 130
    summary = json.loads((here / "cut" / "summary.json").read_text())
    assert 0 < summary["horizon_s"] < 2700
    assert (here / "cut" / "report.html").exists()


def test_an_interrupted_comparison_says_how_many_runs_it_has(here: Path) -> None:
    arguments = ("compare", *LONG, "--policies", "epochal-no-exact", "--seeds", "9", "--optimum-s", "0")
    with running_for_long(here, *arguments) as (process, terminal):
        process.send_signal(signal.SIGINT)
        read_until(terminal, b"interrupted; no run was finished")
        assert process.wait(timeout=60) == 130


def test_an_interrupt_stops_every_process_of_a_comparison(here: Path) -> None:
    arguments = ("compare", *LONG, "--policies", "hpa", "--seeds", "40", "--optimum-s", "0", "--jobs", "2")
    with running_for_long(here, *arguments, until=b"/40 done") as (process, terminal):
        process.send_signal(signal.SIGINT)
        read_until(terminal, b"of 40 runs were finished")
        assert process.wait(timeout=60) == 130
