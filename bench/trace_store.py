"""How fast traces are read and written, and in how much memory.

Decides the workload and its limits; must never know how a format works. Every measurement runs in a process of its own,
so that peaks do not mix: python -m bench.trace_store DO FILE is one of them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.result import BenchResult, Cell, Gate, Size
from traces.compose import ComposeOptions
from traces.store import ENDINGS, read_trace, write_trace
from traces.synthetic import generate

_ROWS: dict[Size, int] = {"small": 50_000, "standard": 2_000_000}
_REPEATS: dict[Size, int] = {"small": 3, "standard": 5}
_SECONDS_MAX: dict[Size, float] = {"small": 3.0, "standard": 30.0}  # to read or to write, median of the repeats
_PEAK_MIB_MAX: dict[Size, float] = {"small": 600.0, "standard": 2048.0}
_ROWS_PER_ACTIVE_DAY = 1850.0  # of the synthetic law: periods per active session in 24 hours, roughly
_SEED = 0


def run(size: Size) -> BenchResult:
    """Read and write one synthetic day in every format."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.parquet"
        trace = generate(ComposeOptions(hours=24, active_mean=_ROWS[size] / _ROWS_PER_ACTIVE_DAY, seed=_SEED))
        write_trace(trace, source)
        rows: list[dict[str, Cell]] = []
        slowest_s = peak_mib = 0.0
        for ending in ENDINGS:
            path = Path(folder) / f"trace{ending}"
            write_trace(trace, path)
            for what in ("read", "write"):
                measured = [
                    _measured(f"{what}{ending}", path if what == "read" else source) for _ in range(_REPEATS[size])
                ]
                seconds = [one["seconds"] for one in measured]
                peak = max(one["peak_mib"] for one in measured)
                slowest_s, peak_mib = max(slowest_s, statistics.median(seconds)), max(peak_mib, peak)
                rows.append(
                    {"format": ending, "what": what, "s min": min(seconds), "s p50": statistics.median(seconds)}
                )
                rows[-1] |= {"s max": max(seconds), "peak MiB": round(peak), "file MiB": path.stat().st_size / 2**20}
    limit_s, limit_mib = _SECONDS_MAX[size], _PEAK_MIB_MAX[size]
    gates = (
        Gate(claim=f"each takes at most {limit_s:g} s", ok=slowest_s <= limit_s, measured=f"{slowest_s:.2f} s"),
        Gate(claim=f"each stays below {limit_mib:g} MiB", ok=peak_mib <= limit_mib, measured=f"{peak_mib:.0f} MiB"),
    )
    settings: dict[str, Cell] = {
        "workload": "synthetic, 24 h",
        "periods": trace.period_count,
        "seed": _SEED,
        "repeats": _REPEATS[size],
    }
    return BenchResult(name="trace-store", settings=settings, rows=tuple(rows), gates=gates)


def _measured(what: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.trace_store", what, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _measure(what: str, path: Path) -> dict[str, float]:
    """Read the file, or read it and write it in another format; only the named half is timed."""
    begun_s = time.perf_counter()
    trace = read_trace(path)
    if what.startswith("write"):
        begun_s = time.perf_counter()
        write_trace(trace, path.with_name(f"again{what.removeprefix('write')}"))
    seconds = time.perf_counter() - begun_s
    return {"seconds": seconds, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
    """Of this program alone: `ru_maxrss` would begin at the size of the process that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel does not tell VmHWM in /proc/self/status")


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]))))
