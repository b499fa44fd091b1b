"""How well demand is forecast: coverage, pinball loss and error on public traces, beside naive rules.

Decides traces, seeds, peers and claims; must never know how a forecast is made. At every origin a forecaster is given
the epochs before it and nothing else. The peers are the common rule (what is active now and a tenth of capacity on top,
that is active / 0.9), the same without headroom, and what was active a day ago.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.result import BenchResult, Cell, Gate, Size
from bench.workloads import WORKLOADS, Workload
from scheduler.demand import active_over_time, demand_arrays
from scheduler.fleet import Fleet
from scheduler.fleet_file import load_fleet
from scheduler.forecast import forecast
from scheduler.history import EPOCHS_MAX
from traces.store import read_trace
from traces.trace import Trace

Floats = NDArray[np.float64]

SERVICE_LEVEL = 0.95
HORIZON = 10
STEPS = (1, 9)  # the epoch in which a GPU that starts now is usable, and the last one looked ahead
DAY_S = 86_400.0
_WARM_SHARE = 0.25  # of a trace passes before the first origin
_ORIGINS: dict[Size, int] = {"small": 120, "standard": 400}  # per trace and seed, at most
_SEEDS: dict[Size, tuple[int, ...]] = {"small": (1, 2, 3), "standard": (1, 2, 3, 4, 5)}
_COVERAGE_MIN = SERVICE_LEVEL - 0.04
_MS_MAX = 5.0
_EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Demand per epoch, drawn with several seeds where it can be."""

    name: str
    epoch_s: float
    series: tuple[Floats, ...] = field(repr=False)  # by seed: [epochs, profiles]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Demand and what was said about it, at one step; [origins, profiles]."""

    demand: Floats
    mean: Floats
    high: Floats

    def coverage(self) -> float:
        return float((self.demand <= self.high + 1e-9).mean())

    def pinball(self) -> float:
        excess = self.demand - self.high
        return float(np.maximum(SERVICE_LEVEL * excess, (SERVICE_LEVEL - 1) * excess).mean())

    def mae(self) -> float:
        return float(np.abs(self.demand - self.mean).mean())

    def headroom(self) -> float:
        """Sessions that room is kept for and that do not come, per session that does."""
        return float((self.high - self.demand).sum() / max(1.0, self.demand.sum()))


Rule = Callable[[Floats, int], tuple[Floats, Floats]]  # past, epochs per day -> mean and high [horizon, profiles]


def _ours(past: Floats, day: int) -> tuple[Floats, Floats]:
    found = forecast(past, horizon=HORIZON, service_level=SERVICE_LEVEL, season_epochs=day)
    return found.mean, found.quantile


def _common_rule(past: Floats, day: int) -> tuple[Floats, Floats]:  # noqa: ARG001
    now = np.repeat(past[-1:], HORIZON, axis=0)
    return now, now / 0.9


def _last_value(past: Floats, day: int) -> tuple[Floats, Floats]:  # noqa: ARG001
    now = np.repeat(past[-1:], HORIZON, axis=0)
    return now, now


def _day_before(past: Floats, day: int) -> tuple[Floats, Floats]:
    if len(past) < day:
        return _last_value(past, day)
    before = past[len(past) - day : len(past) - day + HORIZON]
    return before, before / 0.9


RULES: Mapping[str, Rule] = {
    "ours": _ours,
    "active / 0.9": _common_rule,
    "last value": _last_value,
    "day before / 0.9": _day_before,
}


def run(size: Size) -> BenchResult:
    """Every case with every rule, origin by origin."""
    rows: list[dict[str, Cell]] = []
    coverage: list[float] = []
    ratio: list[float] = []
    slowest_ms = 0.0
    for case in _cases(size):
        day = max(1, round(DAY_S / case.epoch_s))
        pinball: dict[tuple[str, int], float] = {}
        for name, rule in RULES.items():
            ms, judged = _judged(case, rule, day, _ORIGINS[size])
            for step in STEPS:
                by_seed = judged[step]
                covered = [one.coverage() for one in by_seed]
                pinball[name, step] = float(np.mean([one.pinball() for one in by_seed]))
                if name == "ours":
                    slowest_ms = max(slowest_ms, ms)
                    coverage.append(float(np.mean(covered)))
                rows.append(_row(case, name, step, by_seed, covered, ms))
        ratio += [pinball["ours", step] / pinball["active / 0.9", step] for step in STEPS]
    gates = (
        Gate(
            claim=f"demand stays below its {SERVICE_LEVEL:.0%} quantile in at least {_COVERAGE_MIN:.0%} of epochs",
            ok=min(coverage) >= _COVERAGE_MIN,
            measured=f"{min(coverage):.1%} (worst case and step, mean of seeds)",
        ),
        Gate(
            claim="the pinball loss is less than that of active / 0.9, in each case and step",
            ok=max(ratio) < 1.0,
            measured=f"{max(ratio):.2f} times (worst), {np.median(ratio):.2f} times (median)",
        ),
        Gate(
            claim=f"a forecast takes less than {_MS_MAX:g} ms (median)",
            ok=slowest_ms < _MS_MAX,
            measured=f"{slowest_ms:.2f} ms (slowest case)",
        ),
    )
    settings: dict[str, Cell] = {
        "service level": SERVICE_LEVEL,
        "steps": ", ".join(map(str, STEPS)),
        "origins": _ORIGINS[size],
        "seeds": ", ".join(map(str, _SEEDS[size])),
    }
    return BenchResult(name="forecast", settings=settings, rows=tuple(rows), gates=gates)


def _row(case: Case, rule: str, step: int, judged: list[Judged], covered: list[float], ms: float) -> dict[str, Cell]:
    pinball = [one.pinball() for one in judged]
    return {
        "case": case.name,
        "epoch s": case.epoch_s,
        "rule": rule,
        "step": step,
        "coverage % min": 100 * min(covered),
        "coverage % mean": 100 * float(np.mean(covered)),
        "pinball min": min(pinball),
        "pinball mean": float(np.mean(pinball)),
        "pinball max": max(pinball),
        "MAE": float(np.mean([one.mae() for one in judged])),
        "headroom %": 100 * float(np.mean([one.headroom() for one in judged])),
        "ms p50": ms,
    }


def _judged(case: Case, rule: Rule, day: int, origins_max: int) -> tuple[float, dict[int, list[Judged]]]:
    """Median milliseconds, and for each step what was said at the origins of every seed."""
    took_ms: list[float] = []
    found: dict[int, list[Judged]] = {step: [] for step in STEPS}
    for series in case.series:
        first = max(2, int(len(series) * _WARM_SHARE))
        stride = max(1, (len(series) - HORIZON - first) // origins_max)
        said: list[tuple[Floats, Floats, Floats]] = []
        for origin in range(first, len(series) - HORIZON + 1, stride):
            begun_s = time.perf_counter()
            mean, high = rule(series[max(0, origin - EPOCHS_MAX) : origin], day)
            took_ms.append((time.perf_counter() - begun_s) * 1e3)
            said.append((series[origin : origin + HORIZON], mean, high))
        demand, means, highs = (np.stack(part) for part in zip(*said, strict=True))
        for step in STEPS:
            found[step].append(Judged(demand=demand[:, step], mean=means[:, step], high=highs[:, step]))
    return float(np.median(took_ms)), found


def _cases(size: Size) -> Iterator[Case]:
    """Public examples as they are, and sessions composed on public arrivals, seed by seed."""
    four = load_fleet(_EXAMPLES / "fleets" / "four-profiles.yaml")
    one = load_fleet(_EXAMPLES / "fleets" / "one-type.yaml")
    traces = _EXAMPLES / "traces"
    yield _case("mooncake-45min", one, [read_trace(traces / "mooncake-45min.csv.gz")], 10.0)
    yield _case("mixed-6h", four, [read_trace(traces / "mixed-6h.parquet")], 60.0)
    yield _case("day-60", one, [read_trace(traces / "day-60.parquet")], 60.0)
    composed = WORKLOADS["small"]["four-kv"] if size == "small" else _THREE_DAYS
    drawn = [
        Workload(
            family=composed.family,
            hours=composed.hours,
            active_mean=composed.active_mean,
            fleet=composed.fleet,
            profiles=composed.profiles,
            seed=seed,
        ).trace(f"seed {seed}")
        for seed in _SEEDS[size]
    ]
    yield _case(f"four-kv, {composed.hours:g} h", four, drawn, 60.0)


_THREE_DAYS = Workload(
    family="kv",
    hours=72,
    active_mean=100,
    fleet="four-profiles.yaml",
    profiles=WORKLOADS["standard"]["four-kv"].profiles,
)


def _case(name: str, fleet: Fleet, traces: list[Trace], epoch_s: float) -> Case:
    return Case(name=name, epoch_s=epoch_s, series=tuple(active_max(trace, fleet, epoch_s) for trace in traces))


def active_max(trace: Trace, fleet: Fleet, epoch_s: float) -> Floats:
    """The most active sessions of each profile in use in every epoch [epochs, profiles]."""
    profile, start_us, end_us = demand_arrays(trace, fleet)
    epoch_us = round(epoch_s * 1e6)
    epochs = -(-trace.horizon_us // epoch_us)
    grid_us = np.arange(epochs, dtype=np.int64) * epoch_us
    columns = []
    for index in np.unique(profile):
        mine = profile == index
        at_us, active = active_over_time(start_us[mine], end_us[mine])
        before = np.searchsorted(at_us, grid_us, side="right") - 1
        most = np.where(before >= 0, active[before], 0)  # what an epoch begins with
        inside = at_us < epochs * epoch_us
        np.maximum.at(most, at_us[inside] // epoch_us, active[inside])
        columns.append(most.astype(np.float64))
    return np.stack(columns, axis=1)
