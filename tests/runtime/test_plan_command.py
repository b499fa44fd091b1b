"""`epochal plan` and `version`: options, messages and exit codes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from runtime.cli.errors import told
from runtime.cli.interrupt import first_interrupt_stops
from runtime.cli.main import app
from runtime.cli.plan_options import default_folder
from runtime.cli.progress import progress_line, shown_progress
from scheduler.offline import Progress
from scheduler.plan_folder import write_plan
from tests.builders import FLEET, a_moving_plan
from traces.errors import BadInputError

ROOT = Path(__file__).parents[2]
TRACE = "session_id,start_s,end_s\ns1,0,20\ns2,0,30\ns3,5,45\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with trace.csv, fleet.yaml and the hand-made plan, which is the current one."""
    for name in os.environ:
        if name.startswith("EPOCHAL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.csv").write_text(TRACE)
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(FLEET, sort_keys=False))
    sha256 = hashlib.sha256(TRACE.encode()).hexdigest()
    write_plan(dataclasses.replace(a_moving_plan(), trace_sha256=sha256), tmp_path / "good")
    return tmp_path


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env=environment or None)


def test_help_has_an_example_and_the_exit_codes() -> None:
    result = run("plan", "--help")
    assert result.exit_code == 0
    for text in ("Example: epochal plan", "Exit codes", "--frontier"):
        assert text in " ".join(result.stdout.split())


def test_version_is_printed_as_json() -> None:
    result = run("version", "--format", "json")
    assert set(json.loads(result.stdout)) == {"version"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--fleet fleet.yaml", "TRACE: is missing; epochal plan TRACE --fleet FLEET"),
        ("trace.csv", "--fleet: is missing; epochal plan TRACE --fleet FLEET"),
        ("trace.csv --fleet absent.yaml", "absent.yaml: cannot be read: No such file or directory"),
        ("absent.csv --fleet fleet.yaml", "absent.csv"),
        ("trace.csv --fleet trace.csv", "trace.csv: must be a mapping of keys"),
        ("trace.csv --fleet fleet.yaml --epoch-s -1", "--epoch-s: epoch_s=-1 must be > 0"),
        ("trace.csv --fleet fleet.yaml --deadline-s 0", "--deadline-s: 0 must be a finite number > 0"),
        ("trace.csv --fleet fleet.yaml --deadline-s nan", "--deadline-s: nan must be a finite number > 0"),
        ("trace.csv --fleet fleet.yaml --gap 1", "--gap: 1 must be >= 0 and < 1"),
        ("trace.csv --fleet fleet.yaml --gap nan", "--gap: nan must be >= 0 and < 1"),
        ("trace.csv --fleet fleet.yaml --minimize latency", "--gpus: is missing; --minimize latency must have it"),
        ("trace.csv --fleet fleet.yaml --gpus h100=1", "--gpus: must come with --minimize latency"),
        ("trace.csv --fleet fleet.yaml --minimize latency --gpus h100=1 --frontier", "--frontier: must come with"),
        ("trace.csv --fleet fleet.yaml --minimize latency --gpus h10=1", '"h10" must be a GPU type of the fleet; did'),
        ("trace.csv --fleet fleet.yaml --minimize latency --gpus h100", '--gpus: "h100" must be TYPE=N'),
        ("trace.csv --fleet fleet.yaml --minimize latency --gpus h100=0", '--gpus: "h100=0" must be TYPE=N'),
        ("trace.csv --fleet fleet.yaml --minimize latency --gpus h100=5", "--gpus: h100=5 must be <= 4, the size of"),
        ("trace.csv --fleet fleet.yaml --minimize latency --gpus h100=1,h100=2", "--gpus: h100 is given twice"),
        ("trace.csv --fleet fleet.yaml --state absent.json", "absent.json: cannot be read"),
        ("trace.csv --fleet fleet.yaml -o .", "must be empty or hold a plan, and holds fleet.yaml"),
        ("trace.csv --fleet fleet.yaml -o trace.csv", "must be a folder, and is a file"),
        ("--verify absent", "absent: must be a folder that epochal plan wrote"),
        ("--verify .", ".: has no plan.json; give a folder that epochal plan wrote"),
    ],
)
def test_bad_input_is_told_on_stderr_with_code_2(here: Path, arguments: str, expected: str) -> None:
    before = sorted(here.rglob("*"))
    result = run("plan", *arguments.split())
    assert expected in result.stderr
    assert result.stdout == ""
    assert result.exit_code == 2
    assert sorted(here.rglob("*")) == before


def test_wrong_environment_variable_is_told(here: Path) -> None:
    result = run("plan", "trace.csv", "--fleet", "fleet.yaml", EPOCHAL_EPOCHS="5")
    assert "EPOCHAL_EPOCHS: is not a known variable; did you mean EPOCHAL_EPOCH_S?" in result.stderr
    assert result.exit_code == 2
    assert not (here / "trace.plan").exists()


@pytest.mark.parametrize("arguments", ["--seed -1", "--format xml", "--solver magic", "--minimize time", "--nonsense"])
def test_options_of_another_kind_are_refused_with_code_2(here: Path, arguments: str) -> None:
    assert run("plan", "trace.csv", "--fleet", str(here / "fleet.yaml"), *arguments.split()).exit_code == 2


def test_right_plan_verifies_against_its_trace_and_fleet(here: Path) -> None:
    result = run("plan", "--verify", str(here / "good"), "trace.csv", "--fleet", "fleet.yaml")
    assert result.exit_code == 0
    assert "the plan is what it claims" in result.stdout
    assert "$0.1100 at least, by needed.parquet" in result.stdout


@pytest.mark.usefixtures("here")
def test_plan_verifies_from_its_files_alone_and_says_what_it_cannot() -> None:
    result = run("plan", "--verify", "good")
    assert result.exit_code == 0
    assert "give the trace" in result.stdout


def test_wrong_plan_fails_with_code_1(here: Path) -> None:
    path = here / "good" / "plan.json"
    path.write_text(path.read_text().replace('"migrations": 1', '"migrations": 0'))
    result = run("plan", "--verify", "good", "trace.csv")
    assert result.exit_code == 1
    assert "WRONG objective.migrations=0, recomputed 1" in result.stdout
    as_json = json.loads(run("plan", "--verify", "good", "trace.csv", "--format", "json").stdout)
    assert as_json["right"] is False
    assert as_json["findings"] == ["objective.migrations=0, recomputed 1"]


def test_another_trace_is_noticed(here: Path) -> None:
    (here / "other.csv").write_text(TRACE.replace("45", "46"))
    result = run("plan", "--verify", "good", "other.csv")
    assert result.exit_code == 1
    assert "WRONG trace.sha256=" in result.stdout


@pytest.mark.parametrize(
    ("name", "expected"),
    [("evening.csv", "evening.plan"), ("a/evening.csv.gz", "evening.plan"), ("v1.2.jsonl", "v1.2.plan")],
)
def test_default_folder_is_named_after_the_trace(name: str, expected: str) -> None:
    assert default_folder(Path(name)) == Path(expected)


def code_of(error: BaseException) -> int:
    """The exit code of a command whose body raises this."""
    command = CliRunner()
    import typer

    small = typer.Typer()

    @small.command()
    def body() -> None:
        with told():
            raise error

    return command.invoke(small, []).exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInputError.of("x", "must be y"), 2),
        (OSError(28, "No space left on device", "plan.json"), 1),
        (PermissionError(13, "Permission denied"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_is_not_our_bug_has_its_exit_code(error: BaseException, code: int) -> None:
    assert code_of(error) == code


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), told():
        raise ZeroDivisionError


def test_full_device_is_one_message(here: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from runtime.cli.main import main; main()", "plan", "--verify", str(here / "good")],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_first_interrupt_raises_the_flag_and_the_second_aborts(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with first_interrupt_stops() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        assert "the best schedule so far is kept" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_leave_signals_alone() -> None:
    flags: list[bool] = []

    def work() -> None:
        with first_interrupt_stops() as stop:
            flags.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert flags == [False]


def test_progress_tells_stage_incumbent_bound_gap_and_time() -> None:
    progress = Progress(stage="packing", elapsed_s=3.25, value=120.5, bound=119.0, gap=0.0126)
    assert progress_line(progress, "cost") == "packing 3.2 s, $120.50, bound $119.00, gap 1.26%"
    assert progress_line(Progress(stage="bound", elapsed_s=0.1, value=200.0), "latency") == "bound 0.1 s, 200.0 ms"


def test_progress_is_silent_where_stderr_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with shown_progress(quiet=False, minimize="cost") as show:
        show(Progress(stage="packing", elapsed_s=1.0))
    assert capfd.readouterr() == ("", "")
