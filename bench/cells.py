"""Results that are kept by what they were made from, so that a long benchmark can go on where it was stopped.

Decides when a result may be used again: if inputs, settings and our own sources are the same to the byte; must never
know what a cell measures. `python -m bench.cells` adds all that is kept on this machine to `recorded-cells.jsonl.gz`,
which goes with the project: with the sources that it was made by, the published tables are printed without measuring.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("traces", "solvers", "scheduler")
_RECORDED = _ROOT / "bench" / "recorded-cells.jsonl.gz"
_FOLDER = "EPOCHAL_BENCH_CELLS"  # environment: where cells are kept

Result = dict[str, Any]
Cell = TypeVar("Cell")


def cells_folder() -> Path:
    """`.bench-cells` in the checkout, or what the environment says."""
    return Path(os.environ.get(_FOLDER, _ROOT / ".bench-cells"))


def sources_sha256() -> str:
    """Of everything that a result may depend on in this checkout."""
    digest = hashlib.sha256()
    for package in _SOURCES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def key_of(content: Mapping[str, Any], sources: str) -> str:
    """The name of a cell's file."""
    return hashlib.sha256(json.dumps([sources, content], sort_keys=True).encode()).hexdigest()[:32]


def kept(key: str) -> Result | None:
    """A result from before, of this machine or recorded; a file that was cut off does not count."""
    try:
        found: Result = json.loads((cells_folder() / f"{key}.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return recorded(_RECORDED).get(key)
    return found


@cache
def recorded(path: Path) -> Mapping[str, Result]:
    """By key; empty where there is none, or it was made by other sources."""
    if not path.exists():
        return {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        if json.loads(next(lines))["sources"] != sources_sha256():
            return {}
        return {cell["key"]: cell["result"] for cell in map(json.loads, lines)}


def record(path: Path) -> int:
    """Writes what is recorded by these sources and what is kept in the folder; how many results that is.

    Results in the folder do not say which sources have made them: it is to be of one state of the sources.
    """
    cells = dict(recorded(path))
    cells.update((kept.stem, json.loads(kept.read_text())) for kept in cells_folder().glob("*.json"))
    lines = [{"sources": sources_sha256()}, *({"key": key, "result": cells[key]} for key in sorted(cells))]
    text = "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(gzip.compress(text.encode(), mtime=0))
    unfinished.replace(path)
    recorded.cache_clear()
    return len(cells)


def keep(key: str, result: Result) -> None:
    """Written beside its name and renamed, so that there are only whole results."""
    folder = cells_folder()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{key}.{os.getpid()}.unfinished"
    unfinished.write_text(json.dumps(result))
    unfinished.replace(folder / f"{key}.json")


def run_cells(
    cells: Sequence[Cell], run: Callable[[Cell], Result], *, processes: int | None = None
) -> Iterator[tuple[Cell, Result]]:
    """Each cell with its result, as they are done. `run` is a function of a module; it asks for what is kept itself."""
    fresh = get_context("spawn")  # a fork of a process with threads may wait for a lock that nobody holds
    with ProcessPoolExecutor(max_workers=processes or os.cpu_count(), mp_context=fresh) as pool:
        waiting = {pool.submit(run, cell): cell for cell in cells}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


if __name__ == "__main__":
    print(f"{_RECORDED}: {record(_RECORDED)} results", file=sys.stderr)
