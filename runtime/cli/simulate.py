"""`epochal simulate`: a policy on a trace, in virtual time.

Decides what the command takes, writes and returns; must never know how a run is simulated.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli.errors import INTERRUPTED, UNSERVED_OR_LATE, told
from runtime.cli.interrupt import first_interrupt_stops
from runtime.cli.output import FormatOption, OutputFormat, print_json, print_rows
from runtime.cli.progress import shown_progress, shown_virtual_time
from runtime.cli.reading import read_with_warnings
from runtime.cli.run_options import (
    PolicyOption,
    SettingsOption,
    TraceArgument,
    check_optimum_s,
    check_policies,
    parse_settings,
)
from runtime.planning import optimum_by_the_clock
from runtime.simulating import Choice, RunOptions, simulate_by_the_clock
from scheduler.compare import is_short
from scheduler.fleet import Fleet
from scheduler.fleet_file import load_fleet, with_overrides
from scheduler.offline_plan import OfflinePlan
from scheduler.run_folder import refuse_foreign_run_folder, write_run
from scheduler.simulation.fault_law import FaultLaw, parse_faults
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.settings import PlanTime
from traces.errors import BadInputError
from traces.store import write_bytes

_EPILOG = (
    "Example: epochal simulate evening.csv --fleet fleet.yaml --policy epochal -o evening.run. "
    "With faults: --faults failures_per_h=1,repair_s=600,stragglers_per_h=2,straggler_factor=1.5,straggler_s=120. "
    "Exit codes: 0 done, 1 failed, 2 bad input, 3 done but some chunk or first chunk was late, "
    "130 interrupted (the first Ctrl-C ends the run at its present virtual time and still writes it). "
    "Fleet keys can be set by the environment: EPOCHAL_EPOCH_S=10."
)

SIMULATE_COMMAND: dict[str, Any] = {"epilog": _EPILOG, "no_args_is_help": True}
FAULTS_HELP = "Failures and stragglers, drawn with the seed: failures_per_h=1,repair_s=300,stragglers_per_h=..."


def simulate_command(
    trace: TraceArgument,
    fleet: Annotated[Path | None, typer.Option(help="Fleet file (YAML).")] = None,
    policy: PolicyOption = "epochal",
    settings: SettingsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the policy's choices and the faults.")] = 0,
    faults: Annotated[str, typer.Option(metavar="NAME=VALUE,...", help=FAULTS_HELP)] = "",
    plan_time: Annotated[
        PlanTime, typer.Option(help="How long a plan takes to compute: as stated (runs repeat), or as measured.")
    ] = "stated",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write: summary, tables, report.html.")
    ] = None,
    rounds: Annotated[bool, typer.Option("--rounds", help="Keep the table of batch rounds.")] = False,
    optimum_s: Annotated[
        float, typer.Option(help="With -o: seconds for the offline optimum that the report compares with; 0: none.")
    ] = 10.0,
    perfetto: Annotated[
        Path | None, typer.Option(help="File for ui.perfetto.dev (JSON), with a track per GPU and seat.")
    ] = None,
    output_format: FormatOption = "table",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no warnings about the trace.")] = False,
) -> None:
    """Run a policy on a trace in virtual time: what users would have felt, and what it would have cost."""
    with told():
        if fleet is None:
            raise BadInputError.of("--fleet", "is missing; epochal simulate TRACE --fleet FLEET --policy NAME")
        check_policies([policy], "--policy")
        check_optimum_s(optimum_s)
        choice = Choice(policy=policy, settings=parse_settings(settings or []))
        law = parse_faults(faults) if faults else FaultLaw()
        if output is not None:
            refuse_foreign_run_folder(output)
        effective, _ = with_overrides(load_fleet(fleet), {}, os.environ)
        demand = read_with_warnings(trace, quiet=quiet)
        options = RunOptions(faults=law, plan_time=plan_time, rounds=rounds, fleet_name=fleet.name)
        horizon_s = demand.horizon_us / 1e6
        with first_interrupt_stops("the run ends at its present virtual time") as stop:
            with shown_virtual_time(policy, horizon_s, quiet=quiet) as progress:
                outcome = simulate_by_the_clock(demand, effective, choice, seed, options, stop=stop, progress=progress)
            if outcome.summary.horizon_s <= 0:
                print("interrupted before anything was simulated", file=sys.stderr)
                raise typer.Exit(INTERRUPTED)
            optimum = None
            if output is not None and optimum_s > 0 and not stop.raised:
                with shown_progress(quiet=quiet, minimize="cost") as searching:
                    optimum = optimum_by_the_clock(demand, effective, optimum_s, stop=stop, progress=searching)
        if output is not None:
            write_run(outcome, output, {"report.html": _report(outcome, effective, optimum)})
        if perfetto is not None:
            write_bytes(perfetto, _perfetto(outcome))
        _print(outcome, output, output_format)
        if stop.raised:
            at_s = outcome.summary.horizon_s
            print(f"interrupted; the figures are of the first {at_s:g} of {horizon_s:g} s", file=sys.stderr)
            raise typer.Exit(INTERRUPTED)
        raise typer.Exit(UNSERVED_OR_LATE if is_short(outcome.summary) else 0)


def _report(outcome: Outcome, fleet: Fleet, optimum: OfflinePlan | None) -> bytes:
    from scheduler.report.run_page import render_run  # plotly takes a second to import

    return render_run(outcome, fleet, optimum).encode()


def _perfetto(outcome: Outcome) -> bytes:
    from scheduler.perfetto import perfetto_trace  # as above

    return json.dumps(perfetto_trace(outcome.tables), separators=(",", ":")).encode()


def _print(outcome: Outcome, folder: Path | None, output_format: OutputFormat) -> None:
    if output_format == "json":
        print_json(outcome.summary.to_json())
    else:
        written = {} if folder is None else {"Written to": str(folder)}
        print_rows(outcome.headline() | written)
