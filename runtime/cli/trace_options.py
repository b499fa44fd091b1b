"""The options that trace commands share.

Decides their names, types and help; must never know what a command does with them.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="How the result is printed on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No warnings on stderr.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Equal seeds and inputs give equal bytes.")]
OutOption = Annotated[Path, typer.Option("--output", "-o", help="File to write: .csv, .jsonl (also .gz) or .parquet.")]
TraceArgument = Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file of ours.", show_default=False)]
HoursOption = Annotated[float, typer.Option("--hours", help="Length of the window in hours.")]
ActiveOption = Annotated[float | None, typer.Option("--active-mean", help="Wanted mean number of active sessions.")]
OpenOption = Annotated[
    float | None, typer.Option("--sessions-mean", help="Wanted mean of open sessions, active or idle.")
]
ProfileOption = Annotated[
    list[str] | None, typer.Option("--profile", help="NAME=SHARE, repeatable; what is left of 1 stays unnamed.")
]
TenantOption = Annotated[
    list[str] | None,
    typer.Option("--tenant", help="NAME=SHARE, repeatable; or the word source for the tenants of the arrivals."),
]
WarmOption = Annotated[bool, typer.Option("--warm-up/--no-warm-up", help="Begin in steady state, not empty.")]
ResolutionOption = Annotated[
    float, typer.Option("--resolution-s", help="Round openings down to multiples of this: smaller files.")
]
GapOption = Annotated[float, typer.Option("--gap-merge-s", help="Gaps up to this long do not end a period.")]
CutOption = Annotated[float, typer.Option("--session-cut-s", help="Gaps longer than this end the session.")]
TokenOption = Annotated[
    float, typer.Option("--token-s", help="Active seconds per output token, where only those are known.")
]
ModelOption = Annotated[str | None, typer.Option("--model", help="servegen: which model's clients.")]
