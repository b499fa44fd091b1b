"""How long a simulated run takes and in how much memory, as demand and horizon grow.

Decides workloads and limits; must never know how rounds are skipped. Every run has a process of its own with warm
kernels, so that peaks do not mix: python -m bench.simulate CASE is one of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.least_loaded import LeastLoaded
from bench.memory import peak_mib
from bench.result import BenchResult, Cell, Gate, Size
from scheduler.fleet import Fleet
from scheduler.fleet_file import load_fleet, with_overrides
from scheduler.policy import Prepared
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.settings import SimulationSettings
from scheduler.simulation.simulate import simulate
from traces.compose import ComposeOptions
from traces.synthetic import generate

_FLEET = Path(__file__).resolve().parent.parent / "examples" / "fleets" / "four-profiles.yaml"
_PROFILES = {"wan-1.3b-480p": 0.40, "wan-1.3b-720p": 0.25, "world-5b-480p": 0.20, "wan-14b-480p": 0.15}
_EPOCH_S = 10.0
_PLANNING_S = 0.01
_SEED = 1
_SECONDS_MAX = 60.0  # of one core, policy included
_PEAK_MIB_MAX = 2048.0
_PERIODS_MIN = 50_000  # of the case that the limits are for


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run. With `suspends` every idle session leaves its GPU, so that every return is a step and a transfer."""

    hours: float
    gpus: int
    active_mean: float
    suspends: bool = True


_LIMITED = Case(hours=24, gpus=64, active_mean=40)
CASES: Mapping[Size, tuple[Case, ...]] = {
    "small": (Case(hours=0.5, gpus=16, active_mean=20), Case(hours=1, gpus=16, active_mean=20)),
    "standard": (
        Case(hours=6, gpus=64, active_mean=40),
        Case(hours=12, gpus=64, active_mean=40),
        _LIMITED,
        Case(hours=24, gpus=64, active_mean=40, suspends=False),
        Case(hours=24, gpus=128, active_mean=80),
        Case(hours=24, gpus=256, active_mean=160),
    ),
}


def run(size: Size) -> BenchResult:
    """One row per case, and the limits of the one that they are for."""
    rows: list[dict[str, Cell]] = []
    limited: dict[str, Cell] = {}
    for case in CASES[size]:
        found = _measured(case)
        rows.append({"hours": case.hours, "GPUs": case.gpus, "idle leave": "yes" if case.suspends else "no", **found})
        if case == (_LIMITED if size == "standard" else CASES[size][-1]):
            limited = found
    seconds, peak = float(limited["CPU s"] or 0), float(limited["peak MiB"] or 0)
    gates = [
        Gate(claim=f"at most {_SECONDS_MAX:g} s of one core", ok=seconds <= _SECONDS_MAX, measured=f"{seconds:.1f} s"),
        Gate(claim=f"at most {_PEAK_MIB_MAX:g} MiB", ok=peak <= _PEAK_MIB_MAX, measured=f"{peak:.0f} MiB"),
    ]
    if size == "standard":
        periods = int(limited["periods"] or 0)
        gates.append(Gate(claim=f"on {_PERIODS_MIN} periods", ok=periods >= _PERIODS_MIN, measured=f"{periods}"))
    settings: dict[str, Cell] = {
        "workload": "synthetic, four profiles",
        "policy": "least loaded, fixed fleet",
        "epoch s": _EPOCH_S,
        "planning s": _PLANNING_S,
        "seed": _SEED,
        "size": size,
    }
    return BenchResult(name="simulate", settings=settings, rows=tuple(rows), gates=tuple(gates))


def _measured(case: Case) -> dict[str, Cell]:
    command = [sys.executable, "-m", "bench.simulate", json.dumps(asdict(case))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Cell] = json.loads(done.stdout)
    return found


def _measure(case: Case) -> dict[str, Cell]:
    """Seconds are those of the processor, so that neighbours on the machine do not count."""
    fleet = with_overrides(load_fleet(_FLEET), {"pools[0].nodes": case.gpus // 8, "epoch_s": _EPOCH_S})[0]
    _run(Case(hours=0.05, gpus=8, active_mean=5), fleet)
    before_mib, began_s = peak_mib(), time.process_time()
    outcome = _run(case, fleet, time.process_time)
    seconds, summary, tables = time.process_time() - began_s, outcome.summary, outcome.tables
    planning_s = float(tables.decisions["planning_ms"].sum()) / 1000
    steps = tables.decisions.height
    return {
        "active": case.active_mean,
        "sessions": summary.sessions,
        "periods": tables.periods.height,
        "chunks": summary.chunks,
        "steps": steps,
        "moves": tables.moves.height,
        "CPU s": summary.seconds,
        "of it policy s": planning_s,
        "simulator, ms a step": 1000 * (summary.seconds - planning_s) / steps,
        "with the trace s": seconds,
        "before MiB": round(before_mib),
        "peak MiB": round(peak_mib()),
    }


def _run(case: Case, fleet: Fleet, clock: Callable[[], float] | None = None) -> Outcome:
    options = ComposeOptions(hours=case.hours, active_mean=case.active_mean, profiles=_PROFILES, seed=_SEED)
    policy = LeastLoaded(fleet, suspends=case.suspends)
    prepared = Prepared(name="least-loaded", policy=policy, planning_s=_PLANNING_S, gpus_at_start={"h100": case.gpus})
    return simulate(generate(options), fleet, prepared, SimulationSettings(seed=_SEED), clock=clock)


if __name__ == "__main__":
    print(json.dumps(_measure(Case(**json.loads(sys.argv[1])))))
