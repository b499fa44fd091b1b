"""`epochal plan` as users run it: exit codes, messages, interrupts, full disks, and the check afterwards."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.builders import FLEET
from tests.e2e.command import EPOCHAL, ROOT, environment, epochal

HEAD = "session_id,start_s,end_s"
EXAMPLES = ROOT / "examples"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with fleet.yaml and trace.csv."""
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(FLEET, sort_keys=False))
    (tmp_path / "trace.csv").write_text(f"{HEAD}\ns1,0,20\ns2,0,30\ns3,5,45\n")
    return tmp_path


def plan(here: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return epochal("plan", "trace.csv", "--fleet", "fleet.yaml", "-o", "out", *more, cwd=here)


def test_a_plan_is_written_and_verifies_with_and_without_its_trace(here: Path) -> None:
    assert plan(here).returncode == 0
    for arguments in (("out",), ("out", "trace.csv"), ("out", "trace.csv", "--fleet", "fleet.yaml")):
        done = epochal("plan", "--verify", *arguments, cwd=here)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "the plan is what it claims" in done.stdout


def test_too_small_a_fleet_is_3_and_the_plan_is_there(here: Path) -> None:
    rows = "\n".join(f"s{index},0,20" for index in range(20))
    (here / "trace.csv").write_text(f"{HEAD}\n{rows}\n")
    assert plan(here, "--deadline-s", "2").returncode == 3
    assert epochal("plan", "--verify", "out", "trace.csv", cwd=here).returncode == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "trace.csv:1: column=session_id must be present; the file is empty"),
        (b"session_id,start_s,end_s\n", "trace.csv:1: rows=0 must be at least 1"),
        (b"session_id,start_s,end_s\ns\xe9,0,1\n", "trace.csv:2: encoding must be UTF-8: byte 0xe9 is not"),
        (b"session_id,start_s,end_s\ns1,nan,2\n", "trace.csv:2: start_s=NaN must be finite"),
        (b"session_id,start_s,end_s\ns1,7,3\n", "trace.csv:2: end_s=3.0 must be > start_s=7.0"),
        (b"session_id,start_s,end_s\ns1,0,20\ns1,9,30\n", "trace.csv:3: start_s=9.0 must be >= 20.0, where an earlier"),
        (b"session_id,start_s,end_s\ns1,0\n", "trace.csv:2: fields=2 must be 3, as in the header"),
        (b"session_id,start_s,end_s,hue\ns1,0,1,2\n", "trace.csv:1: column='hue' must be one of session_id, start_s"),
        (b"session_id,start_s,end_s,profile\ns1,0,1,b\n", "profile='b' (1 sessions) must be one of the fleet's"),
    ],
)
def test_a_wrong_trace_is_told_in_one_message(here: Path, text: bytes, expected: str) -> None:
    (here / "trace.csv").write_bytes(text)
    refused(here, expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("epoch_s:", "epocs_s:", "fleet.yaml:2: epocs_s is not a known key; did you mean epoch_s?"),
        ("price_per_hour: 3.6", "price_per_hour: .nan", "gpu_types.h100.price_per_hour=nan must be a finite number"),
        ("state_gib: 4.0", "state_gib: 40.0", "profiles.a.state_gib=40 must be <= 16, the memory beside the weights"),
        ("chunk_latency_ms: 250.0", "chunk_latency_ms: x", 'target.chunk_latency_ms="x" must be a number'),
    ],
)
def test_a_wrong_fleet_is_told_in_one_message(here: Path, old: str, new: str, expected: str) -> None:
    path = here / "fleet.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    refused(here, expected)


def refused(here: Path, expected: str) -> None:
    done = plan(here)
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert sorted(path.name for path in here.iterdir()) == ["fleet.yaml", "trace.csv"]


def test_a_file_that_cannot_be_written_leaves_nothing(here: Path) -> None:
    assert plan(here).returncode == 0  # whatever is compiled is compiled and kept now
    limit = 100_000  # bytes; the report is larger
    done = epochal(
        *("plan", "trace.csv", "--fleet", "fleet.yaml", "-o", "full"),
        cwd=here,
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    assert "report.html: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in here.iterdir()) == ["fleet.yaml", "out", "trace.csv"]


@contextmanager
def planning_for_long(here: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that has a schedule and goes on searching, and its terminal."""
    terminal, other_end = pty.openpty()
    trace, fleet = EXAMPLES / "traces" / "mixed-6h.parquet", EXAMPLES / "fleets" / "four-profiles.yaml"
    arguments = ["plan", str(trace), "--fleet", str(fleet), "-o", "out", "--gap", "0", "--deadline-s", "120"]
    process = subprocess.Popen(
        [*EPOCHAL, *arguments], cwd=here, env=environment(), stdout=subprocess.DEVNULL, stderr=other_end
    )
    os.close(other_end)
    try:
        read_until(terminal, b"gap ")
        yield process, terminal
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def read_until(terminal: int, text: bytes) -> None:
    seen = b""
    while text not in seen:
        seen += os.read(terminal, 4096)


def test_the_first_interrupt_keeps_the_best_schedule(here: Path) -> None:
    with planning_for_long(here) as (process, terminal):
        process.send_signal(signal.SIGINT)
        read_until(terminal, b"interrupted; the best schedule so far is in out")
        assert process.wait(timeout=60) == 130
    assert epochal("plan", "--verify", "out", EXAMPLES / "traces" / "mixed-6h.parquet", cwd=here).returncode == 0


def test_the_second_interrupt_leaves_a_whole_plan_or_none(here: Path) -> None:
    with planning_for_long(here) as (process, terminal):
        process.send_signal(signal.SIGINT)
        read_until(terminal, b"Ctrl-C again aborts")
        process.send_signal(signal.SIGINT)
        read_until(terminal, b"interrupted")
        assert process.wait(timeout=60) == 130
    left = {path.name for path in here.iterdir()} - {"fleet.yaml", "trace.csv"}
    assert left <= {"out"}
    if left:
        assert epochal("plan", "--verify", "out", cwd=here).returncode == 0
