"""Results on stdout, as a table for people or JSON for programs.

Decides how rows of names and values look; must never know what they mean.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 160  # columns where stdout is no terminal


OutputFormat = Literal["table", "json"]
FormatOption = Annotated[OutputFormat, typer.Option("--format", help="Of the result on stdout.")]


def print_rows(rows: Mapping[str, str]) -> None:
    """Two columns, aligned."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value))
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(table)


def figure(number: float) -> str:
    """A number as people read it: thousands apart, and no more digits than tell something."""
    return f"{number:,.0f}" if number == int(number) or abs(number) >= 1e5 else f"{number:,.6g}"


def print_json(value: Any) -> None:
    """One JSON document."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def print_columns(names: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """A heading, and rows of one value per name."""
    table = Table.grid(padding=(0, 2))
    table.add_row("", *(Text(name, style="bold") for name in names))
    for name, values in rows.items():
        table.add_row(Text(name, style="bold"), *map(Text, values))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
