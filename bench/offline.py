"""Offline plans: how far from the bound, in what time and memory, beside the reference's rule.

Decides how cases are run and judged; must never know how a plan is found. Each case runs in a process of its own:
python -m bench.offline [--case NAME] [--size small|standard] [--format table|markdown|json] [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from rich.console import Console

from bench.demand import Demand, describe_demand, gpus_needed_alone
from bench.offline_cases import CASES, Case
from bench.offline_measure import Measured
from bench.render import Format, show
from bench.result import BenchResult, Cell, Gate, Size
from bench.workloads import WORKLOADS
from scheduler.fleet import Fleet
from scheduler.headroom_rule import headroom_dollars
from traces.compose import ComposeOptions
from traces.store import read_trace, write_trace
from traces.synthetic import generate

_VERSIONS = ("numpy", "numba", "polars", "highspy", "ortools")
_WARM_UP_CASES = ("one-kv", "four-kv", "two-types-kv")


def run(size: Size) -> BenchResult:
    """Every case, one after another, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        return run_cases(size, tuple(CASES[size]), Path(folder))


def run_cases(size: Size, names: Sequence[str], cache: Path) -> BenchResult:
    """The named cases; traces are kept in `cache`, and taken from there where an equal workload made them."""
    with tempfile.TemporaryDirectory() as work:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(Path(work) / "numba")}
        compile_s = _warm_up(size, names, Path(work), environment)
        rows: list[dict[str, Cell]] = []
        gates: list[Gate] = []
        for name in names:
            outcome = _run_case(size, name, cache, Path(work), environment)
            rows.append(_row(outcome))
            gates += _gates(outcome)
            told = f"  {name}: {outcome.process.wall_s:.1f} s, gap {100 * outcome.measured.gap:.3f} %"
            print(told, file=sys.stderr, flush=True)
    return BenchResult(
        name="offline",
        settings={
            "size": size,
            "seed": ", ".join(sorted({str(WORKLOADS[size][CASES[size][name].workload].seed) for name in names})),
            "first use compiles for (s)": round(compile_s, 1),
            **{package: version(package) for package in _VERSIONS},
        },
        rows=tuple(rows),
        gates=tuple(gates),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a whole process took, with the start of the interpreter."""

    wall_s: float
    cpu_s: float
    load: float  # average of the machine's last minute when it ended: above 1 others wanted its cores, too


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """One case with everything that its row and its gates need."""

    name: str
    case: Case
    size: Size
    fleet: Fleet
    demand: Demand
    measured: Measured
    process: Process
    reference: float | None  # dollars; None for latency


def _warm_up(size: Size, names: Sequence[str], work: Path, environment: dict[str, str]) -> float:
    """Seconds that compiling takes: a few minutes of load are planned twice, first without what was compiled before."""
    trace_file = work / "warm-up.parquet"
    compiling_s = 0.0
    kinds = {CASES[size][name].workload.split("-")[0] for name in names}
    for name in (case for case in CASES[size] if case in _WARM_UP_CASES and case.split("-")[0] in kinds):
        profiles = WORKLOADS[size][CASES[size][name].workload].profiles
        write_trace(generate(ComposeOptions(hours=0.1, active_mean=8, profiles=profiles)), trace_file)
        first_s, second_s = (_measured(size, name, trace_file, work, environment)[1].wall_s for _ in range(2))
        compiling_s += first_s - second_s
    return compiling_s


def _run_case(size: Size, name: str, cache: Path, work: Path, environment: dict[str, str]) -> _Outcome:
    case = CASES[size][name]
    trace_file = _trace_file(size, case.workload, cache)
    measured, process = _measured(size, name, trace_file, work, environment)
    trace, fleet = read_trace(trace_file), case.fleet(size)
    return _Outcome(
        name=name,
        case=case,
        size=size,
        fleet=fleet,
        demand=describe_demand(trace, fleet),
        measured=measured,
        process=process,
        reference=None if case.latency_gpus else headroom_dollars(trace, fleet),
    )


def _trace_file(size: Size, name: str, cache: Path) -> Path:
    """The workload as Parquet; its name tells what it was made from."""
    wanted = WORKLOADS[size][name]
    digest = hashlib.sha256(repr(wanted).encode()).hexdigest()[:12]
    path = cache / f"{name}-{size}-{digest}.parquet"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        write_trace(wanted.trace(name), path)
    return path


def _measured(
    size: Size, name: str, trace_file: Path, work: Path, environment: dict[str, str]
) -> tuple[Measured, Process]:
    command = [sys.executable, "-m", "bench.offline_measure", name, "--size", size]
    command += ["--trace", str(trace_file), "--folder", str(work / "plan")]
    begun_s, cpu_s = time.perf_counter(), _children_cpu_s()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    process = Process(wall_s=time.perf_counter() - begun_s, cpu_s=_children_cpu_s() - cpu_s, load=os.getloadavg()[0])
    return Measured(**json.loads(done.stdout)), process


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _row(outcome: _Outcome) -> dict[str, Cell]:
    case, demand, measured, reference = outcome.case, outcome.demand, outcome.measured, outcome.reference
    parts = (measured.read_s, measured.plan_s, measured.verify_s, measured.write_s)
    above = None if reference is None or measured.bound is None else reference / measured.bound - 1
    return {
        "case": outcome.name,
        "GPU types": "+".join(case.latency_gpus or {pool.gpu_type: 0 for pool in outcome.fleet.pools}),
        "profiles": sum(share > 0 for share in demand.shares.values()),
        "batching": outcome.fleet.batching,
        "epoch_s": outcome.fleet.epoch_s,
        "h": demand.horizon_s / 3600,
        "periods M": demand.periods / 1e6,
        "active mean": demand.active_mean,
        "active max": demand.active_max,
        "budget": "unlimited" if case.budget == "unlimited" else _budget(outcome.fleet),
        "s all in": outcome.process.wall_s,
        "s read / plan / verify / write": " / ".join(f"{part:.1f}" for part in parts),
        "s CPU": outcome.process.cpu_s,
        "load": outcome.process.load,
        "peak MiB": round(measured.peak_mib),
        "of": "worst ms" if case.latency_gpus else "$",
        "objective": measured.value,
        "bound": measured.bound,
        "gap %": 100 * measured.gap,
        "gap of mean %": None if measured.gap_mean is None else 100 * measured.gap_mean,
        "migrations": measured.migrations,
        "reference rule $": reference,
        "above bound %": None if above is None else 100 * above,
    }


def _budget(fleet: Fleet) -> str:
    limits = fleet.budget
    values = (limits.moves_per_epoch, limits.moves_out_per_gpu, limits.moves_in_per_gpu, limits.gib_per_epoch)
    return "/".join("-" if value is None else f"{value:g}" for value in values)


def _gates(outcome: _Outcome) -> list[Gate]:
    case, measured = outcome.case, outcome.measured
    wanted = [f"gap at most {100 * case.gap_max:g} %"]
    have = [f"{100 * measured.gap:.4f} %"]
    ok = measured.gap <= case.gap_max and measured.bound is not None
    for limit, value, what in (
        (
            None if case.gap_mean_max is None else 100 * case.gap_mean_max,
            100 * (measured.gap_mean or 0),
            "% of the mean",
        ),
        (case.seconds_max, outcome.process.wall_s, "s"),
        (case.mib_max, measured.peak_mib, "MiB"),
    ):
        if limit is not None:
            wanted.append(f"{limit:g} {what}")
            have.append(f"{value:.4g} {what}")
            ok &= value <= limit
    wanted.append("everybody served" + ("" if case.latency_gpus else " on time") + ", accepted by the verifier")
    late_s = 0.0 if case.latency_gpus else measured.late_s
    ok &= measured.unserved_s == 0 and late_s == 0 and not measured.findings
    have.append(f"unserved {measured.unserved_s:g} s, late {late_s:g} s, {len(measured.findings)} findings")
    gates = [Gate(claim=f"{outcome.name}: {', '.join(wanted)}", ok=ok, measured=", ".join(have))]
    if len({pool.gpu_type for pool in outcome.fleet.pools}) > 1:
        gates.append(_no_type_suffices(outcome))
    return gates


def _no_type_suffices(outcome: _Outcome) -> Gate:
    """The workload's own claim: it takes both GPU types."""
    said: list[str] = []
    ok = True
    for gpu_type in outcome.fleet.gpu_types:
        pool = sum(pool.nodes * pool.gpus_per_node for pool in outcome.fleet.pools if pool.gpu_type == gpu_type)
        needed = gpus_needed_alone(outcome.demand.at_peak, outcome.fleet, gpu_type)
        ok &= needed is None or needed > pool
        said.append(f"{gpu_type}: " + ("cannot run all profiles" if needed is None else f"{needed:.1f} of {pool}"))
    return Gate(claim=f"{outcome.name}: no GPU type suffices at the peak", ok=ok, measured="; ".join(said))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run chosen cases; 1 where a gate fails."""
    parser = argparse.ArgumentParser(prog="python -m bench.offline", description="Cases of the offline benchmark.")
    parser.add_argument("--size", choices=get_args(Size), default="standard")
    parser.add_argument("--case", action="append", metavar="NAME", choices=sorted(set().union(*CASES.values())))
    parser.add_argument("--format", choices=get_args(Format), default="table")
    parser.add_argument("--cache", type=Path, help="keep the workloads' traces here; default: a temporary folder")
    given = parser.parse_args(arguments)
    names = tuple(given.case or CASES[given.size])
    if missing := [name for name in names if name not in CASES[given.size]]:
        parser.error(f"--case {missing[0]} must be one of {', '.join(CASES[given.size])} in size {given.size}")
    with tempfile.TemporaryDirectory() as folder:
        result = run_cases(given.size, names, given.cache or Path(folder))
    show([result], given.format, Console(width=None if sys.stdout.isatty() else 240))
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
