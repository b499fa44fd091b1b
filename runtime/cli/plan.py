"""`epochal plan`: the offline optimal schedule of a trace, and the check of one that was written before.

Decides what the command takes, writes and returns; must never know how plans are found or checked.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli.errors import FAILED, INTERRUPTED, UNSERVED_OR_LATE, told
from runtime.cli.interrupt import first_interrupt_stops
from runtime.cli.output import FormatOption, OutputFormat, print_json, print_rows
from runtime.cli.plan_options import check_options, default_folder, parse_gpus
from runtime.cli.progress import shown_progress
from runtime.cli.reading import read_with_warnings
from runtime.planning import plan_by_the_clock
from scheduler.fleet_file import load_fleet, with_overrides
from scheduler.offline import MilpName, OfflineOptions, SolverName
from scheduler.offline_plan import Minimize, OfflinePlan
from scheduler.plan_folder import read_plan, refuse_foreign_folder, write_plan
from scheduler.plan_json import plan_json
from scheduler.state import load_state
from scheduler.verify import Verdict, verify
from traces.errors import BadInputError
from traces.store import read_trace
from traces.trace import Trace

_EPILOG = (
    "Example: epochal plan evening.csv --fleet fleet.yaml -o evening.plan. "
    "Check it with: epochal plan --verify evening.plan evening.csv. "
    "Exit codes: 0 done, 1 failed (or a check found something), 2 bad input, 3 done but some session is unserved or "
    "late, 130 interrupted (the first Ctrl-C still writes the best schedule so far). "
    "Fleet keys can be set by the environment: EPOCHAL_BUDGET__MOVES_PER_EPOCH=8."
)

PLAN_COMMAND: dict[str, Any] = {"epilog": _EPILOG, "no_args_is_help": True}


def plan_command(
    trace: Annotated[Path | None, typer.Argument(help="Trace: .csv, .jsonl (either may be .gz) or .parquet.")] = None,
    fleet: Annotated[Path | None, typer.Option(help="Fleet file (YAML); needed unless --verify.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; default: the trace's name with .plan.")
    ] = None,
    verify_folder: Annotated[
        Path | None,
        typer.Option("--verify", help="Check this plan folder instead, from its files alone; with TRACE, against it."),
    ] = None,
    minimize: Annotated[Minimize, typer.Option(help="What to minimise once all are served.")] = "cost",
    gpus: Annotated[
        str | None, typer.Option(metavar="TYPE=N[,TYPE=N]", help="GPUs that are on throughout; for latency.")
    ] = None,
    state: Annotated[Path | None, typer.Option(help="State file (JSON) that holds at time 0.")] = None,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Also the least cost for other latency targets.")
    ] = False,
    deadline_s: Annotated[float, typer.Option(help="Stop searching after this many seconds.")] = 60.0,
    gap: Annotated[float, typer.Option(help="Stop at this gap between value and bound, relative.")] = 1e-4,
    solver: Annotated[SolverName, typer.Option(help="Which solver; auto tries in turn.")] = "auto",
    milp: Annotated[MilpName, typer.Option(help="PuLP's solver of GPU counts, where types are several.")] = "HiGHS",
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    png: Annotated[bool, typer.Option("--png", help="Also write the report's pictures as PNG.")] = False,
    epoch_s: Annotated[float | None, typer.Option(help="Override the fleet's epoch_s.")] = None,
    output_format: FormatOption = "table",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no warnings about the trace.")] = False,
) -> None:
    """Plan a whole trace: the cheapest (or fastest) schedule, with a certificate of how far from optimal it can be."""
    with told():
        if verify_folder is not None:
            raise typer.Exit(_verify(verify_folder, trace, fleet, output_format))
        if trace is None or fleet is None:
            missing = "TRACE" if trace is None else "--fleet"
            raise BadInputError.of(missing, "is missing; epochal plan TRACE --fleet FLEET")
        if png and find_spec("matplotlib") is None:
            raise BadInputError.of("--png", "must have matplotlib; pip install 'epochal[png]'")
        check_options(minimize=minimize, gpus=gpus, frontier=frontier, deadline_s=deadline_s, gap=gap)
        folder = output or default_folder(trace)
        refuse_foreign_folder(folder.resolve())
        command_line = {} if epoch_s is None else {"epoch_s": epoch_s}
        effective, overrides = with_overrides(load_fleet(fleet), command_line, os.environ)
        options = OfflineOptions(
            minimize=minimize,
            gpus=None if gpus is None else parse_gpus(gpus, effective),
            state=None if state is None else load_state(state, effective),
            frontier=frontier,
            deadline_s=deadline_s,
            gap=gap,
            solver=solver,
            milp=milp,
            seed=seed,
        )
        demand = read_with_warnings(trace, quiet=quiet)
        with first_interrupt_stops() as stop:
            with shown_progress(quiet=quiet, minimize=minimize) as progress:
                plan = plan_by_the_clock(demand, effective, options, overrides, stop=stop, progress=progress)
            write_plan(plan, folder, _pictures(plan, demand, png=png))
        _print_plan(plan, folder, output_format)
        if stop.raised:
            print(f"interrupted; the best schedule so far is in {folder}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED)
        raise typer.Exit(_done(plan))


def _pictures(plan: OfflinePlan, trace: Trace, *, png: bool) -> dict[str, str | bytes]:
    """The report, and its pictures where wanted, by file name."""
    from scheduler.report import render_report  # plotly takes a second to import

    pictures: dict[str, str | bytes] = {"report.html": render_report(plan, trace)}
    if png:
        from scheduler.report import render_pngs

        pictures |= render_pngs(plan, trace)
    return pictures


def _done(plan: OfflinePlan) -> int:
    served = plan.objective.unserved_session_seconds == 0 and plan.objective.late_session_seconds == 0
    return 0 if served else UNSERVED_OR_LATE


def _print_plan(plan: OfflinePlan, folder: Path, output_format: OutputFormat) -> None:
    if output_format == "json":
        print_json(plan_json(plan) | {"folder": str(folder)})
    else:
        print_rows(plan.headline() | {"Written to": str(folder)})


def _verify(folder: Path, trace: Path | None, fleet: Path | None, output_format: OutputFormat) -> int:
    plan = read_plan(folder)
    demand = None if trace is None else read_trace(trace)
    verdict = verify(demand, None if fleet is None else load_fleet(fleet), plan)
    if output_format == "json":
        print_json(_verdict_json(verdict, folder))
    else:
        for finding in verdict.findings:
            print(f"WRONG {finding}")
        print_rows(_verdict_rows(verdict, plan))
    return 0 if verdict.right else FAILED


def _verdict_rows(verdict: Verdict, plan: OfflinePlan) -> dict[str, str]:
    rows = {"Verdict": "the plan is what it claims" if verdict.right else f"{len(verdict.findings)} findings"}
    if verdict.objective is not None:
        rows |= dataclasses.replace(plan, objective=verdict.objective).headline()
    if verdict.proven_dollars is not None:
        rows["Proven"] = f"${verdict.proven_dollars:,.4f} at least, by needed.parquet"
    for number, what in enumerate(verdict.unchecked, start=1):
        rows[f"Unchecked {number}"] = what
    return rows


def _verdict_json(verdict: Verdict, folder: Path) -> dict[str, Any]:
    values = dataclasses.asdict(verdict)
    return {"folder": str(folder), "right": verdict.right} | values
