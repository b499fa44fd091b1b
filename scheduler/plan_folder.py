"""The folder of a plan: what `epochal plan` writes and every other command reads.

Decides which files it holds, and that a reader sees all of them or none; must never know how a plan was found.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from scheduler.autoscaler import schedule_frame
from scheduler.offline_plan import FRONTIER_SCHEMA, GPUS_SCHEMA, NEEDED_SCHEMA, PLACEMENTS_SCHEMA, OfflinePlan
from scheduler.plan_json import PLAN_FORMAT, parse_plan_json, plan_json
from scheduler.state import read_json
from scheduler.whole_folder import Kind, json_bytes, refuse_foreign, write_folder
from traces.errors import BadInputError

PLAN_FILE = "plan.json"
PLAN_FILES = frozenset(
    {
        PLAN_FILE,
        "gpus.parquet",
        "placements.parquet",
        "needed.parquet",
        "frontier.parquet",
        "schedule.csv",
        "report.html",
    }
)
_PLAN = Kind(
    noun="plan",
    mark=PLAN_FILE,
    format=PLAN_FORMAT,
    may_hold=lambda name: name in PLAN_FILES or name.endswith(".png"),
)
_Schema = Mapping[str, pl.DataType | type[pl.DataType]]


def write_plan(plan: OfflinePlan, folder: Path, extra_files: Mapping[str, str | bytes] | None = None) -> None:
    """Write the plan and any further files (name -> contents) as one folder.

    A reader sees all of it or what was there before. Raises `BadInputError` where `folder` holds something that is not
    a plan.
    """
    folder = folder.resolve()
    refuse_foreign_folder(folder, frozenset(extra_files or ()))
    write_folder(folder, _contents(plan, extra_files or {}))


def refuse_foreign_folder(folder: Path, extra_names: frozenset[str] = frozenset()) -> None:
    """Raise `BadInputError` unless `folder` may be replaced: absent, empty, or a plan and nothing else."""
    refuse_foreign(folder, _PLAN, extra_names)


def read_plan(folder: Path) -> OfflinePlan:
    """Read a plan folder; raises `BadInputError` naming the file that is missing or broken."""
    if not folder.is_dir():
        raise BadInputError.of(str(folder), "must be a folder that epochal plan wrote")
    path = folder / PLAN_FILE
    if not path.exists():
        raise BadInputError.of(str(folder), f"has no {PLAN_FILE}; give a folder that epochal plan wrote")
    scalars = parse_plan_json(read_json(path), str(path))
    frontier = folder / "frontier.parquet"
    return OfflinePlan(
        **scalars,
        gpus=_read_table(folder / "gpus.parquet", GPUS_SCHEMA),
        placements=_read_table(folder / "placements.parquet", PLACEMENTS_SCHEMA),
        needed=_read_table(folder / "needed.parquet", NEEDED_SCHEMA),
        frontier=_read_table(frontier, FRONTIER_SCHEMA) if frontier.exists() else None,
    )


def _contents(plan: OfflinePlan, extra_files: Mapping[str, str | bytes]) -> dict[str, bytes]:
    tables = {"gpus": plan.gpus, "placements": plan.placements, "needed": plan.needed}
    if plan.frontier is not None:
        tables["frontier"] = plan.frontier
    files = {f"{name}.parquet": _parquet(table) for name, table in tables.items()}
    files["schedule.csv"] = schedule_frame(plan).write_csv().encode()
    for name, contents in extra_files.items():
        assert Path(name).name == name, f"{name} must be the name of a file"
        files[name] = contents.encode() if isinstance(contents, str) else contents
    return files | {PLAN_FILE: json_bytes(plan_json(plan))}


def _parquet(table: pl.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def _read_table(path: Path, schema: _Schema) -> pl.DataFrame:
    if not path.exists():
        raise BadInputError.of(str(path), "is missing; a plan folder must have it")
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInputError.of(str(path), f"must be Parquet: {str(error).splitlines()[0]}") from None
    missing = [name for name in schema if name not in table.columns]
    if missing:
        raise BadInputError.of(str(path), f"has no column {missing[0]}; it must have {', '.join(schema)}")
    try:
        table = table.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    except pl.exceptions.PolarsError as error:
        raise BadInputError.of(str(path), f"has a column of another type: {str(error).splitlines()[0]}") from None
    for name in schema:
        if table[name].null_count():
            raise BadInputError.of(str(path), f"column {name} has empty values; every row must have one")
    return table
