"""`epochal whatif`: the optimum and a policy, with more load, other GPUs, a tighter target or a slower start-up.

Decides what the command takes and shows; must never know how a case is planned or run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli.errors import INTERRUPTED, told
from runtime.cli.interrupt import first_interrupt_stops
from runtime.cli.output import FormatOption, OutputFormat, print_columns, print_json
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
from scheduler.compare import ABOVE_BOUND, MEASURES, optimum_of
from scheduler.fleet_file import load_fleet, with_overrides
from scheduler.whatif import Answer, Changes, answers_json, cases_of
from scheduler.whole_folder import json_bytes
from traces.errors import BadInputError
from traces.store import write_bytes

_EPILOG = (
    "Example: epochal whatif evening.csv --fleet fleet.yaml --policy epochal --arrivals 1.5 --target-ms 600. "
    "Each change is made by itself; options repeat: --arrivals 1.5 --arrivals 2. "
    "Exit codes: 0 done (whether or not somebody is late), 1 failed, 2 bad input, 130 interrupted (the first Ctrl-C "
    "keeps the cases that were finished)."
)

WHATIF_COMMAND: dict[str, Any] = {"epilog": _EPILOG, "no_args_is_help": True}


def whatif_command(
    trace: TraceArgument,
    fleet: Annotated[Path | None, typer.Option(help="Fleet file (YAML).")] = None,
    policy: PolicyOption = "epochal",
    settings: SettingsOption = None,
    arrivals: Annotated[
        list[float] | None, typer.Option(help="So many times as many sessions; drawn with the seed.")
    ] = None,
    gpu: Annotated[list[str] | None, typer.Option(help="Every pool has this GPU type of the fleet instead.")] = None,
    target_ms: Annotated[
        list[float] | None, typer.Option(help="Target of chunk latency; profiles' own keep their ratio to it.")
    ] = None,
    startup_s: Annotated[list[float] | None, typer.Option(help="Start-up time of every GPU type.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws sessions and the policy's choices.")] = 0,
    optimum_s: Annotated[float, typer.Option(help="Seconds for the offline optimum of each case.")] = 10.0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write: the result as JSON.")] = None,
    output_format: FormatOption = "table",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no warnings about the trace.")] = False,
) -> None:
    """Change one thing at a time and see what the optimum and the policy make of it, beside the base case."""
    with told():
        if fleet is None:
            raise BadInputError.of("--fleet", "is missing; epochal whatif TRACE --fleet FLEET --arrivals 1.5")
        check_policies([policy], "--policy")
        check_optimum_s(optimum_s, needed=True)
        changes = Changes(arrivals=arrivals or (), gpus=gpu or (), target_ms=target_ms or (), startup_s=startup_s or ())
        choice = Choice(policy=policy, settings=parse_settings(settings or []))
        effective, _ = with_overrides(load_fleet(fleet), {}, os.environ)
        cases = cases_of(read_with_warnings(trace, quiet=quiet), effective, changes, seed=seed)
        if len(cases) == 1:
            raise BadInputError.of("whatif", "must have a change: --arrivals, --gpu, --target-ms or --startup-s")
        answers: list[Answer] = []
        options = RunOptions(fleet_name=fleet.name)
        with first_interrupt_stops("the cases that are finished are kept") as stop:
            for case in cases:
                with shown_progress(quiet=quiet, minimize="cost") as searching:
                    plan = optimum_by_the_clock(case.trace, case.fleet, optimum_s, stop=stop, progress=searching)
                horizon_s = case.trace.horizon_us / 1e6
                with shown_virtual_time(case.name, horizon_s, quiet=quiet) as progress:
                    outcome = simulate_by_the_clock(
                        case.trace, case.fleet, choice, seed, options, stop=stop, progress=progress
                    )
                if stop.raised:
                    break
                answers.append(Answer(name=case.name, optimum=optimum_of(plan), summary=outcome.summary))
        if output is not None and answers:
            write_bytes(output, json_bytes(answers_json(answers, policy)))
        _print(answers, policy, output_format)
        if stop.raised:
            print(f"interrupted; {len(answers)} of {len(cases)} cases were finished", file=sys.stderr)
            raise typer.Exit(INTERRUPTED)


def _print(answers: list[Answer], policy: str, output_format: OutputFormat) -> None:
    if output_format == "json":
        print_json(answers_json(answers, policy))
        return
    rows: dict[str, list[str]] = {"Sessions": [f"{answer.summary.sessions:,}" for answer in answers]}
    rows["Bound $"] = [_dollars(answer.optimum.bound_dollars) for answer in answers]
    rows["Offline plan $"] = [_dollars(answer.optimum.plan_dollars) for answer in answers]
    rows["Plan late or unserved (s)"] = [
        f"{answer.optimum.late_session_seconds + answer.optimum.unserved_session_seconds:,.1f}" for answer in answers
    ]
    rows[f"{policy}: {MEASURES[0].words}"] = [MEASURES[0].shown(answer.summary.gpu_dollars) for answer in answers]
    rows[ABOVE_BOUND.words] = [
        ABOVE_BOUND.shown(answer.summary.gpu_dollars / answer.optimum.bound_dollars - 1)
        if answer.optimum.bound_dollars
        else "-"
        for answer in answers
    ]
    for measure in MEASURES[1:]:
        rows[measure.words] = [measure.shown(measure.of(answer.summary)) for answer in answers]
    print_columns([answer.name for answer in answers], rows)


def _dollars(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:,.2f}"
