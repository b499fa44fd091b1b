"""`epochal replay`: a live run that was recorded, beside what the simulator makes of its demand.

Decides what the command takes, writes and prints; must never know how figures come about.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.cli.devices import parts_are_there
from runtime.cli.errors import INTERRUPTED, told
from runtime.cli.interrupt import first_interrupt_stops
from runtime.cli.output import FormatOption, OutputFormat, print_columns, print_json
from runtime.cli.progress import shown_virtual_time
from runtime.cli.run_options import SettingsOption, check_policies, parse_settings
from traces.errors import BadInputError
from traces.store import write_bytes, write_trace

if TYPE_CHECKING:
    from runtime.recording.live_run import LiveRun
    from runtime.recording.replay import Replay

_EPILOG = (
    "Example: epochal replay epochal-state/events.jsonl. With another policy: --policy sticky-autoscale. The demand "
    "alone: --trace-only -o evening.csv, for epochal plan, simulate and compare. "
    "Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."
)
REPLAY_COMMAND: dict[str, Any] = {"epilog": _EPILOG, "no_args_is_help": True}


def replay_command(
    events: Annotated[Path, typer.Argument(help="Event log, as epochal serve and controller --record write it.")],
    policy: Annotated[
        str | None, typer.Option(help="Name of a policy; default: the planner with the settings that were recorded.")
    ] = None,
    settings: SettingsOption = None,
    run: Annotated[
        int, typer.Option(help="Which run of the file: 1 is the first, -1 the last. One ends when it is stopped.")
    ] = -1,
    seed: Annotated[int, typer.Option(min=0, help="Draws the policy's choices.")] = 0,
    drift_max: Annotated[
        float, typer.Option(help="Share by which measured rounds may differ from the fleet file before it is told.")
    ] = 0.2,
    trace_only: Annotated[
        bool, typer.Option("--trace-only", help="Write the demand as a trace (-o), no more.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: the figures (JSON), or the trace.")
    ] = None,
    output_format: FormatOption = "table",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no warnings.")] = False,
) -> None:
    """Hold a live run against the simulator: same demand, same fleet, what was measured beside what is predicted."""
    with told(), parts_are_there():
        from runtime.recording.replay import replay
        from runtime.recording.runs import read_runs
        from scheduler.whole_folder import json_bytes

        _check(policy, settings, drift_max, output, trace_only=trace_only)
        runs = read_runs(events)
        chosen = _chosen(runs, run, events)
        trace = chosen.trace(events.name)
        if trace_only:
            assert output is not None, "it was checked"
            write_trace(trace, output)
            return
        horizon_s = trace.horizon_us / 1e6
        with (
            first_interrupt_stops("nothing is written") as stop,
            shown_virtual_time(policy or "replay", horizon_s, quiet=quiet) as progress,
        ):
            found = replay(
                chosen, trace, policy, parse_settings(settings or []), seed=seed, progress=progress, stop=stop
            )
        if stop.raised:
            raise typer.Exit(INTERRUPTED)
        if output is not None:
            write_bytes(output, json_bytes(found.to_json()))
        _print(found, output_format)
        if not quiet:
            for text in (*_about(chosen, runs), *found.warnings(drift_max)):
                print(f"{events}: {text}", file=sys.stderr)


def _check(
    policy: str | None, settings: list[str] | None, drift_max: float, output: Path | None, *, trace_only: bool
) -> None:
    if policy is not None:
        check_policies([policy], "--policy")
    elif settings:
        raise BadInputError.of("--set", "is for a policy that --policy names; the recorded planner keeps its settings")
    if not math.isfinite(drift_max) or drift_max < 0:
        raise BadInputError.of("--drift-max", f"{drift_max:g} must be a finite number >= 0")
    if trace_only and output is None:
        raise BadInputError.of("--trace-only", "needs -o TRACE: .csv, .jsonl (either may be .gz) or .parquet")


def _chosen(runs: list[LiveRun], number: int, events: Path) -> LiveRun:
    if number == 0 or not -len(runs) <= number <= len(runs):
        raise BadInputError.of(
            "--run", f"{number} must be 1 to {len(runs)}, or -1 for the last: so many are in {events}"
        )
    return runs[number - 1 if number > 0 else number]


def _about(run: LiveRun, runs: list[LiveRun]) -> list[str]:
    """What one has to know to read the figures."""
    found = []
    if len(runs) > 1:
        place = next(index for index, one in enumerate(runs, start=1) if one is run)
        found.append(f"this is run {place} of {len(runs)}; --run names another")
    if run.controllers > 1:
        found.append(f"{run.controllers} controllers, one after the other, each begun because the last had ended")
    if not run.complete:
        found.append(f"the log has no end: what follows {run.end_s:,.1f} s is not known")
    return found


def _print(found: Replay, output_format: OutputFormat) -> None:
    if output_format == "json":
        print_json(found.to_json())
        return
    for index, (names, rows) in enumerate(found.tables()):
        if rows:
            print(end="\n" if index else "")
            print_columns(names, rows)
