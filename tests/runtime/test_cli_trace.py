"""The trace commands as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from runtime.cli.errors import told
from runtime.cli.trace import app
from tests.traces.builders import a_file, a_trace
from tests.traces.test_importers import AZURE, KV, MOONCAKE, SERVEGEN
from traces.store import ENDINGS, read_trace, write_trace

BODIES, ARRIVALS = f"kv-cache-tester:{KV}", f"servegen:{SERVEGEN}"
EXAMPLES = Path(__file__).parents[2] / "examples" / "traces"


def epochal_trace(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def a_json(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.stderr
    out = json.loads(result.stdout)
    assert isinstance(out, dict)
    return out


@pytest.mark.parametrize("command", ["convert", "compose", "generate", "validate", "describe"])
def test_every_command_has_help_with_an_example_and_exit_codes(command: str) -> None:
    result = epochal_trace(command, "--help")
    text = re.sub(r"\s+", " ", result.stdout)
    assert f"Example: epochal trace {command}" in text
    assert "Exit codes" in text


@pytest.mark.parametrize(
    ("kind", "path", "sessions"), [("mooncake", MOONCAKE, 1300), ("azure", AZURE, 19_366), ("kv-cache-tester", KV, 925)]
)
def test_public_sets_convert(tmp_path: Path, kind: str, path: Path, sessions: int) -> None:
    out = tmp_path / "t.parquet"
    found = a_json(epochal_trace("convert", path, "--from", kind, "-o", out, "--format", "json"))
    assert found["sessions"] == read_trace(out).session_count
    assert read_trace(out).session_count == pytest.approx(sessions, rel=0.1)


def test_servegen_converts_to_sessions_of_one_period(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    words = ("convert", SERVEGEN, "--from", "servegen", "--hours", 0.5, "--rate-per-s", 0.2, "--active-s", 7)
    assert a_json(epochal_trace(*words, "-o", out, "--format", "json"))["periods"] == pytest.approx(360, rel=0.4)


def test_native_traces_convert_between_all_endings(tmp_path: Path) -> None:
    write_trace(a_trace("a 0-1 b 1-2"), tmp_path / "t.csv")
    for ending in ENDINGS:
        assert epochal_trace("convert", tmp_path / "t.csv", "-o", tmp_path / f"u{ending}").exit_code == 0
        assert read_trace(tmp_path / f"u{ending}").periods.equals(read_trace(tmp_path / "t.csv").periods)


def test_compose_repeats_with_its_seed(tmp_path: Path) -> None:
    words = ("compose", "--bodies", BODIES, "--arrivals", ARRIVALS, "--hours", 1, "--active-mean", 5)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert epochal_trace(*words, "--seed", seed, "-o", tmp_path / f"{name}.parquet").exit_code == 0
    a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert a == b != c


def test_compose_takes_any_trace_as_bodies_and_arrivals(tmp_path: Path) -> None:
    write_trace(a_trace("a 0-10 b 30-50 c 200-230"), tmp_path / "t.csv")
    words = ("compose", "--bodies", tmp_path / "t.csv", "--arrivals", f"native:{tmp_path / 't.csv'}", "--hours", 1)
    found = a_json(epochal_trace(*words, "--sessions-mean", 2, "-o", tmp_path / "u.csv", "--format", "json"))
    assert found["horizon_s"] == pytest.approx(3600, rel=0.05)


def test_generate_mixes_profiles_and_tenants(tmp_path: Path) -> None:
    words = ("generate", "--hours", 2, "--active-mean", 50, "--profile", "a=0.5,b=0.5", "--tenant", "x=0.9")
    assert epochal_trace(*words, "-o", tmp_path / "t.parquet").exit_code == 0
    sessions = read_trace(tmp_path / "t.parquet").sessions
    assert set(sessions["profile"]) == {"a", "b"}
    assert set(sessions["tenant"]) == {"x", None}


def test_validate_warns_on_stderr_and_quiet_does_not(tmp_path: Path) -> None:
    path = a_file(tmp_path, "session_id,start_s,end_s\na,5,6\nb,1,2\n")
    loud, quiet = epochal_trace("validate", path), epochal_trace("validate", path, "--quiet")
    assert (loud.exit_code, quiet.exit_code, quiet.stderr) == (0, 0, "")
    assert "1 of 2 rows began before an earlier row" in loud.stderr


def test_bad_input_is_told_on_stderr_with_exit_code_2(tmp_path: Path) -> None:
    path = a_file(tmp_path, "session_id,start_s,end_s\na,5,2\n")
    result = epochal_trace("validate", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{path}:2: end_s=2.0 must be > start_s=5.0\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("generate", "-o", "t.csv"), "active_mean must be given"),
        (("generate", "--active-mean", 1, "--sessions-mean", 1, "-o", "t.csv"), "must be left out"),
        (("generate", "--active-mean", 1, "--profile", "a", "-o", "t.csv"), "must be NAME=SHARE"),
        (("generate", "--active-mean", 1, "--hours", 0.1, "-o", "t.doc"), "ending=.doc must be one of"),
        (
            ("compose", "--bodies", ARRIVALS, "--arrivals", ARRIVALS, "--active-mean", 1, "-o", "t.csv"),
            "it has no sessions",
        ),
        (("compose", "--bodies", BODIES, "--arrivals", BODIES, "--active-mean", 1, "-o", "t.csv"), "no absolute times"),
        (
            ("compose", "--bodies", "x:y", "--arrivals", ARRIVALS, "--active-mean", 1, "-o", "t.csv"),
            "must be KIND:PATH",
        ),
        (("describe", "none.csv", "--plot", "t.pdf"), "ending=.pdf must be .html or .png"),
        (("describe", "none.csv"), "must be a readable file"),
    ],
)
def test_bad_options_end_with_2_and_say_what_to_do(words: tuple[object, ...], message: str) -> None:
    result = epochal_trace(*words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_folder_that_is_missing_ends_with_1(tmp_path: Path) -> None:
    result = epochal_trace("generate", "--active-mean", 1, "--hours", 0.1, "-o", tmp_path / "no" / "t.csv")
    assert result.exit_code == 1
    assert "make the folder first" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to run out of space")
def test_a_full_disk_ends_with_1_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    @told()
    def fill() -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(SystemExit) as caught:
        fill()
    assert caught.value.code == 1
    assert "free some space" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_leaves_no_file(tmp_path: Path) -> None:
    code = "from runtime.cli.trace import app; print('ready', flush=True); app()"
    words = ["generate", "--active-mean", "2500", "--hours", "24", "-o", str(tmp_path / "t.jsonl.gz")]
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", code, *words], stdout=pipe, stderr=pipe, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.5)  # well inside the many seconds that this much work takes
    os.kill(child.pid, signal.SIGINT)
    _, told_text = child.communicate(timeout=60)
    assert (child.returncode, told_text) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_describe_prints_json_and_draws(tmp_path: Path) -> None:
    write_trace(a_trace("a 0-1 b 1-2"), tmp_path / "t.csv")
    words = (
        "describe",
        tmp_path / "t.csv",
        "--format",
        "json",
        "--plot",
        tmp_path / "p.html",
        "-o",
        tmp_path / "d.json",
    )
    found = a_json(epochal_trace(*words))
    assert found["sessions"] == 2
    assert json.loads((tmp_path / "d.json").read_text()) == found
    assert (tmp_path / "p.html").stat().st_size > 1_000_000


def test_describe_prints_a_table(tmp_path: Path) -> None:
    write_trace(a_trace("a 0-1 b 1-2"), tmp_path / "t.csv")
    assert "active at once: mean, peak" in epochal_trace("describe", tmp_path / "t.csv").stdout


@pytest.mark.parametrize(
    ("name", "hours", "mean"),
    [("day-60.parquet", 24, 60), ("mixed-6h.parquet", 6, 80), ("mooncake-45min.csv.gz", 0.77, 58)],
)
def test_bundled_traces_are_what_their_readme_says(name: str, hours: float, mean: float) -> None:
    found = a_json(epochal_trace("describe", EXAMPLES / name, "--format", "json"))
    active, horizon_s = found["active"], found["horizon_s"]
    assert isinstance(active, dict)
    assert active["mean"] == pytest.approx(mean, rel=0.01)
    assert horizon_s == pytest.approx(hours * 3600, rel=0.01)
    assert f"`{found['sha256']}`" in (EXAMPLES / "README.md").read_text()


def test_bundled_traces_stay_small() -> None:
    assert sum(path.stat().st_size for path in EXAMPLES.rglob("*") if path.is_file()) < 2_000_000
