"""`epochal step`, `explain` and `diff`: the real commands, one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command import ROOT, epochal

SNAPSHOT = ROOT / "examples/snapshots/evening.json"
FLEET = ROOT / "examples/fleets/four-profiles.yaml"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two decisions on the bundled snapshot: as the forecast wants GPUs, and with those that are on."""
    folder = tmp_path_factory.mktemp("decisions")
    for name, more in (("evening.decision.json", ()), ("kept.decision.json", ("--keep-gpus",))):
        done = epochal("step", SNAPSHOT, "--fleet", FLEET, "-o", name, "--deadline-s", "2", *more, cwd=folder)
        assert done.returncode == 0, done.stderr
        for tier in ("repair", "serve", "meet", "balance", "move"):
            assert tier in done.stdout
    return folder


def test_a_step_as_json_is_its_report(here: Path) -> None:
    done = epochal("step", SNAPSHOT, "--fleet", FLEET, "-o", "again.json", "--format", "json", cwd=here)
    found = json.loads(done.stdout)
    assert found["decision"] == "again.json"
    assert found["moves"]["place"] == 1
    assert {tier["tier"]: tier["value"] for tier in found["report"]["tiers"]}["serve"] == 0
    assert json.loads((here / "again.json").read_text())["format"] == "epochal.decision/1"


def test_who_has_no_room_makes_the_exit_code_3(here: Path) -> None:
    crowd = [{"session_id": f"s{i}", "profile": "wan-1.3b-480p", "status": "waiting", "since_s": 0.0} for i in range(9)]
    gpus = [{"gpu_id": "h100-0-0-0", "status": "ready", "since_s": 60.0}]  # it is now; nobody may wait so long
    (here / "full.json").write_text(json.dumps({"format": "epochal.snapshot/1", "gpus": gpus, "sessions": crowd}))
    done = epochal("step", "full.json", "--fleet", FLEET, "--keep-gpus", cwd=here)
    assert done.returncode == 3
    assert "3 sessions have no GPU" in done.stderr
    assert (here / "full.decision.json").exists()
    waits = epochal("explain", "full.decision.json", "s8", cwd=here)
    assert "on 1 its batch may not run" in " ".join(waits.stdout.split())


def test_a_late_session_is_explained(here: Path) -> None:
    done = epochal("explain", "kept.decision.json", "dan", cwd=here)
    text = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert "GPU h100-0-0-0 would run at 780 ms, above the 750 ms target of wan-1.3b-480p" in text
    assert "meet would be 120 ms worse" in text


def test_an_explanation_as_json_has_the_same_figures(here: Path) -> None:
    found = json.loads(epochal("explain", "kept.decision.json", "dan", "--format", "json", cwd=here).stdout)
    assert found["constraint"]["figures"] == {"latency_ms": 780.0, "target_ms": 750.0}
    assert found["alternative"]["difference"] == {"tier": "meet", "by": 120.0, "unit": "ms"}
    tiers = {tier["tier"]: tier for tier in found["tiers"]}
    assert (tiers["meet"]["before"], tiers["meet"]["value"], tiers["meet"]["alternative"]) == (120.0, 0.0, 120.0)


def test_the_difference_of_two_decisions_names_gpus_and_sessions(here: Path) -> None:
    found = json.loads(
        epochal("diff", "evening.decision.json", "kept.decision.json", "--format", "json", cwd=here).stdout
    )
    assert found["gpus"]["h100-0-1-2"] == ["keep", "drain"]
    assert found["counts"]["gpus"] == len(found["gpus"])
    assert not found["equal"]
    shown = epochal("diff", "evening.decision.json", "kept.decision.json", "--rows-max", "1", cwd=here).stdout
    assert "GPUs with another aim" in shown
    assert "more; --rows-max" in shown


def test_a_decision_does_not_differ_from_itself(here: Path) -> None:
    found = epochal("diff", "kept.decision.json", "kept.decision.json", "--format", "json", cwd=here)
    assert json.loads(found.stdout)["equal"] is True


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("explain", "absent.json", "dan"), "absent.json: cannot be read: No such file or directory"),
        (("explain", "kept.decision.json", "dann"), 'SESSION: "dann" must be a session of kept.decision.json; did you'),
        (("explain", SNAPSHOT, "dan"), "format=\"epochal.snapshot/1\" must be 'epochal.decision/1'"),
        (("explain", "kept.decision.json", "dan", "--deadline-s", "0"), "--deadline-s: 0 must be a finite number > 0"),
        (("diff", "kept.decision.json", "absent.json"), "absent.json: cannot be read: No such file or directory"),
        (("step", SNAPSHOT), "--fleet: is missing; epochal step SNAPSHOT --fleet FLEET"),
        (("step", SNAPSHOT, "--fleet", FLEET, "--now-s", "nan"), "--now-s: nan must be a finite number"),
        (("step", "kept.decision.json", "--fleet", FLEET), "must be 'epochal.snapshot/1'"),
        (("step", SNAPSHOT, "--fleet", ROOT / "examples/fleets/one-type.yaml"), "must be a profile of the fleet"),
    ],
)
def test_bad_input_is_told_with_the_remedy(here: Path, arguments: tuple[str | Path, ...], expected: str) -> None:
    done = epochal(*arguments, cwd=here)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["step", "explain", "diff"])
def test_help_has_an_example_and_the_exit_codes(here: Path, command: str) -> None:
    text = " ".join(epochal(command, "--help", cwd=here).stdout.split())
    assert f"Example: epochal {command}" in text
    assert "Exit codes" in text
