"""What the GPUs of each type can hold, what is expected to come, and the cheapest counts that bring both together.

Decides how many GPUs of each type start and stop; must never know which GPUs those are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from scheduler.cluster import Snapshot
from scheduler.fleet import Fleet
from scheduler.forecast import Forecast, demand_series, forecast
from scheduler.formulate_offline import type_limits
from scheduler.planner_settings import ScalingSettings
from solvers.capacity import Capacity
from solvers.contents import enumerate_contents
from solvers.lookahead import Lookahead, LookaheadProblem, look_ahead, relaxed_counts
from solvers.weights import Inequality

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MILLI_CENTS = 1e5  # per dollar
ROUNDS_MAX = 6  # of adding inequalities that the counts violate
_NEARLY = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The look-ahead's answer, and what it rests on."""

    gpu_types: tuple[str, ...]  # by type index
    problem: LookaheadProblem
    answer: Lookahead
    shrinkable: tuple[str, ...]  # types of which fewer would do from now on, hold or not
    forecast: Forecast | None = field(repr=False)  # None: nobody has ever wanted anything
    profiles: tuple[str, ...]  # by the forecast's profile index


class GpuNeed:
    """Capacity tables of one fleet, made when first needed; otherwise without memory."""

    def __init__(self, fleet: Fleet, settings: ScalingSettings) -> None:
        self._fleet, self._settings = fleet, settings
        self._types = tuple(t for t in fleet.gpu_types if any(pool.gpu_type == t for pool in fleet.pools))
        self._price = tuple(
            round(fleet.gpu_types[t].price_per_hour * fleet.epoch_s / 3600 * MILLI_CENTS) for t in self._types
        )
        self._lead = np.array([_steps(fleet.gpu_types[t].startup_s, fleet.epoch_s) for t in self._types], np.int64)
        self._horizon = max(settings.horizon_epochs, int(self._lead.max()) + 2)
        self._capacities: dict[tuple[str, ...], Capacity] = {}

    def counts(self, snapshot: Snapshot, now_s: float) -> Counts:
        """The cheapest counts; types that have not been too many for long enough keep theirs."""
        expected, profiles = self._expected(snapshot)
        problem = self._supply(snapshot, now_s)
        if expected is not None:
            problem = self._with_demand(problem, expected, profiles)
        answer = look_ahead(problem)
        shrinkable = tuple(t for t, stops in zip(self._types, answer.stops[:, 0], strict=True) if stops)
        may_shrink = self._may_shrink(snapshot.history.scale_in_wanted_since_s, shrinkable, now_s)
        if (answer.stops[~may_shrink] > 0).any():
            problem = replace(problem, may_shrink=may_shrink)
            answer = look_ahead(problem)
        return Counts(
            gpu_types=self._types,
            problem=problem,
            answer=answer,
            shrinkable=shrinkable,
            forecast=expected,
            profiles=profiles,
        )

    def _expected(self, snapshot: Snapshot) -> tuple[Forecast | None, tuple[str, ...]]:
        """Demand ahead, of profiles that were ever wanted; whoever waits or is on its way counts as active."""
        now = Counter(s.profile for s in snapshot.sessions.values() if s.status in ("active", "waiting"))
        past = snapshot.history.active_max
        profiles = tuple(p for p in self._fleet.profiles if now[p] or any(past.get(p, ())))
        if not profiles:
            return None, ()
        found = forecast(
            demand_series(past, now, profiles),
            horizon=self._horizon,
            service_level=self._settings.service_level,
            season_epochs=max(1, round(self._settings.season_s / self._fleet.epoch_s)),
        )
        return found, profiles

    def _supply(self, snapshot: Snapshot, now_s: float) -> LookaheadProblem:
        """GPUs by type and status; nothing is expected of them yet."""
        count = Counter((gpu.gpu_type, gpu.status) for gpu in snapshot.gpus.values())
        becoming = np.zeros((len(self._types), self._horizon), np.int64)
        for gpu in snapshot.gpus.values():
            if gpu.status == "starting" and gpu.ready_s is not None:
                step = _steps(max(0.0, gpu.ready_s - now_s), self._fleet.epoch_s)
                becoming[self._types.index(gpu.gpu_type), min(step, self._horizon - 1)] += 1
        least = Counter(dict.fromkeys(self._types, 0))
        for pool in self._fleet.pools:
            least[pool.gpu_type] += pool.gpus_min
        return LookaheadProblem(
            price=np.array(self._price, np.int64),
            lead=self._lead,
            usable=np.array([count[t, "ready"] for t in self._types], np.int64),
            draining=np.array([count[t, "draining"] for t in self._types], np.int64),
            becoming=becoming,
            off=np.array([count[t, "off"] for t in self._types], np.int64),
            least=np.array([least[t] for t in self._types], np.int64),
            may_shrink=np.ones((len(self._types), self._horizon), np.bool_),
            limits=np.ones((1, len(self._types))),
            sides=np.full((1, self._horizon), 0.0 if self._settings.scale_to_zero else 1.0),
        )

    def _may_shrink(
        self, since_s: Mapping[str, float], shrinkable: tuple[str, ...], now_s: float
    ) -> npt.NDArray[np.bool_]:
        """A type may shrink once fewer would have done for the hold; the waiting begins when it is first seen."""
        may = np.ones((len(self._types), self._horizon), np.bool_)
        for index, gpu_type in enumerate(self._types):
            begun_s = since_s.get(gpu_type, now_s) if gpu_type in shrinkable else now_s
            left_s = self._settings.scale_in_hold_s - (now_s - begun_s)
            may[index, : _steps(max(0.0, left_s), self._fleet.epoch_s)] = False
        return may

    def _with_demand(self, supply: LookaheadProblem, expected: Forecast, profiles: tuple[str, ...]) -> LookaheadProblem:
        """What must hold at each step, and every inequality that counts in fractions were found to violate."""
        capacity = self._capacity(profiles)
        demand = _held_together(expected, capacity)
        rows: dict[tuple[float, ...], Inequality] = {}
        for step in range(self._horizon):
            _add(rows, capacity.strongest(demand[step]))
        problem = _with_rows(supply, rows, expected)
        for _ in range(ROUNDS_MAX if len(self._types) > 1 else 0):
            known, usable = len(rows), relaxed_counts(problem)
            for step in range(self._horizon):
                _add(rows, capacity.violated(demand[step], usable[:, step]))
            if len(rows) == known:
                break
            problem = _with_rows(supply, rows, expected)
        return problem

    def _capacity(self, profiles: tuple[str, ...]) -> Capacity:
        """What GPUs hold on time; a profile that is late on every type counts as it runs."""
        if profiles not in self._capacities:
            limits = [type_limits(self._fleet, t, profiles) for t in self._types]
            targets = tuple(self._fleet.target_ms(p) for p in profiles)
            tables = [enumerate_contents(limit, targets, allow_late=False) for limit in limits]
            on_time = np.stack([table.counts.max(axis=0) for table in tables]).max(axis=0) > 0
            if not on_time.all():
                targets = tuple(t if fine else math.inf for t, fine in zip(targets, on_time, strict=True))
                tables = [enumerate_contents(limit, targets, allow_late=False) for limit in limits]
            self._capacities[profiles] = Capacity(tables, self._price)
        return self._capacities[profiles]


def _steps(seconds: float, epoch_s: float) -> int:
    return math.ceil(seconds / epoch_s - _NEARLY)


def _add(rows: dict[tuple[float, ...], Inequality], row: Inequality | None) -> None:
    if row is not None:
        rows[*row.weights, *row.limit] = row


def _held_together(expected: Forecast, capacity: Capacity) -> FloatArray:
    """One demand per step [horizon, profiles] to be held: as far between mean and quantiles as the mix calls for."""
    demand = expected.quantile.copy()
    for step in range(expected.horizon):
        row = capacity.strongest(expected.quantile[step])
        if row is None:
            continue
        weights = np.array(row.weights)
        side = expected.weighted(weights[None, :])[0, step]
        mean, high = float(weights @ expected.mean[step]), float(weights @ expected.quantile[step])
        share = 1.0 if high <= mean else min(1.0, max(0.0, (side - mean) / (high - mean)))
        demand[step] = expected.mean[step] + share * (expected.quantile[step] - expected.mean[step])
    return np.maximum(demand, 0.0)


def _with_rows(
    supply: LookaheadProblem, rows: Mapping[tuple[float, ...], Inequality], expected: Forecast
) -> LookaheadProblem:
    """What must hold, together with the service level, for these inequalities."""
    if not rows:
        return supply
    weights = np.array([row.weights for row in rows.values()])
    limits = np.array([row.limit for row in rows.values()])
    return replace(
        supply,
        limits=np.vstack([supply.limits, limits]),
        sides=np.vstack([supply.sides, expected.weighted(weights)]),
    )
