"""How fast traces are read and written, and in how much memory.

Decides the workload and the limits of the small form; must never know how a format works. Every measurement runs in a
process of its own, so that peaks do not mix: python -m bench.trace_store [--size small|full] [--repeats N] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.memory import peak_mib
from traces.compose import ComposeOptions
from traces.store import ENDINGS, read_trace, write_trace
from traces.synthetic import generate

_ROWS = {"small": 50_000, "full": 2_000_000}
_SECONDS_MAX = {"small": 3.0, "full": 30.0}  # to read or to write, median of the repeats
_PEAK_MIB_MAX = {"small": 600.0, "full": 2048.0}
_ROWS_PER_ACTIVE_DAY = 1850.0  # of the synthetic law: periods per active session in 24 hours, roughly


def main() -> int:
    """Print the table; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description="Reading and writing traces: seconds and peak memory.")
    parser.add_argument("--size", choices=sorted(_ROWS), default="full")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", nargs=2, metavar=("DO", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        sys.stdout.write(json.dumps(_one(*given.one)))
        return 0
    return _table(given.size, given.repeats, given.seed)


def _table(size: str, repeats: int, seed: int) -> int:
    options = ComposeOptions(hours=24, active_mean=_ROWS[size] / _ROWS_PER_ACTIVE_DAY, seed=seed)
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.parquet"
        trace = generate(options)
        write_trace(trace, source)
        print(f"{platform.machine()}, Python {platform.python_version()}, seed {seed}, {repeats} repeats")
        print(f"limits: {_SECONDS_MAX[size]:g} s, {_PEAK_MIB_MAX[size]:g} MiB")
        print(f"{'rows':>9} {'format':>9} {'':5} {'s median':>9} {'s max':>7} {'peak MiB':>9} {'file MiB':>9}")
        for ending in ENDINGS:
            path = Path(folder) / f"trace{ending}"
            write_trace(trace, path)
            for what in ("read", "write"):
                runs = [_measured(what, path if what == "read" else source, ending) for _ in range(repeats)]
                seconds = [run["seconds"] for run in runs]
                median, peak = statistics.median(seconds), max(run["peak_mib"] for run in runs)
                late = median > _SECONDS_MAX[size] or peak > _PEAK_MIB_MAX[size]
                missed += late
                file_mib = path.stat().st_size / 2**20
                print(
                    f"{trace.period_count:>9} {ending:>9} {what:5} {median:>9.2f} {max(seconds):>7.2f} {peak:>9.0f} "
                    f"{file_mib:>9.1f}{'  MISSED' if late else ''}"
                )
    return 1 if missed else 0


def _measured(what: str, path: Path, ending: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.trace_store", "--one", f"{what}{ending}", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _one(what: str, file: str) -> dict[str, float]:
    """Read the file, or read it and write it in another format; only the named half is timed."""
    path = Path(file)
    begin = time.perf_counter()
    trace = read_trace(path)
    if what.startswith("write"):
        begin = time.perf_counter()
        write_trace(trace, path.with_name(f"again{what.removeprefix('write')}"))
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "peak_mib": peak_mib()}


if __name__ == "__main__":
    sys.exit(main())
