"""The standing comparison: every policy on every workload, held against the bound of hindsight.

Decides the order of work, the table and what is said about it; must never know a policy's rule. Cells are kept
(`bench.cells`), so that a run that was stopped goes on where it was. `python -m bench.compare --help` runs a part.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from bench.cells import run_cells
from bench.compare_cases import OFFLINE, SEEDS, WORKLOADS, Case, cases
from bench.compare_claims import gates_of, small_gates, summary_rows
from bench.compare_rows import Measured, row_of
from bench.compare_run import OFFLINE_DEADLINE_S, SeededCase, run_cell
from bench.render import Format, show
from bench.result import BenchResult, Size

_FORMATS: tuple[Format, ...] = ("table", "markdown", "json")


def run(
    size: Size, names: Sequence[str] = (), seeds: Sequence[int] | None = None, *, summary: bool = False
) -> BenchResult:
    """All workloads, or those named; a summary has one row per workload."""
    begun_s = time.monotonic()
    workloads = [compared for compared in WORKLOADS[size] if not names or compared.name in names]
    wanted = [case for case in cases(size) if case.compared in workloads]
    seeds = SEEDS[size] if seeds is None else seeds
    cells = [SeededCase(case=case, seed=seed) for seed in seeds for case in wanted]
    results: dict[tuple[int, int], dict[str, float]] = {}
    index = {id(case): number for number, case in enumerate(wanted)}
    for done, (cell, result) in enumerate(run_cells(cells, run_cell), start=1):
        results[index[id(cell.case)], cell.seed] = result
        told = f"{cell.case.compared.name} {cell.case.policy} seed {cell.seed}: {result['cpu_s']:.1f} s"
        print(f"[{done}/{len(cells)}] {told}", file=sys.stderr, flush=True)
    measured = _measured(wanted, seeds, results)
    cpu_s = sum(result["cpu_s"] for result in results.values())
    return BenchResult(
        name="compare",
        settings={
            "seeds": ", ".join(map(str, seeds)),
            "offline deadline s": OFFLINE_DEADLINE_S,
            "CPU hours of all cells": round(cpu_s / 3600, 2),
            "minutes of this run": round((time.monotonic() - begun_s) / 60, 1),
        },
        rows=tuple(summary_rows(measured, workloads))
        if summary
        else tuple(row_of([m for m in measured if m.case is case]) for case in wanted if case.policy != OFFLINE),
        gates=tuple((gates_of if size == "standard" else small_gates)(measured, workloads)),
    )


def _measured(
    wanted: Sequence[Case], seeds: Sequence[int], results: dict[tuple[int, int], dict[str, float]]
) -> list[Measured]:
    """Every run beside the bound of its own trace and fleet."""
    bound = {
        (case.compared.name, seed): results[number, seed]["bound_dollars"]
        for number, case in enumerate(wanted)
        if case.policy == OFFLINE
        for seed in seeds
    }
    return [
        Measured(
            case=case,
            seed=seed,
            summary=results[number, seed]["summary"],  # type: ignore[arg-type]
            bound_dollars=bound[case.compared.name, seed],
            cpu_s=results[number, seed]["cpu_s"],
        )
        for number, case in enumerate(wanted)
        if case.policy != OFFLINE
        for seed in seeds
    ]


def main() -> int:
    """A part of the comparison, or all of it."""
    parser = argparse.ArgumentParser(description="Run the standing comparison, or a part; cells are kept.")
    parser.add_argument("--size", choices=("small", "standard"), default="standard")
    parser.add_argument("--workload", action="append", default=[], help="only this one; may be given again")
    parser.add_argument("--seed", type=int, action="append", help="only this one; may be given again")
    parser.add_argument("--summary", action="store_true", help="one row per workload: what equal lateness costs")
    parser.add_argument("--format", choices=_FORMATS, default="table")
    given = parser.parse_args()
    show([run(given.size, given.workload, given.seed, summary=given.summary)], given.format, Console(width=220))
    return 0


if __name__ == "__main__":
    sys.exit(main())
