"""The overview of subcommands is written down, so that it loads none of them: it must say what they say."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main
from typer.testing import CliRunner

from runtime.cli.main import app, load_command
from tests.e2e.command import ROOT, environment

_GROUP = typer.main.get_command(app)
_LISTED = [name for name in _GROUP.commands if name != "version"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", _LISTED)
def test_the_overview_says_what_the_command_says(name: str) -> None:
    said = load_command(name).help or ""
    first = said.partition("\n\n")[0].replace("\n", " ")
    assert _GROUP.commands[name].help == first  # type: ignore[attr-defined]


def test_every_command_is_there() -> None:
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    assert [name for name in (*_LISTED, "version") if f" {name} " not in done.stdout] == []


def test_a_misspelt_command_is_answered_with_the_nearest() -> None:
    done = CliRunner().invoke(app, ["simulat"])
    assert done.exit_code == 2
    assert "Did you mean 'simulate'?" in done.stderr


def test_the_overview_loads_no_solver_and_no_table() -> None:
    told = "print([name for name in ('numba', 'polars') if name in sys.modules])"
    code = f"import sys, runtime.cli.main as command\ntry: command.main()\nfinally: {told}"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("[]\n")
