"""The console commands `epochal` and `plan`.

Decides which subcommands there are, and loads only the one that is called; must never know what one of them does.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from runtime.cli.output import FormatOption, print_json

_SETTINGS: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False}
# Each is a module beside this one, with `x_command` and `X_COMMAND`, or with `app` where it has commands of its own.
_COMMANDS = {
    "plan": "Plan a whole trace: the cheapest (or fastest) schedule, with a certificate of how far from optimal it can "
    "be.",
    "simulate": "Run a policy on a trace in virtual time: what users would have felt, and what it would have cost.",
    "compare": "Run policies on traces, with several seeds, and put them side by side with the offline optimum.",
    "whatif": "Change one thing at a time and see what the optimum and the policy make of it, beside the base case.",
    "replay": "Hold a live run against the simulator: same demand, same fleet, what was measured beside what is "
    "predicted.",
    "demo": "Plan two bundled real traces, check the plans and write their reports: no GPU, under a minute.",
    "step": "Plan one control epoch: which GPUs are on, where sessions go, and how good that is.",
    "explain": "Say why a session moves or stays: what binds it, what that costs, and the best plan that was rejected.",
    "diff": "Show the sessions, GPUs and moves that differ between two plans, and their tiers side by side.",
    "profile": "Measure how long chunks take on this device, per profile and batch, and write a fleet file.",
    "keys": "Make the certificates with which controller, gateway and workers know each other; add, list, remove.",
    "serve": "Serve sessions: a gateway, a controller and its workers, on this machine unless they are elsewhere.",
    "client": "Open a session and watch it: to a file, in the terminal or in a browser; steer it meanwhile.",
    "controller": "Decide where sessions are: place, suspend and migrate them, and start and stop workers as plans "
    "want it.",
    "worker": "Compute the chunks of sessions on one device, as a controller says.",
    "store": "Let pairs of workers meet, so that states go over NCCL between GPUs and over gloo between processors.",
    "gateway": "Let clients create sessions and watch them, over HTTP and WebSocket.",
    "trace": "Traces: public formats to ours, bodies on arrivals, synthetic workloads, checks, statistics.",
}


def load_command(name: str) -> TyperCommand | TyperGroup:
    """The subcommand of this name, from its module: solvers and tables take a second or two to import."""
    module = import_module(f"runtime.cli.{name}")
    own = getattr(module, "app", None)
    if own is None:
        own = typer.Typer(**_SETTINGS)
        own.command(name, **getattr(module, f"{name.upper()}_COMMAND"))(getattr(module, f"{name}_command"))
    command = typer.main.get_command(own)
    assert isinstance(command, TyperCommand | TyperGroup)
    return command


class _LoadedWhenCalled(TyperGroup):
    """Subcommands are listed by what `_COMMANDS` says of them, and loaded by the one that is resolved."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=said) for name, said in _COMMANDS.items()} | {**self.commands}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return (name, load_command(name) if name in _COMMANDS else command, rest)


app = typer.Typer(cls=_LoadedWhenCalled, **_SETTINGS)


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
    load_command("plan")(prog_name="plan")
