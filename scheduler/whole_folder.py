"""A folder that is written as a whole: a reader sees all of its files or none, and nothing foreign is replaced.

Decides how one takes the place of another; must never know what its files hold.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from traces.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a folder is: by which file one is told from others, and what else may lie in it."""

    noun: str  # "plan"
    mark: str  # the file that tells one, JSON
    format: str  # what that file's `format` says; of a list, that of each entry
    may_hold: Callable[[str], bool]  # names beside the mark


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files (relative path -> contents) as one folder, in the place of `folder` if that exists.

    Everything goes into a temporary folder beside it, which takes the place of `folder` at the end; whatever goes
    wrong before leaves `folder` as it was.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        made = temporary / "made"
        made.mkdir()
        for name, data in files.items():
            path = made / name
            assert path.resolve().is_relative_to(made.resolve()), f"{name} must lie in the folder"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, data)
        _put_in_place(made, folder, temporary / "replaced")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_foreign(folder: Path, kind: Kind, extra_names: frozenset[str] = frozenset()) -> None:
    """Raise `BadInputError` unless `folder` may be replaced: absent, empty, or of the kind and nothing else."""
    fix = "give another folder with -o, or remove it"
    if not folder.exists():
        blocking = next((parent for parent in folder.parents if parent.exists()), None)
        if blocking is not None and not blocking.is_dir():
            raise BadInputError.of(str(folder), f"cannot be made, because {blocking} is a file; {fix}")
        return
    if not folder.is_dir():
        raise BadInputError.of(str(folder), f"must be a folder, and is a file; {fix}")
    names = sorted(entry.name for entry in folder.iterdir())
    if names and not _is(folder, kind):
        raise BadInputError.of(str(folder), f"must be empty or hold a {kind.noun}, and holds {names[0]}; {fix}")
    strange = [name for name in names if name != kind.mark and name not in extra_names and not kind.may_hold(name)]
    if strange:
        why = f"holds {strange[0]} beside a {kind.noun}, which replacing the {kind.noun} would delete"
        raise BadInputError.of(str(folder), f"{why}; {fix}")


def json_bytes(value: object) -> bytes:
    """A JSON file as we write them."""
    return f"{json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)}\n".encode()


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


def _is(folder: Path, kind: Kind) -> bool:
    try:
        data = json.loads((folder / kind.mark).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    entries = data if isinstance(data, list) else [data]
    return bool(entries) and all(isinstance(one, dict) and one.get("format") == kind.format for one in entries)
