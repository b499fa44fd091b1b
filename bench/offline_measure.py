"""One case of the offline benchmark, measured: a fresh process reads, plans, checks and writes.

Decides what is timed; must never know what is expected. Run by bench.offline as
python -m bench.offline_measure CASE --size SIZE --trace FILE --folder NEW_FOLDER
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from bench.memory import peak_mib
from bench.offline_cases import CASES
from bench.result import Size
from runtime.planning import plan_by_the_clock
from scheduler.plan_folder import write_plan
from scheduler.verify import verify
from traces.store import read_trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out, and what it took."""

    read_s: float
    plan_s: float
    verify_s: float
    write_s: float  # without the HTML report
    peak_mib: float
    value: float  # dollars, or ms of the worst chunk
    bound: float | None  # None where this planner proves none
    gap: float
    gap_mean: float | None
    unserved_s: float
    late_s: float
    migrations: int
    end_reason: str
    findings: tuple[str, ...]  # of the independent check


def measure(case_name: str, size: Size, trace_file: Path, folder: Path) -> Measured:
    """Run one case in this process."""
    case = CASES[size][case_name]
    fleet = case.fleet(size)
    times_s = [time.perf_counter()]
    trace = read_trace(trace_file)
    times_s.append(time.perf_counter())
    plan = plan_by_the_clock(trace, fleet, case.options(), {})
    times_s.append(time.perf_counter())
    verdict = verify(trace, fleet, plan)
    times_s.append(time.perf_counter())
    write_plan(plan, folder)
    times_s.append(time.perf_counter())
    objective, certificate = plan.objective, plan.certificate
    latency = plan.minimize == "latency"
    return Measured(
        read_s=times_s[1] - times_s[0],
        plan_s=times_s[2] - times_s[1],
        verify_s=times_s[3] - times_s[2],
        write_s=times_s[4] - times_s[3],
        peak_mib=peak_mib(),
        value=objective.chunk_latency_ms_max if latency else objective.total_dollars,
        bound=certificate.bound_latency_ms if latency else certificate.bound_dollars,
        gap=certificate.gap,
        gap_mean=certificate.gap_mean,
        unserved_s=objective.unserved_session_seconds,
        late_s=objective.late_session_seconds,
        migrations=objective.migrations,
        end_reason=plan.solver.end_reason,
        findings=verdict.findings,
    )


def main() -> int:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description="Measure one case of the offline benchmark in this process.")
    parser.add_argument("case")
    parser.add_argument("--size", choices=get_args(Size), required=True)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    json.dump(dataclasses.asdict(measure(given.case, given.size, given.trace, given.folder)), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
