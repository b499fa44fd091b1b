"""`epochal demo` in an empty folder: two plans, checked, with reports."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.command import epochal


def test_the_demo_plans_checks_and_reports(tmp_path: Path) -> None:
    done = epochal("demo", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "planning day-60" in done.stderr
    outcomes = json.loads(done.stdout)
    assert [outcome["case"] for outcome in outcomes] == ["day-60", "mixed-6h"]
    for outcome in outcomes:
        assert outcome["findings"] == []
        assert outcome["bound_dollars"] <= outcome["total_dollars"] < outcome["headroom_rule_dollars"]
        report = tmp_path / outcome["folder"] / "report.html"
        assert "Blanket headroom" in report.read_text(encoding="utf-8")


def test_the_demo_leaves_a_foreign_folder_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "here" / "day-60.plan"
    foreign.mkdir(parents=True)
    (foreign / "mine.txt").write_text("mine")
    done = epochal("demo", "-o", "here", cwd=tmp_path)
    assert done.returncode == 2
    assert "must be empty or hold a plan, and holds mine.txt" in done.stderr
    assert [path.name for path in foreign.iterdir()] == ["mine.txt"]
