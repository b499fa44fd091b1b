"""`epochal explain`: what a decision does with one session, and why.

Decides how an explanation is shown; must never know how it is found.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli.errors import told
from runtime.cli.output import FormatOption, figure, print_columns, print_json, print_rows
from runtime.cli.step import check_deadline
from runtime.solve_child import warm_up
from scheduler.cluster import SessionId
from scheduler.decision_json import load_decision
from scheduler.explain import Explanation, explain, place_words
from scheduler.policy import Budget
from scheduler.validation import nearest
from traces.errors import BadInputError

_EPILOG = (
    "Example: epochal explain evening.decision.json anna. The decision file is written by epochal step. "
    "Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."
)

EXPLAIN_COMMAND: dict[str, Any] = {"epilog": _EPILOG, "no_args_is_help": True}


def explain_command(
    decision: Annotated[Path, typer.Argument(help="Decision (epochal.decision/1, JSON).")],
    session: Annotated[str, typer.Argument(help="Session id.")],
    deadline_s: Annotated[float, typer.Option(help="For the plan in which the session is held where it is.")] = 5.0,
    output_format: FormatOption = "table",
) -> None:
    """Say why a session moves or stays: what binds it, what that costs, and the best plan that was rejected."""
    with told():
        check_deadline(deadline_s)
        record = load_decision(decision)
        session_id = SessionId(session)
        if session_id not in record.snapshot.sessions:
            known = nearest(session, record.snapshot.sessions)
            raise BadInputError.of("SESSION", f'"{session}" must be a session of {decision}; {known}')
        warm_up()
        found = explain(record, session_id, Budget(seconds=deadline_s, clock=time.monotonic))
        if output_format == "json":
            print_json({"decision": str(decision)} | asdict(found))
        else:
            _print(found)


def _print(found: Explanation) -> None:
    rows = {"Session": f"{found.session_id}, {found.profile}, {found.status}, priority {found.priority}"}
    if found.kind is None:
        rows["Decision"] = f"stays: {place_words(found.source)}"
    else:
        way = f"from {place_words(found.source)} to {place_words(found.target)}"
        rows["Decision"] = f"{found.kind} {way}, in wave {found.wave} ({found.reason})"
        rows["Cost"] = f"{found.state_bytes / 2**30:.2f} GiB, {found.transfer_ms:.1f} ms of transfer"
    rows["Because"] = found.constraint.text
    if found.chosen_among is not None:
        rows["It, not others"] = found.chosen_among
    if found.alternative is not None:
        rows["Rejected"] = found.alternative.what
        rows["Then"] = found.alternative.verdict
        rows["Found by"] = found.alternative.found_by
    print_rows(rows)
    print()
    print_columns(
        ("before", "plan", "rejected", "unit"),
        {
            tier.tier: (
                figure(tier.before),
                figure(tier.value),
                "" if tier.alternative is None else figure(tier.alternative),
                tier.unit,
            )
            for tier in found.tiers
        },
    )
