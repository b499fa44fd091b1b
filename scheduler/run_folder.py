"""The folders of simulated runs and of comparisons: which files they hold.

Decides names and contents; must never know how a run came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

from scheduler.compare import Comparison, optimum_of
from scheduler.simulation.outcome import Outcome, Tables
from scheduler.whole_folder import Kind, json_bytes, refuse_foreign, write_folder
from traces.encode import parquet_bytes

SUMMARY_FORMAT = "epochal.summary/1"
_TABLES = frozenset(f"{field.name}.parquet" for field in fields(Tables))
_RUN = Kind(
    noun="run", mark="summary.json", format=SUMMARY_FORMAT, may_hold=lambda name: name in _TABLES | {"report.html"}
)
_OURS = frozenset({"comparison.parquet", "frontier.parquet", "optima.json", "report.html", "runs"})
_COMPARISON = Kind(noun="comparison", mark="summaries.json", format=SUMMARY_FORMAT, may_hold=lambda name: name in _OURS)


def refuse_foreign_run_folder(folder: Path) -> None:
    """Raise `BadInputError` unless `folder` may be replaced: absent, empty, or a run and nothing else."""
    refuse_foreign(folder.resolve(), _RUN)


def refuse_foreign_comparison_folder(folder: Path) -> None:
    """Raise `BadInputError` unless `folder` may be replaced: absent, empty, or a comparison and nothing else."""
    refuse_foreign(folder.resolve(), _COMPARISON)


def write_run(outcome: Outcome, folder: Path, extra_files: Mapping[str, bytes] | None = None) -> None:
    """Write a run and any further files (name -> contents) as one folder; a reader sees all of it or nothing new."""
    refuse_foreign_run_folder(folder)
    write_folder(folder, run_files(outcome) | dict(extra_files or {}))


def write_comparison(
    comparison: Comparison, folder: Path, extra_files: Mapping[str, bytes] | None = None, *, runs: bool = False
) -> None:
    """Write a comparison as one folder, with a folder per run in `runs/` where wanted."""
    refuse_foreign_comparison_folder(folder)
    files = {"summaries.json": json_bytes(comparison.summary)}
    files |= {f"{name}.parquet": parquet_bytes(table) for name, table in comparison.tables.items()}
    files["optima.json"] = json_bytes([asdict(optimum_of(plan)) for plan in comparison.plans if plan is not None])
    if runs:
        for run in comparison.runs:
            if run.outcome is not None:
                place = f"runs/{run.cell.trace}-{run.cell.policy}-{run.cell.seed}"
                files |= {f"{place}/{name}": data for name, data in run_files(run.outcome).items()}
    write_folder(folder, files | dict(extra_files or {}))


def run_files(outcome: Outcome) -> dict[str, bytes]:
    """The summary and every table of a run, by file name."""
    tables = {f"{name}.parquet": parquet_bytes(table) for name, table in outcome.to_polars().items()}
    return {"summary.json": json_bytes(outcome.summary.to_json())} | tables
