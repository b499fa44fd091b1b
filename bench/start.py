"""How long a user waits before the command does anything.

Decides what counts as the start of `epochal`: a fresh process, until its help is printed; must never know a trace.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.result import BenchResult, Gate, Size

_RUNS: dict[Size, int] = {"small": 3, "standard": 20}
_START_S_MAX: dict[Size, float] = {"small": 3.0, "standard": 2.0}  # small runs share their machine with others
_COMMANDS = (("--help",), ("plan", "--help"))


def run(size: Size) -> BenchResult:
    """Start the installed command again and again, after one run that warms the file cache."""
    rows: list[dict[str, str | int | float]] = []
    for arguments in _COMMANDS:
        _start_s(arguments)
        seconds = sorted(_start_s(arguments) for _ in range(_RUNS[size]))
        command = " ".join(("epochal", *arguments))
        median_s = statistics.median(seconds)
        rows.append(
            {"command": command, "runs": len(seconds), "s min": seconds[0], "s p50": median_s, "s max": seconds[-1]}
        )
    worst_s = max(float(row["s p50"]) for row in rows)
    gate = Gate(
        claim=f"the median start takes at most {_START_S_MAX[size]:g} s",
        ok=worst_s <= _START_S_MAX[size],
        measured=f"{worst_s:.2f} s",
    )
    return BenchResult(name="start", settings={"runs": _RUNS[size], "warm-up runs": 1}, rows=tuple(rows), gates=(gate,))


def _start_s(arguments: tuple[str, ...]) -> float:
    command = Path(sys.executable).parent / "epochal"
    begun_s = time.perf_counter()
    subprocess.run([command, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun_s
