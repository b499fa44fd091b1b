"""`epochal simulate`, `compare` and `whatif`: wrong inputs, told with the remedy before anything is run or written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from runtime.cli.main import app
from runtime.cli.progress import shown_runs, shown_virtual_time
from runtime.cli.run_options import parse_policy_settings, parse_settings
from scheduler.compare import Cell
from tests.builders import FLEET

TRACE = "session_id,start_s,end_s\ns1,0,20\ns2,0,30\ns3,5,45\n"
RUN = "trace.csv --fleet fleet.yaml"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with trace.csv, fleet.yaml and a trace of a profile that the fleet does not know; the current one."""
    for name in os.environ:
        if name.startswith("EPOCHAL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.csv").write_text(TRACE)
    (tmp_path / "strange.csv").write_text("session_id,start_s,end_s,profile\ns1,0,20,wan\n")
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(FLEET, sort_keys=False))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("simulate trace.csv --policy hpa", "--fleet: is missing; epochal simulate TRACE --fleet FLEET --policy NAME"),
        (f"simulate {RUN} --policy hpaa", '--policy: "hpaa" must be the name of a policy; did you mean hpa?'),
        (f"simulate {RUN} --policy hpa --set targett=1", "hpa: targett is not a known key; did you mean target?"),
        (f"simulate {RUN} --policy hpa --set target=x", 'hpa: target="x" must be a number'),
        (f"simulate {RUN} --policy hpa --set target", '--set: "target" must be name=value'),
        (
            f"simulate {RUN} --policy hpa --faults repair=1",
            '--faults: "repair" must be one of the rates and times',
        ),
        (f"simulate {RUN} --policy hpa --optimum-s nan", "--optimum-s: nan must be a finite number >= 0"),
        (f"simulate {RUN} --policy hpa -o .", "must be empty or hold a run, and holds fleet.yaml"),
        ("simulate absent.csv --fleet fleet.yaml --policy hpa", "absent.csv: path=absent.csv must be a readable file"),
        ("simulate trace.csv --fleet absent.yaml --policy hpa", "absent.yaml: cannot be read: No such file"),
        (
            "simulate strange.csv --fleet fleet.yaml --policy hpa",
            "profile='wan' (1 sessions) must be one of the",
        ),
        ("compare trace.csv --policies hpa", "--fleet: is missing; epochal compare TRACE... --fleet FLEET"),
        (f"compare {RUN}", "--policies: is empty; it must name policies: fixed-round-robin,"),
        (f"compare {RUN} --policies hpa,hpa", "--policies: hpa is given twice; keep one"),
        (f"compare {RUN} --policies lumnix", '"lumnix" must be the name of a policy; did you mean llumnix?'),
        (f"compare {RUN} --policies hpa --set target=1", '--set: "target=1" must be policy.name=value'),
        (
            f"compare {RUN} --policies hpa --set hpb.target=1",
            '"hpb" must be one of the policies compared; did',
        ),
        (f"compare trace.csv {RUN} --policies hpa", "trace.csv: is the second trace named trace.csv; rename one"),
        (f"compare {RUN} --policies hpa -o .", "must be empty or hold a comparison, and holds fleet.yaml"),
        ("whatif trace.csv --arrivals 2", "--fleet: is missing; epochal whatif TRACE --fleet FLEET"),
        (f"whatif {RUN} --policy hpa", "whatif: must have a change: --arrivals, --gpu, --target-ms or --startup-s"),
        (f"whatif {RUN} --policy hpa --gpu h10", '--gpu: "h10" must be a GPU type of the fleet; did you mean h100?'),
        (f"whatif {RUN} --policy hpa --arrivals 0", "arrivals: factor=0 must be > 0 and finite"),
        (f"whatif {RUN} --policy hpa --target-ms 0", "--target-ms: target.chunk_latency_ms=0 must be > 0"),
        (f"whatif {RUN} --policy hpa --arrivals 2 --optimum-s 0", "--optimum-s: 0 must be a finite number > 0"),
    ],
)
def test_bad_input_is_told_on_stderr_with_code_2(here: Path, arguments: str, expected: str) -> None:
    before = sorted(here.rglob("*"))
    result = run(*arguments.split())
    assert expected in result.stderr
    assert result.stdout == ""
    assert result.exit_code == 2
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("command", ["simulate", "compare", "whatif"])
def test_help_has_an_example_and_the_exit_codes(command: str) -> None:
    text = " ".join(run(command, "--help").stdout.split())
    assert f"Example: epochal {command}" in text
    assert "Exit codes" in text


def test_settings_keep_what_follows_the_first_equals_sign() -> None:
    assert parse_settings(["gpus=h100=2+b200=1"]) == {"gpus": "h100=2+b200=1"}
    found = parse_policy_settings(["hpa.target=0.5"], ["hpa", "epochal"])
    assert found == {"hpa": {"target": "0.5"}, "epochal": {}}


def test_progress_is_silent_where_stderr_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with shown_virtual_time("hpa", 60.0, quiet=False) as progress:
        progress(30.0)
    cell = Cell(trace=0, policy="hpa", seed=0)
    with shown_runs([cell], [60.0], quiet=False) as (started, ended):
        started(cell)(30.0)
        ended(cell)
    assert capfd.readouterr() == ("", "")
