"""`epochal step`: one control epoch of the online planner, from a snapshot file to a decision file.

Decides what the command takes, writes and returns; must never know how sessions are placed.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli.errors import UNSERVED_OR_LATE, told
from runtime.cli.output import FormatOption, OutputFormat, figure, print_columns, print_json, print_rows
from runtime.solve_child import warm_up
from scheduler.decision_json import DecisionRecord, decision_json
from scheduler.fleet_file import load_fleet, with_overrides
from scheduler.plan import Decision
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings
from scheduler.policy import Budget
from scheduler.snapshot_json import latest_s, load_snapshot
from traces.errors import BadInputError

_EPILOG = (
    "Example: epochal step examples/snapshots/evening.json --fleet examples/fleets/four-profiles.yaml "
    "-o evening.decision.json. "
    "Then: epochal explain evening.decision.json anna. "
    "Exit codes: 0 done, 1 failed, 2 bad input, 3 done but some session is unserved or late, 130 interrupted."
)

STEP_COMMAND: dict[str, Any] = {"epilog": _EPILOG, "no_args_is_help": True}


def step_command(
    snapshot: Annotated[Path, typer.Argument(help="Snapshot (epochal.snapshot/1, JSON).")],
    fleet: Annotated[Path | None, typer.Option(help="Fleet file (YAML).")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; default: the snapshot's name with .decision.json."),
    ] = None,
    deadline_s: Annotated[float, typer.Option(help="Stop searching after this many seconds.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    now_s: Annotated[float | None, typer.Option(help="The present; default: the latest time in the snapshot.")] = None,
    keep_gpus: Annotated[
        bool, typer.Option("--keep-gpus", help="Start and drain no GPU; the default follows the forecast.")
    ] = False,
    output_format: FormatOption = "table",
    quiet: Annotated[bool, typer.Option("--quiet", help="No warnings.")] = False,
) -> None:
    """Plan one control epoch: which GPUs are on, where sessions go, and how good that is."""
    with told():
        if fleet is None:
            raise BadInputError.of("--fleet", "is missing; epochal step SNAPSHOT --fleet FLEET")
        check_deadline(deadline_s)
        if now_s is not None and not math.isfinite(now_s):
            raise BadInputError.of("--now-s", f"{now_s:g} must be a finite number")
        effective, _ = with_overrides(load_fleet(fleet), {}, os.environ)
        state = load_snapshot(snapshot, effective)
        settings = PlannerSettings(seed=seed, pay=not keep_gpus)
        planner = Planner(effective, settings)
        now = latest_s(state) if now_s is None else now_s
        budget = Budget(seconds=deadline_s, clock=time.monotonic)
        warm_up()
        decision = planner.step(state, now, budget)
        record = DecisionRecord(fleet=effective, settings=settings, snapshot=state, now_s=now, decision=decision)
        path = output or Path(f"{snapshot.stem}.decision.json")
        _write(path, decision_json(record))
        if not quiet:
            for warning in decision.report.warnings:
                print(warning, file=sys.stderr)
        _print(decision, path, output_format)
        raise typer.Exit(_done(decision))


def check_deadline(deadline_s: float) -> None:
    """Raises `BadInputError` unless it is a time."""
    if not (math.isfinite(deadline_s) and deadline_s > 0):
        raise BadInputError.of("--deadline-s", f"{deadline_s:g} must be a finite number > 0")


def _done(decision: Decision) -> int:
    owed = any(tier.value > 0 for tier in decision.report.tiers if tier.tier in ("repair", "serve", "meet"))
    return UNSERVED_OR_LATE if owed else 0


def _write(path: Path, value: dict[str, Any]) -> None:
    """All of the file or nothing."""
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        made.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _print(decision: Decision, path: Path, output_format: OutputFormat) -> None:
    report = decision.report
    moves = Counter(move.kind for move in decision.plan.moves)
    gpus = Counter(decision.plan.gpus.values())
    if output_format == "json":
        counts = {"decision": str(path), "moves": dict(moves), "gpus": dict(gpus)}
        print_json(counts | {"report": asdict(report), "next_step_s": decision.next_step_s})
        return
    print_columns(
        ("before", "value", "bound", "gap", "unit", "proof"),
        {
            tier.tier: (
                figure(tier.before),
                figure(tier.value),
                figure(tier.bound),
                f"{tier.gap:.2%}",
                tier.unit,
                (tier.proof or "proven") if tier.proven else f"not proven ({tier.proof or 'no bound'})",
            )
            for tier in report.tiers
        },
    )
    print()
    rows = {
        "Moves": ", ".join(f"{count} {kind}" for kind, count in sorted(moves.items())) or "none",
        "GPUs": ", ".join(f"{count} {aim}" for aim, count in sorted(gpus.items())),
        "Solver": f"{report.solver}: {report.end_reason}",
    }
    if report.fallback is not None:
        rows["Fallback"] = report.fallback
    for stage in report.stages:
        rows[f"Stage {stage.solver}"] = f"{1000 * stage.seconds:.1f} ms, {stage.end_reason}"
    print_rows(rows | {"Next step at": f"{decision.next_step_s:g} s", "Written to": str(path)})
