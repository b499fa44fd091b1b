"""Commands, options and metrics that docs/operations.md names are there.

Decides what on that page is a command or a metric; must never know what they do.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtime.cli.main import load_command

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8").replace("\\\n", " ")
COMMANDS = sorted(set(re.findall(r"\bepochal ([a-z]+)((?: [^`\n|]*)?)", PAGE)))
METRICS = sorted(set(re.findall(r"\bepochal_[a-z_]+[a-z]\b", PAGE)))
CODE = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("runtime/**/*.py"))


@pytest.mark.parametrize(("name", "rest"), [each for each in COMMANDS if each[0] != "version"])
def test_each_command_has_the_options_that_are_named(name: str, rest: str) -> None:
    there = {option for parameter in load_command(name).params for option in parameter.opts}
    assert set(re.findall(r"(?<!=)--[a-z][a-z-]*", rest)) - there == set()


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_is_counted(metric: str) -> None:
    """Counters have their `_total` from Prometheus's library."""
    assert metric.removesuffix("_total") in CODE


def test_commands_and_metrics_are_found() -> None:
    assert {name for name, _ in COMMANDS} >= {"serve", "controller", "gateway", "worker", "keys", "replay"}
    assert "epochal_plan_age_seconds" in METRICS
