"""Results for people and for programs.

Decides how a result looks as a table, as Markdown and as JSON; must never know which benchmark it came from.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Literal, assert_never

from rich.console import Console
from rich.table import Table

from bench.result import BenchResult, Cell, Gate

Format = Literal["table", "markdown", "json"]


def show(results: Sequence[BenchResult], output_format: Format, console: Console) -> None:
    """Print results in the wanted format."""
    match output_format:
        case "table":
            for result in results:
                _print_table(result, console)
        case "markdown":
            print("\n\n".join(to_markdown(result) for result in results), file=console.file)
        case "json":
            print(to_json(results), file=console.file)
        case _:
            assert_never(output_format)


def to_json(results: Sequence[BenchResult]) -> str:
    """`epochal.bench/1`: a list of results, each as its fields."""
    return json.dumps([{"format": "epochal.bench/1", **dataclasses.asdict(result)} for result in results], indent=1)


def to_markdown(result: BenchResult) -> str:
    """A section with a table, for a document or a report."""
    columns = list(result.rows[0])
    lines = [f"### {result.name}", "", f"{_settings(result)}  ", f"{result.hardware}", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in result.rows]
    lines += ["", *(f"- {_gate(gate)}" for gate in result.gates)]
    return "\n".join(lines)


def _print_table(result: BenchResult, console: Console) -> None:
    table = Table(title=result.name, caption=f"{_settings(result)}\n{result.hardware}", title_justify="left")
    for column in result.rows[0]:
        numeric = all(isinstance(row[column], int | float) for row in result.rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in result.rows:
        table.add_row(*(_cell(cell) for cell in row.values()))
    console.print(table)
    for gate in result.gates:
        console.print(_gate(gate), style="green" if gate.ok else "bold red", markup=False, highlight=False)


def _settings(result: BenchResult) -> str:
    return ", ".join(f"{key} {_cell(value)}" for key, value in result.settings.items())


def _gate(gate: Gate) -> str:
    return f"{'holds' if gate.ok else 'FAILS'}: {gate.claim} (measured: {gate.measured})"


def _cell(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
