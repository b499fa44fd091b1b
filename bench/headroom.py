"""What it costs not to know who comes: capacity for nearly everybody, above what hindsight needs, as demand grows.

Decides sizes, seeds, rules and claims; must never know GPUs or places. Capacity counts in sessions and is decided one
start-up before it is there, epoch by epoch over a day; hindsight has exactly what every epoch takes. Two rules: our
forecast with a share to spare; and one that is told the true mean of every epoch and how fast counts forget, expects
that share of the present difference to last, and adds a multiple of the mean's root. What the latter costs no forecast
could save unless it knew single sessions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.compare_claims import ABOVE_MAX, cost_at
from bench.forecast import DAY_S, active_max
from bench.result import BenchResult, Cell, Gate, Size
from bench.workloads import Workload
from scheduler.fleet import Fleet
from scheduler.fleet_file import with_overrides
from scheduler.forecast import Forecast, forecast
from scheduler.history import EPOCHS_MAX

Floats = NDArray[np.float64]
Points = list[tuple[float, float]]  # (share of session time without a place, capacity as a multiple of hindsight's)

MANY = 600  # active sessions, on average
LATE = 0.001  # share of session time that may be without a place
EPOCH_S = 60.0  # also a start-up
LEAD = 1  # epochs from a decision to its capacity
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
SPARE_SHARES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)  # at the highest level
ROOTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)  # of the mean, above it
_SMOOTH = 15  # epochs over which the true mean is taken, beside all seeds
_ACTIVE: dict[Size, tuple[int, ...]] = {"small": (18, 60), "standard": (18, 60, 200, 600, 1800)}
_SEEDS: dict[Size, tuple[int, ...]] = {"small": (1, 2), "standard": (1, 2, 3)}
WARM_EPOCHS = 60  # pass before the first decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One size of demand, means over the seeds."""

    active: float
    ours: float | None  # above hindsight at LATE
    known_mean: float | None


def run(size: Size) -> BenchResult:
    """Every size of demand with both rules."""
    lines = [_line(active, _SEEDS[size]) for active in _ACTIVE[size]]
    ours = [line.ours if line.ours is not None else math.inf for line in lines]
    settings: dict[str, Cell] = {
        "size": size,
        "seeds": ", ".join(map(str, _SEEDS[size])),
        "epoch s": EPOCH_S,
        "without a place": f"{LATE:.1%} of session time",
    }
    falls = Gate(
        claim="the more sessions there are, the less it costs above hindsight",
        ok=all(later < earlier for earlier, later in pairwise(ours)),
        measured=" -> ".join("not reached" if math.isinf(each) else f"{each:+.1%}" for each in ours),
    )
    many = [cost for line, cost in zip(lines, ours, strict=True) if line.active >= MANY]
    near = Gate(
        claim=f"from {MANY} active sessions on it is at most {ABOVE_MAX:.0%}",
        ok=max(many, default=0.0) <= ABOVE_MAX,
        measured=f"{max(many):+.1%} at the most" if many else f"nothing: less than {MANY} were active",
    )
    return BenchResult(name="headroom", settings=settings, rows=tuple(map(_row, lines)), gates=(falls, near))


def _row(line: Line) -> dict[str, Cell]:
    return {
        "active mean": line.active,
        "ours above hindsight %": None if line.ours is None else 100 * line.ours,
        "true mean known, above hindsight %": None if line.known_mean is None else 100 * line.known_mean,
        "3.1 / root of the mean %": 100 * 3.1 / math.sqrt(line.active),
    }


def _line(active: int, seeds: Sequence[int]) -> Line:
    drawn = Workload(family="kv", hours=DAY_S / 3600, active_mean=active, fleet="one-type.yaml")
    fleet = with_overrides(drawn.gpus(), {"epoch_s": EPOCH_S})[0]
    series = [_series(replace(drawn, seed=seed), fleet) for seed in seeds]
    mean = np.convolve(np.mean(series, axis=0), np.full(_SMOOTH, 1 / _SMOOTH), mode="same")
    ours = _mean_of([swept(one) for one in series])
    known = _mean_of([known_mean(one, mean) for one in series])
    return Line(
        active=float(np.mean(series)),
        ours=_above(cost_at(ours, LATE)),
        known_mean=_above(cost_at(known, LATE)),
    )


def _series(workload: Workload, fleet: Fleet) -> Floats:
    by_profile = active_max(workload.trace("day"), fleet, EPOCH_S)
    return np.asarray(by_profile.sum(axis=1), dtype=np.float64)


def swept(series: Floats) -> Points:
    """Our forecast at each setting."""
    told = [_told(series, origin) for origin in range(WARM_EPOCHS, len(series) - LEAD)]
    capacity = {level: np.array([_held(each, level) for each in told]) for level in LEVELS}
    settings = [*capacity.values(), *((1.0 + spare) * capacity[LEVELS[-1]] for spare in SPARE_SHARES if spare)]
    before = np.full(WARM_EPOCHS + LEAD, np.nan)
    return [judged(series, np.concatenate([before, each])) for each in settings]


def _told(series: Floats, origin: int) -> Forecast:
    past = series[max(0, origin - EPOCHS_MAX) : origin, None]
    return forecast(past, horizon=LEAD + 1, service_level=LEVELS[0], season_epochs=round(DAY_S / EPOCH_S))


def _held(told: Forecast, level: float) -> float:
    return float(replace(told, service_level=level).weighted(np.ones((1, 1)))[0, LEAD])


def known_mean(series: Floats, mean: Floats) -> Points:
    """What lasts of a difference is fitted to the very series that is judged."""
    off = series - mean
    lasts = float(off[:-LEAD] @ off[LEAD:] / (off[:-LEAD] @ off[:-LEAD]))
    expected = mean + lasts * np.concatenate([np.full(LEAD, np.nan), off[:-LEAD]])
    return [judged(series, expected + root * np.sqrt(mean)) for root in ROOTS]


def judged(series: Floats, capacity: Floats) -> tuple[float, float]:
    """Over the same epochs for every rule."""
    demand, held = series[WARM_EPOCHS + LEAD :], np.ceil(capacity[WARM_EPOCHS + LEAD :] - 1e-9)
    return float(np.maximum(demand - held, 0).sum() / demand.sum()), float(held.sum() / demand.sum())


def _mean_of(by_seed: list[Points]) -> Points:
    return [(float(late), float(cost)) for late, cost in np.mean(by_seed, axis=0)]


def _above(cost: float | None) -> float | None:
    return None if cost is None else cost - 1.0
