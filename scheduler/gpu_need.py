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
from scheduler.forecast import demand_series, forecast
from scheduler.gpu_ahead import Ahead, wanted_now
from scheduler.gpu_capacity import Holding, capacity_of, runnable
from scheduler.planner_settings import ScalingSettings
from solvers.coarse_capacity import CoarseCapacity
from solvers.lookahead import Lookahead, look_ahead, relaxed_counts
from solvers.lookahead_problem import LookaheadProblem
from solvers.weights import Inequality

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MILLI_CENTS = 1e5  # per dollar
ROUNDS_MAX = 6  # of adding inequalities that the counts violate
HOLDINGS_MAX = 4  # sets of profiles whose capacities are kept
_NEARLY = 1e-6
_DIGITS = 6  # of counts in fractions


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The look-ahead's answer, and what it rests on."""

    gpu_types: tuple[str, ...]  # by type index
    problem: LookaheadProblem
    answer: Lookahead
    shrinkable: tuple[str, ...]  # types of which fewer would do from now on, hold or not
    ahead: Ahead | None = field(repr=False)  # None: nobody has ever wanted anything
    coarse: bool  # whether profiles were counted as if each had GPUs of its own


class GpuNeed:
    """Capacity tables of one fleet, made when first needed; otherwise without memory."""

    def __init__(self, fleet: Fleet, settings: ScalingSettings) -> None:
        self._fleet, self._settings = fleet, settings
        self._types = gpu_types_of(fleet)
        self._price = tuple(
            round(fleet.gpu_types[t].price_per_hour * fleet.epoch_s / 3600 * MILLI_CENTS) for t in self._types
        )
        self._lead = np.array([_steps(fleet.gpu_types[t].startup_s, fleet.epoch_s) for t in self._types], np.int64)
        self._horizon = max(settings.horizon_epochs, int(self._lead.max()) + 2)
        self._runnable = runnable(fleet, self._types, tuple(fleet.profiles))
        self._holding: dict[tuple[str, ...], Holding] = {}

    @property
    def gpu_types(self) -> tuple[str, ...]:
        return self._types

    def prepared(self, snapshot: Snapshot) -> bool:
        """Whether the capacities that a decision needs are known already."""
        return self._profiles(snapshot) in self._holding

    def counts(self, snapshot: Snapshot, now_s: float) -> Counts:
        """The cheapest counts; types that have not been too many for long enough keep theirs."""
        ahead = self._ahead(snapshot)
        problem = self._supply(snapshot, now_s)
        if ahead is not None:
            problem = self._with_demand(problem, ahead)
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
            ahead=ahead,
            coarse=ahead is not None and isinstance(self.holding(ahead.profiles), CoarseCapacity),
        )

    def _profiles(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Those that were ever wanted and run somewhere."""
        now, past = wanted_now(snapshot), snapshot.history.active_max
        return tuple(p for p in self._runnable if now[p] or any(past.get(p, ())))

    def _ahead(self, snapshot: Snapshot) -> Ahead | None:
        """Demand ahead; whoever waits or is on its way counts as active."""
        profiles, now = self._profiles(snapshot), wanted_now(snapshot)
        if not profiles:
            return None
        on = any(gpu.status in ("starting", "ready", "draining") for gpu in snapshot.gpus.values())
        past = demand_series(snapshot.history.active_max, now, profiles)
        recent_epochs = _steps(self._settings.peak_hold_s, self._fleet.epoch_s)
        found = forecast(
            past,
            horizon=self._horizon,
            service_level=self._settings.service_level,
            season_epochs=max(1, round(self._settings.season_s / self._fleet.epoch_s)),
        )
        return Ahead(
            profiles=profiles,
            expected=found,
            present=np.array([now[p] for p in profiles], np.float64),
            recent=past[max(0, len(past) - recent_epochs) :],
            spare_share=self._settings.spare_share,
            present_steps=min(self._horizon, int(self._lead.max()) + (0 if on else 1)) or 1,
        )

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

    def _with_demand(self, supply: LookaheadProblem, ahead: Ahead) -> LookaheadProblem:
        """What must hold at each step, and every inequality that counts in fractions were found to violate."""
        capacity = self.holding(ahead.profiles)
        capacity.restart()
        demand = ahead.held_together(capacity)
        rows: dict[tuple[float, ...], Inequality] = {}
        for wanted in np.unique(demand, axis=0):
            _add(rows, capacity.strongest(wanted))
        problem = ahead.asked_of(supply, rows, capacity)
        for _ in range(ROUNDS_MAX if len(self._types) > 1 else 0):
            known, usable = len(rows), relaxed_counts(problem)
            for case in np.unique(np.hstack([demand, np.round(usable.T, _DIGITS)]), axis=0):
                _add(rows, capacity.violated(case[: len(ahead.profiles)], case[len(ahead.profiles) :]))
            if len(rows) == known:
                break
            problem = ahead.asked_of(supply, rows, capacity)
        return problem

    def holding(self, profiles: tuple[str, ...]) -> Holding:
        """What GPUs hold of these profiles on time."""
        if profiles not in self._holding:
            if len(self._holding) >= HOLDINGS_MAX:
                del self._holding[next(iter(self._holding))]
            self._holding[profiles] = capacity_of(self._fleet, self._types, profiles, self._price)
        return self._holding[profiles]


def gpu_types_of(fleet: Fleet) -> tuple[str, ...]:
    """Those that some pool has."""
    return tuple(t for t in fleet.gpu_types if any(pool.gpu_type == t for pool in fleet.pools))


def _steps(seconds: float, epoch_s: float) -> int:
    return math.ceil(seconds / epoch_s - _NEARLY)


def _add(rows: dict[tuple[float, ...], Inequality], row: Inequality | None) -> None:
    if row is not None:
        rows[*row.weights, *row.limit] = row
