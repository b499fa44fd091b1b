"""`epochal compare`: policies side by side against the offline optimum.

Decides what the command takes, writes and returns; must never know how a run or a plan is made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from runtime.cli.errors import INTERRUPTED, told
from runtime.cli.interrupt import first_interrupt_stops
from runtime.cli.output import FormatOption, OutputFormat, print_columns, print_json
from runtime.cli.progress import shown_progress, shown_runs
from runtime.cli.reading import read_with_warnings
from runtime.cli.run_options import (
    check_distinct_names,
    check_optimum_s,
    check_policies,
    parse_policy_settings,
    split_names,
)
from runtime.cli.simulate import FAULTS_HELP
from runtime.planning import optimum_by_the_clock
from runtime.simulating import Choice, RunOptions, Work, run_all
from scheduler.compare import Comparison, cells, compare, headings, table_lines
from scheduler.fleet import Fleet
from scheduler.fleet_file import load_fleet, with_overrides
from scheduler.offline_plan import OfflinePlan
from scheduler.run_folder import refuse_foreign_comparison_folder, write_comparison
from scheduler.simulation.fault_law import FaultLaw, parse_faults
from scheduler.simulation.settings import PlanTime
from traces.errors import BadInputError
from traces.trace import Trace

_EPILOG = (
    "Example: epochal compare evening.csv --fleet fleet.yaml --policies fixed-least-loaded,hpa,epochal --seeds 3 "
    "-o evening.compare. A setting of one policy: --set hpa.target=0.7. "
    "Exit codes: 0 done (whether or not some policy is late), 1 failed, 2 bad input, 130 interrupted (the first Ctrl-C "
    "keeps the runs that were finished)."
)

COMPARE_COMMAND: dict[str, Any] = {"epilog": _EPILOG, "no_args_is_help": True}


def compare_command(
    traces: Annotated[list[Path], typer.Argument(help="Traces: .csv, .jsonl (either may be .gz) or .parquet.")],
    fleet: Annotated[Path | None, typer.Option(help="Fleet file (YAML).")] = None,
    policies: Annotated[str, typer.Option(metavar="NAME,NAME,...", help="Policies, by name.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each policy: seeds 0, 1, ...")] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="POLICY.NAME=VALUE", help="A setting of one policy; repeatable."),
    ] = None,
    faults: Annotated[str, typer.Option(metavar="NAME=VALUE,...", help=FAULTS_HELP)] = "",
    plan_time: Annotated[PlanTime, typer.Option(help="How long a plan takes: stated or measured.")] = "stated",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write: summaries, table, report.html.")
    ] = None,
    runs: Annotated[bool, typer.Option("--runs", help="With -o: also a folder with all tables of each run.")] = False,
    optimum_s: Annotated[float, typer.Option(help="Seconds for the offline optimum of each trace; 0: none.")] = 10.0,
    frontier: Annotated[
        bool,
        typer.Option("--frontier/--no-frontier", help="With -o: the optimum for other targets too."),
    ] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; planning times are true with one process only.")] = 1,
    output_format: FormatOption = "table",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no warnings about traces.")] = False,
) -> None:
    """Run policies on traces, with several seeds, and put them side by side with the offline optimum."""
    with told():
        if fleet is None:
            raise BadInputError.of("--fleet", "is missing; epochal compare TRACE... --fleet FLEET --policies A,B")
        names = split_names(policies)
        check_policies(names, "--policies")
        check_optimum_s(optimum_s)
        check_distinct_names(traces)
        of_policy = parse_policy_settings(settings or [], names)
        law = parse_faults(faults) if faults else FaultLaw()
        if output is not None:
            refuse_foreign_comparison_folder(output)
        effective, _ = with_overrides(load_fleet(fleet), {}, os.environ)
        work = Work(
            traces=[read_with_warnings(path, quiet=quiet) for path in traces],
            fleet=effective,
            choices={name: Choice(policy=name, settings=of_policy[name]) for name in names},
            options=RunOptions(faults=law, plan_time=plan_time, fleet_name=fleet.name),
            keep_all=runs,
        )
        with first_interrupt_stops("the runs that are finished are kept") as stop:
            plans = _plans(work, optimum_s, frontier=frontier and output is not None, stop=stop, quiet=quiet)
            wanted = cells(len(traces), names, seeds)
            with shown_runs(wanted, [trace.horizon_us / 1e6 for trace in work.traces], quiet=quiet) as (started, ended):
                done = run_all(work, wanted, processes=jobs, stop=stop, started=started, ended=ended)
        if not done:
            print("interrupted; no run was finished", file=sys.stderr)
            raise typer.Exit(INTERRUPTED)
        comparison = compare(done, plans, [trace.name for trace in work.traces])
        if output is not None:
            page = _report(comparison, effective, work.traces)
            write_comparison(comparison, output, {"report.html": page}, runs=runs)
        _print(comparison, output, output_format)
        if stop.raised:
            print(f"interrupted; {len(done)} of {len(wanted)} runs were finished", file=sys.stderr)
            raise typer.Exit(INTERRUPTED)


def _plans(
    work: Work, optimum_s: float, *, frontier: bool, stop: Callable[[], bool], quiet: bool
) -> list[OfflinePlan | None]:
    if optimum_s == 0:
        return [None] * len(work.traces)
    found: list[OfflinePlan | None] = []
    for trace in work.traces:
        with shown_progress(quiet=quiet, minimize="cost") as progress:
            plan = optimum_by_the_clock(trace, work.fleet, optimum_s, frontier=frontier, stop=stop, progress=progress)
        found.append(plan)
    return found


def _report(comparison: Comparison, fleet: Fleet, traces: Sequence[Trace]) -> bytes:
    from scheduler.report.compare_page import render_comparison  # plotly takes a second to import

    return render_comparison(comparison, fleet, [trace.name for trace in traces]).encode()


def _print(comparison: Comparison, folder: Path | None, output_format: OutputFormat) -> None:
    if output_format == "json":
        print_json(comparison.summary)
        return
    for trace, lines in table_lines(comparison.rows).items():
        seeds = comparison.rows.filter(pl.col("trace") == trace)["seeds"].to_numpy().max()
        print(f"{trace}: mean over {seeds} seeds ± half of the range" if seeds > 1 else trace)
        print_columns(headings(), lines)
        print()
    if folder is not None:
        print(f"Written to {folder}")
