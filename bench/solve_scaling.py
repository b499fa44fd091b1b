"""Placement of one epoch, from 4 to 1024 GPUs: time, certified gap, and latency beside the reference and raw solvers.

Decides how cases are run and shown; must never know how a plan is found. Each case runs in a process of its own:
python -m bench.solve_scaling [--case NAME] [--gpus N] [--deadline S] [--size small|standard] [--png FOLDER]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from rich.console import Console

from bench.render import Format, show
from bench.result import BenchResult, Size
from bench.solve_scaling_cases import CASES, EXTENTS, RAW_DEADLINE_S
from bench.solve_scaling_gates import gates_of
from bench.solve_scaling_measure import Measured, measured_from
from bench.solve_scaling_table import Group, groups_of, row_of

_VERSIONS = ("numpy", "numba", "highspy", "ortools")


def run(size: Size) -> BenchResult:
    """Every case at every fleet size, one after another."""
    extent = EXTENTS[size]
    return run_cases(size, extent.cases, extent.gpus, extent.deadlines_s)


def run_cases(
    size: Size,
    names: Sequence[str],
    gpus: Sequence[int],
    deadlines_s: Sequence[float],
    png: Path | None = None,
) -> BenchResult:
    """The named cases at these sizes, each with these deadlines; charts are written to the folder `png`."""
    extent = EXTENTS[size]
    with tempfile.TemporaryDirectory() as work:
        environment = dict(os.environ)
        compile_s: float | None = None
        if size == "standard":  # a first use as users have it; the gate's own size keeps what was compiled before
            environment["NUMBA_CACHE_DIR"] = str(Path(work) / "numba")
            first, second = (_measured("small", names[0], 4, (1.0,), environment) for _ in range(2))
            compile_s = first.warm_up_s - second.warm_up_s
        groups: list[Group] = []
        for count in gpus:
            for name in names:
                groups += groups_of(_measured(size, name, count, deadlines_s, environment))
    if png is not None:
        from bench.solve_scaling_charts import write_charts

        write_charts(groups, png)
    return BenchResult(
        name="solve-scaling",
        settings={
            "size": size,
            "seeds": f"0-{extent.seeds - 1} (heavy, burst, steady in turn)",
            "closed loops": f"{extent.chains} of {extent.epochs} epochs",
            "deadline of raw solvers (s)": RAW_DEADLINE_S,
            "first use compiles for (s)": None if compile_s is None else round(compile_s, 1),
            "load of the machine": os.getloadavg()[0],
            **{package: version(package) for package in _VERSIONS},
        },
        rows=tuple(row_of(group) for group in groups),
        gates=tuple(gates_of(groups)),
    )


def _measured(size: Size, name: str, gpus: int, deadlines_s: Sequence[float], environment: dict[str, str]) -> Measured:
    command = [sys.executable, "-m", "bench.solve_scaling_measure", name, "--gpus", str(gpus), "--size", size]
    command += [argument for deadline_s in deadlines_s for argument in ("--deadline", str(deadline_s))]
    begun_s = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    print(f"  {name}, {gpus} GPUs: {time.perf_counter() - begun_s:.1f} s", file=sys.stderr, flush=True)
    return measured_from(done.stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run chosen cases; 1 where a gate fails."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.solve_scaling", description="Cases of the placement benchmark."
    )
    parser.add_argument("--size", choices=get_args(Size), default="standard")
    parser.add_argument("--case", action="append", metavar="NAME", choices=list(CASES), help=", ".join(CASES))
    parser.add_argument("--gpus", action="append", type=int, metavar="N", help="fleet size; default: those of the size")
    parser.add_argument("--deadline", action="append", type=float, metavar="S", help="default: those of the size")
    parser.add_argument("--format", choices=get_args(Format), default="table")
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="write charts there")
    given = parser.parse_args(arguments)
    extent = EXTENTS[given.size]
    if wrong := [gpus for gpus in given.gpus or () if gpus < 2]:
        parser.error(f"--gpus {wrong[0]} must be at least 2")
    if wrong_s := [deadline_s for deadline_s in given.deadline or () if deadline_s <= 0]:
        parser.error(f"--deadline {wrong_s[0]:g} must be > 0")
    result = run_cases(
        given.size,
        given.case or extent.cases,
        given.gpus or extent.gpus,
        given.deadline or extent.deadlines_s,
        given.png,
    )
    show([result], given.format, Console(width=None if sys.stdout.isatty() else 360))
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
