"""The console commands `epochal` and `plan`.

Decides which subcommands there are; must never know what one of them does.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from runtime.cli.compare import COMPARE_COMMAND, compare_command
from runtime.cli.demo import DEMO_COMMAND, demo_command
from runtime.cli.diff import DIFF_COMMAND, diff_command
from runtime.cli.explain import EXPLAIN_COMMAND, explain_command
from runtime.cli.output import FormatOption, print_json
from runtime.cli.plan import PLAN_COMMAND, plan_command
from runtime.cli.profile import PROFILE_COMMAND, profile_command
from runtime.cli.simulate import SIMULATE_COMMAND, simulate_command
from runtime.cli.step import STEP_COMMAND, step_command
from runtime.cli.trace import app as trace_app
from runtime.cli.whatif import WHATIF_COMMAND, whatif_command
from runtime.cli.worker import WORKER_COMMAND, worker_command

_SETTINGS: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False}

app = typer.Typer(help="Scheduling of streaming video generation, with a bound on every plan.", **_SETTINGS)
app.command("plan", **PLAN_COMMAND)(plan_command)
app.command("simulate", **SIMULATE_COMMAND)(simulate_command)
app.command("compare", **COMPARE_COMMAND)(compare_command)
app.command("whatif", **WHATIF_COMMAND)(whatif_command)
app.command("demo", **DEMO_COMMAND)(demo_command)
app.command("step", **STEP_COMMAND)(step_command)
app.command("explain", **EXPLAIN_COMMAND)(explain_command)
app.command("diff", **DIFF_COMMAND)(diff_command)
app.command("profile", **PROFILE_COMMAND)(profile_command)
app.command("worker", **WORKER_COMMAND)(worker_command)
app.add_typer(trace_app, name="trace")


@app.callback(no_args_is_help=True)
def _epochal() -> None:
    """Scheduling of streaming video generation, with a bound on every plan."""


@app.command("version", epilog="Example: epochal version")
def version_command(
    output_format: FormatOption = "table",
) -> None:
    """Print the version."""
    try:
        number = version("epochal")
    except PackageNotFoundError:
        number = "unknown, run from a checkout"
    if output_format == "json":
        print_json({"version": number})
    else:
        print(f"epochal {number}")


def main() -> None:
    """`epochal`."""
    app(prog_name="epochal")


def plan_alias() -> None:
    """`plan`, the same as `epochal plan`."""
    alias = typer.Typer(**_SETTINGS)
    alias.command(**PLAN_COMMAND)(plan_command)
    alias(prog_name="plan")
