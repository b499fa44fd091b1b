"""Settings of the planner come from a file, and every mistake in it is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.controller.process.planner_file import load_planner
from scheduler.planner_settings import PlannerSettings
from tests.e2e.command import epochal
from traces.errors import BadInputError


def test_what_is_left_out_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "planner.yaml"
    path.write_text('balance: false\nscaling: {scale_in_hold_s: 5}\nlateness_weights: {"1": 4}\n')
    found = load_planner(path)
    assert (found.balance, found.scaling.scale_in_hold_s, found.lateness_weights) == (False, 5.0, {1: 4})
    same = {"balance": True, "scaling": PlannerSettings().scaling, "lateness_weights": {}}
    assert found.model_copy(update=same) == PlannerSettings()
    path.write_text("")
    assert load_planner(path) == PlannerSettings()


def test_mistakes_are_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "planner.yaml"
    path.write_text("gap: 2\nscaling:\n  scale_in_hold: 5\n")
    with pytest.raises(BadInputError) as refused:
        load_planner(path)
    assert [(finding.line, finding.source) for finding in refused.value.findings] == [(1, str(path)), (3, str(path))]
    assert "must be <= 1" in str(refused.value)
    assert "did you mean scale_in_hold_s" in str(refused.value)


def test_a_list_is_refused_by_the_command(tmp_path: Path) -> None:
    path = tmp_path / "planner.yaml"
    path.write_text("- balance\n")
    done = epochal("serve", "--state", tmp_path / "state", f"--planner={path}", cwd=tmp_path)
    assert done.returncode == 2
    assert "planner.yaml: must be a mapping" in done.stderr
    assert not (tmp_path / "state").exists()
