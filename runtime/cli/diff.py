"""`epochal diff`: what changes between two decisions.

Decides how differences are shown; must never know why plans differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli.errors import told
from runtime.cli.output import FormatOption, figure, print_columns, print_json, print_rows
from scheduler.decision_json import load_plan
from scheduler.explain import place_words
from scheduler.plan import Decision, Move, Seat
from scheduler.plan_diff import PlanDiff, diff_plans

_EPILOG = (
    "Example: epochal diff evening.decision.json later.decision.json. "
    "Exit codes: 0 done (whether or not they differ), 1 failed, 2 bad input, 130 interrupted."
)

DIFF_COMMAND: dict[str, Any] = {"epilog": _EPILOG, "no_args_is_help": True}


def diff_command(
    first: Annotated[Path, typer.Argument(help="Decision (epochal.decision/1) or its plan (epochal.epoch-plan/1).")],
    second: Annotated[Path, typer.Argument(help="The same, to compare with.")],
    rows_max: Annotated[int, typer.Option(min=1, help="Rows of each table; JSON has them all.")] = 40,
    output_format: FormatOption = "table",
) -> None:
    """Show the sessions, GPUs and moves that differ between two plans, and their tiers side by side."""
    with told():
        old, new = load_plan(first), load_plan(second)
        found = diff_plans(old.plan, new.plan)
        if output_format == "json":
            print_json(_json(found, old, new))
        else:
            _print(found, old, new, rows_max)


def _json(found: PlanDiff, old: Decision, new: Decision) -> dict[str, Any]:
    return {
        "versions": list(found.versions),
        "equal": found.empty,
        "counts": _counts(found),
        "tiers": {
            tier: {"unit": unit, "first": first, "second": second} for tier, (first, second, unit) in _tiers(old, new)
        },
        "seats": {name: [_given(one) for one in pair] for name, pair in found.seats.items()},
        "gpus": {name: list(pair) for name, pair in found.gpus.items()},
        "moves_gone": [asdict(move) for move in found.moves_gone],
        "moves_new": [asdict(move) for move in found.moves_new],
    }


def _counts(found: PlanDiff) -> dict[str, int]:
    return {
        "seats": len(found.seats),
        "gpus": len(found.gpus),
        "moves_gone": len(found.moves_gone),
        "moves_new": len(found.moves_new),
    }


def _tiers(old: Decision, new: Decision) -> list[tuple[str, tuple[float | None, float | None, str]]]:
    first = {tier.tier: tier for tier in old.report.tiers}
    second = {tier.tier: tier for tier in new.report.tiers}
    return [
        (
            name,
            (
                first[name].value if name in first else None,
                second[name].value if name in second else None,
                (first.get(name) or second[name]).unit,
            ),
        )
        for name in dict.fromkeys([*first, *second])
    ]


def _print(found: PlanDiff, old: Decision, new: Decision, rows_max: int) -> None:
    counts = _counts(found)
    print_rows(
        {
            "Versions": f"{found.versions[0]} and {found.versions[1]}",
            "Sessions with another seat": str(counts["seats"]),
            "GPUs with another aim": str(counts["gpus"]),
            "Moves that go": str(counts["moves_gone"]),
            "Moves that come": str(counts["moves_new"]),
        }
    )
    tiers = {
        name: ("" if a is None else figure(a), "" if b is None else figure(b), unit)
        for name, (a, b, unit) in _tiers(old, new)
    }
    _table("tiers", ("first", "second", "unit"), tiers, rows_max)
    seats: dict[str, tuple[str, str]] = {name: (_seat(a), _seat(b)) for name, (a, b) in found.seats.items()}
    _table("sessions", ("first", "second"), seats, rows_max)
    gpus: dict[str, tuple[str, str]] = {
        name: (a or "not there", b or "not there") for name, (a, b) in found.gpus.items()
    }
    _table("GPUs", ("first", "second"), gpus, rows_max)
    moves = {f"- {move.session_id}": _move(move) for move in found.moves_gone}
    moves |= {f"+ {move.session_id}": _move(move) for move in found.moves_new}
    _table("moves", ("kind", "from", "to", "wave", "reason"), moves, rows_max)


def _table(title: str, names: Sequence[str], rows: Mapping[str, Sequence[str]], rows_max: int) -> None:
    if not rows:
        return
    print(f"\n{title}")
    print_columns(names, dict(list(rows.items())[:rows_max]))
    if len(rows) > rows_max:
        print(f"... and {len(rows) - rows_max} more; --rows-max or --format json shows them")


def _seat(seat: Seat | None) -> str:
    return "not there" if seat is None else place_words(seat)


def _given(seat: Seat | None) -> dict[str, Any] | None:
    return None if seat is None else asdict(seat)


def _move(move: Move) -> tuple[str, ...]:
    source = place_words(Seat(gpu=move.source, node=move.source_node))
    target = place_words(Seat(gpu=move.target, node=move.target_node))
    return move.kind, source, target, str(move.wave), move.reason
