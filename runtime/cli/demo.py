"""`epochal demo`: two bundled traces, planned, checked and shown, without an argument.

Decides what is planned and what is told about it; must never know how plans are found or checked.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from runtime.bundled import example_files
from runtime.cli.errors import FAILED, INTERRUPTED, UNSERVED_OR_LATE, told
from runtime.cli.interrupt import first_interrupt_stops
from runtime.cli.output import FormatOption, print_columns, print_json
from runtime.cli.progress import shown_progress
from runtime.planning import plan_by_the_clock
from scheduler.fleet import Fleet
from scheduler.fleet_file import load_fleet
from scheduler.headroom_rule import HEADROOM_RULE, headroom_dollars
from scheduler.offline import OfflineOptions
from scheduler.offline_plan import OfflinePlan
from scheduler.plan_folder import read_plan, refuse_foreign_folder, write_plan
from scheduler.verify import verify
from traces.assemble import trace_from_periods
from traces.store import read_trace
from traces.trace import Trace

_EPILOG = (
    "Example: epochal demo -o demo. Exit codes: 0 done, 1 failed (or the check found something), 2 bad input, 3 done "
    "but some session is unserved or late, 130 interrupted (the first Ctrl-C keeps the best schedules so far)."
)
DEMO_COMMAND: dict[str, Any] = {"epilog": _EPILOG}

COMPILING = "compiling the kernels, which takes about 20 s once"
_COMPILING_AFTER_S = 2.0  # a tiny plan that takes longer is waiting for the compiler


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What is planned, and for how long at most."""

    name: str
    trace: str
    fleet: str
    deadline_s: float


_CASES = (
    _Case(name="day-60", trace="traces/day-60.parquet", fleet="fleets/one-type.yaml", deadline_s=10.0),
    _Case(name="mixed-6h", trace="traces/mixed-6h.parquet", fleet="fleets/four-profiles.yaml", deadline_s=10.0),
)
_OPTIONS = OfflineOptions(gap=1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """A plan that was written and checked."""

    case: _Case
    folder: Path
    plan: OfflinePlan
    headroom_dollars: float | None
    findings: tuple[str, ...]


def demo_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("epochal-demo"),
    output_format: FormatOption = "table",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Plan two bundled real traces, check the plans and write their reports: no GPU, under a minute."""
    with told():
        for case in _CASES:
            refuse_foreign_folder(_folder_of(case, output).resolve())
        with first_interrupt_stops() as stop:
            with _compiling_told(quiet=quiet):
                _plan_something_tiny()
            outcomes = [_run(case, output, stop, quiet=quiet) for case in _CASES]
        if output_format == "json":
            print_json([_as_json(outcome) for outcome in outcomes])
        else:
            _print_table(outcomes)
        if stop():
            print(f"interrupted; the best schedules so far are in {output}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED)
        raise typer.Exit(_exit_code(outcomes))


def _folder_of(case: _Case, output: Path) -> Path:
    return output / f"{case.name}.plan"


def _plan_something_tiny() -> None:
    """Whatever is compiled on the first call is compiled here."""
    with example_files(_CASES[0].fleet) as (fleet_file,):
        fleet = load_fleet(fleet_file)
    periods = pl.DataFrame({"session_id": ["a", "b"], "start_s": [0.0, 5.0], "end_s": [10.0, 60.0]})
    plan_by_the_clock(trace_from_periods(periods), fleet, OfflineOptions(solver="sweep"), {})


@contextmanager
def _compiling_told(*, quiet: bool) -> Iterator[None]:
    """Say on stderr what is going on, if it goes on for long."""
    if quiet:
        yield
        return
    timer = threading.Timer(_COMPILING_AFTER_S, print, (COMPILING,), {"file": sys.stderr, "flush": True})
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _run(case: _Case, output: Path, stop: Callable[[], bool], *, quiet: bool) -> _Outcome:
    with example_files(case.trace, case.fleet) as (trace_file, fleet_file):
        trace, fleet = read_trace(trace_file), load_fleet(fleet_file)
    options = dataclasses.replace(_OPTIONS, deadline_s=case.deadline_s)
    if not quiet:
        print(f"planning {case.name}, {case.deadline_s:g} s at most", file=sys.stderr, flush=True)
    with shown_progress(quiet=quiet, minimize="cost") as progress:
        plan = plan_by_the_clock(trace, fleet, options, {}, stop=stop, progress=progress)
    ruled = headroom_dollars(trace, fleet)
    folder = _folder_of(case, output)
    write_plan(plan, folder, {"report.html": _report(plan, trace, ruled)})
    return _Outcome(case=case, folder=folder, plan=plan, headroom_dollars=ruled, findings=_check(folder, trace, fleet))


def _report(plan: OfflinePlan, trace: Trace, ruled: float | None) -> str:
    from scheduler.report import render_report  # plotly takes a second to import

    return render_report(plan, trace, None if ruled is None else {HEADROOM_RULE: ruled})


def _check(folder: Path, trace: Trace, fleet: Fleet) -> tuple[str, ...]:
    """What is wrong with the plan as it was written."""
    return verify(trace, fleet, read_plan(folder)).findings


def _print_table(outcomes: list[_Outcome]) -> None:
    rows: dict[str, list[str]] = {}
    for outcome in outcomes:
        for name, text in _rows(outcome).items():
            rows.setdefault(name, []).append(text)
    print_columns([outcome.case.name for outcome in outcomes], rows)
    for outcome in outcomes:
        for finding in outcome.findings:
            print(f"WRONG {outcome.case.name}: {finding}")
    first = outcomes[-1].folder
    print()
    print(f"Open {first / 'report.html'} in a browser.")
    print(f"Check a plan again, from its files: epochal plan --verify {first}")
    print("Plan a trace of your own: epochal plan TRACE --fleet FLEET")


def _rows(outcome: _Outcome) -> dict[str, str]:
    plan = outcome.plan
    total, bound = plan.objective.total_dollars, plan.certificate.bound_dollars
    assert bound is not None, "a cost plan has a bound on its cost"
    short_s = plan.objective.unserved_session_seconds + plan.objective.late_session_seconds
    ruled = outcome.headroom_dollars
    return {
        "Sessions": f"{plan.sessions:,} with {plan.periods:,} active periods in {plan.horizon_s / 3600:,.1f} h",
        "Fleet": outcome.case.fleet.removeprefix("fleets/"),
        "The plan costs": f"${total:,.2f}",
        "No schedule costs less than": f"${bound:,.2f}",
        "So the plan is within": f"{plan.gap:.3%} of the optimum",
        "The rule ceil(active / (0.9 capacity)) costs": "-" if ruled is None else _compared(ruled, total),
        "Late or unserved": f"{short_s:,.1f} session-seconds",
        "Checked from the written files": f"{len(outcome.findings)} findings" if outcome.findings else "right",
        "Seconds to plan": f"{plan.seconds:.1f}",
    }


def _compared(ruled: float, total: float) -> str:
    return f"${ruled:,.2f}" + (f" ({ruled / total - 1:+.1%})" if total > 0 else "")


def _as_json(outcome: _Outcome) -> dict[str, Any]:
    plan = outcome.plan
    return {
        "case": outcome.case.name,
        "folder": str(outcome.folder),
        "total_dollars": plan.objective.total_dollars,
        "bound_dollars": plan.certificate.bound_dollars,
        "gap": plan.gap,
        "headroom_rule_dollars": outcome.headroom_dollars,
        "late_session_seconds": plan.objective.late_session_seconds,
        "unserved_session_seconds": plan.objective.unserved_session_seconds,
        "findings": list(outcome.findings),
        "timing": {"seconds": plan.seconds},
    }


def _exit_code(outcomes: list[_Outcome]) -> int:
    if any(outcome.findings for outcome in outcomes):
        return FAILED
    values = [outcome.plan.objective for outcome in outcomes]
    short = any(value.unserved_session_seconds + value.late_session_seconds > 0 for value in values)
    return UNSERVED_OR_LATE if short else 0
