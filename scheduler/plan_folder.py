"""The folder of a plan: what `epochal plan` writes and every other command reads.

Decides which files it holds, and that a reader sees all of them or none; must never know how a plan was found.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from scheduler.autoscaler import schedule_frame
from scheduler.offline_plan import FRONTIER_SCHEMA, GPUS_SCHEMA, NEEDED_SCHEMA, PLACEMENTS_SCHEMA, OfflinePlan
from scheduler.plan_json import PLAN_FORMAT, parse_plan_json, plan_json
from scheduler.state import read_json
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
_Schema = Mapping[str, pl.DataType | type[pl.DataType]]


def write_plan(plan: OfflinePlan, folder: Path, extra_files: Mapping[str, str | bytes] | None = None) -> None:
    """Write the plan and any further files (name -> contents) as one folder.

    Everything goes into a temporary folder beside it, which takes the place of `folder` at the end; whatever goes
    wrong before leaves `folder` as it was. Raises `BadInputError` where `folder` holds something that is not a plan.
    """
    folder = folder.resolve()
    refuse_foreign_folder(folder, frozenset(extra_files or ()))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        made = temporary / "plan"
        made.mkdir()
        _write_files(plan, made, extra_files or {})
        _put_in_place(made, folder, temporary / "replaced")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_foreign_folder(folder: Path, extra_names: frozenset[str] = frozenset()) -> None:
    """Raise `BadInputError` unless `folder` may be replaced: absent, empty, or a plan and nothing else."""
    fix = "give another folder with -o, or remove it"
    if not folder.exists():
        blocking = next((parent for parent in folder.parents if parent.exists()), None)
        if blocking is not None and not blocking.is_dir():
            raise BadInputError.of(str(folder), f"cannot be made, because {blocking} is a file; {fix}")
        return
    if not folder.is_dir():
        raise BadInputError.of(str(folder), f"must be a folder, and is a file; {fix}")
    names = sorted(entry.name for entry in folder.iterdir())
    if names and not _is_plan(folder):
        raise BadInputError.of(str(folder), f"must be empty or hold a plan, and holds {names[0]}; {fix}")
    strange = [name for name in names if name not in PLAN_FILES | extra_names and not name.endswith(".png")]
    if strange:
        why = f"holds {strange[0]} beside a plan, which replacing the plan would delete"
        raise BadInputError.of(str(folder), f"{why}; {fix}")


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


def _write_files(plan: OfflinePlan, folder: Path, extra_files: Mapping[str, str | bytes]) -> None:
    tables = {"gpus": plan.gpus, "placements": plan.placements, "needed": plan.needed}
    if plan.frontier is not None:
        tables["frontier"] = plan.frontier
    for name, table in tables.items():
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        _write(folder / f"{name}.parquet", buffer.getvalue())
    _write(folder / "schedule.csv", schedule_frame(plan).write_csv().encode())
    for name, contents in extra_files.items():
        assert Path(name).name == name, f"{name} must be the name of a file"
        _write(folder / name, contents.encode() if isinstance(contents, str) else contents)
    text = json.dumps(plan_json(plan), indent=1, allow_nan=False, ensure_ascii=False)
    _write(folder / PLAN_FILE, f"{text}\n".encode())


def _write(path: Path, data: bytes) -> None:
    """Write to the disk itself; an error names the file that could not be written."""
    try:
        with path.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path.name) from error


def _put_in_place(made: Path, folder: Path, aside: Path) -> None:
    """Swap by two renames; the old folder comes back if the second fails or is interrupted."""
    if folder.exists():
        folder.rename(aside)
    try:
        made.rename(folder)
    finally:
        if not folder.exists() and aside.exists():
            aside.rename(folder)


def _is_plan(folder: Path) -> bool:
    try:
        data = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and data.get("format") == PLAN_FORMAT


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
