"""The least latency of a fixed fleet: lexicographically least unserved time, worst and mean latency, and migrations.

Decides which worst latencies are tried, from which schedules, and when to stop; must never know names, files or
terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from solvers.contents import TOLERANCE, ContentTable, enumerate_contents
from solvers.demand import Demand, demand_of
from solvers.latency_bounds import (
    WorstBound,
    fullest,
    lattice_of,
    mandatory,
    mean_bound,
    raised_by_packing,
    unserved_bound_us,
    worst_bound,
)
from solvers.latency_improve import Improver
from solvers.offline_objective import evaluate, spans_for
from solvers.offline_problem import OfflineObjective, OfflineProblem, OfflineSolution
from solvers.sweep import Pieces, Sweep, Worth, worth_of
from solvers.weights import Weigher

FloatArray = npt.NDArray[np.float64]

PACK = (1.0, 0.0, 0.0, 0.2, 0.0, 0.03, 0.2, 0.0)  # the sweep's weights: waste, -, -, room, -, align, move, improve
PACK_AND_MOVE = (*PACK[:-1], 0.01)
SPREAD = 0.07  # weight of sessions times latency, in units of the worst latency, beside waste
ROUNDS = 4  # seeds with which each latency is tried again
VARIANTS = 24
PENALTY = 1000.0  # per ms beyond the latency that is sought
GAIN_MIN = 1e4  # ms times us: what a change must gain
SETTLED = 5e-5  # relative gain of a pass that ends the search
PACKING_LIMIT_S = 5.0
SHARE_WORST = 0.4  # of the time, for the worst latency


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyStage:
    """What the search reports while it runs."""

    stage: str
    worst_ms: float | None = None
    mean_ms: float | None = None
    bound_worst_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyResult:
    """The best schedule found, and what bounds it.

    The bounds of both latencies hold for every schedule that leaves no more session-time unserved than this one, and
    that of the mean for those whose worst latency is no larger.
    """

    solution: OfflineSolution = field(repr=False)
    objective: OfflineObjective
    bound_unserved_us: float
    bound_worst_ms: float
    bound_mean_ms: float
    worst: WorstBound
    solver: str
    end_reason: str

    @property
    def gap(self) -> float:
        """Relative, of the worst latency."""
        return _gap(self.objective.latency_ms_max, self.bound_worst_ms)

    @property
    def gap_mean(self) -> float:
        return _gap(self.objective.latency_ms_mean, self.bound_mean_ms)


def _gap(value: float, bound: float) -> float:
    return (value - bound) / value if value > 0 else 0.0


def minimize_latency(
    problem: OfflineProblem,
    tables: Sequence[ContentTable],
    *,
    deadline_s: float,
    clock: Callable[[], float],
    stop: Callable[[], bool] = lambda: False,
    seed: int = 0,
    progress: Callable[[LatencyStage], None] = lambda _: None,
) -> LatencyResult:
    """Serve a trace on GPUs that are on throughout, at the least latency; there always is an answer.

    `tables` hold physical contents of each type. Stops `deadline_s` after the start by `clock`, when `stop` says so, or
    when passes over the schedule gain nothing more.
    """
    return _Search(problem, tables, deadline_s, clock, stop, seed, progress).run()


class _Search:
    def __init__(
        self,
        problem: OfflineProblem,
        tables: Sequence[ContentTable],
        deadline_s: float,
        clock: Callable[[], float],
        stop: Callable[[], bool],
        seed: int,
        progress: Callable[[LatencyStage], None],
    ) -> None:
        self._problem, self._seed, self._progress = problem, seed, progress
        self._tables = [replace(table, late=np.zeros_like(table.late)) for table in tables]  # targets do not count here
        self._lattice = lattice_of(tables)
        self._clock, self._stop = clock, stop
        self._started_s, self._deadline_s = clock(), deadline_s
        self._planned = np.ones((problem.gpus, problem.epochs), dtype=np.bool_)
        self._demand: Demand = demand_of(problem, complete=True)
        self._best: tuple[Pieces, OfflineSolution, OfflineObjective, str] | None = None

    def run(self) -> LatencyResult:
        self._progress(LatencyStage(stage="bound"))
        self._bound = worst_bound(self._problem, self._tables, self._demand, stop=self._over(0.2))
        self._fullest = fullest(self._demand.counts)
        self._first_schedules()
        if not self._short():
            self._lower_the_worst()
            if self._objective.latency_ms_max > self._bound.latency_ms + TOLERANCE:
                self._raise_the_bound()
        end_reason = self._lower_the_mean()
        return self._result(end_reason)

    def _over(self, share: float) -> Callable[[], bool]:
        end_s = self._started_s + share * self._deadline_s
        return lambda: self._stop() or self._clock() >= end_s

    @property
    def _objective(self) -> OfflineObjective:
        assert self._best is not None
        return self._best[2]

    def _short(self) -> bool:
        return self._best is None or sum(self._objective.unserved_us) > 0

    def _offer(self, pieces: Pieces, name: str) -> bool:
        """Keep a schedule if it is the best so far; True if it is."""
        spans = spans_for(self._problem, pieces.gpu, pieces.start_us, pieces.end_us)
        solution = OfflineSolution(
            piece_period=pieces.period,
            piece_gpu=pieces.gpu,
            piece_start_us=pieces.start_us,
            piece_end_us=pieces.end_us,
            span_gpu=spans[0],
            span_on_us=spans[1],
            span_off_us=spans[2],
        )
        objective = evaluate(self._problem, solution)
        if self._best is not None and objective.latency_key() >= self._objective.latency_key():
            return False
        self._best = (pieces, solution, objective, name)
        self._progress(
            LatencyStage(
                stage=name,
                worst_ms=objective.latency_ms_max,
                mean_ms=objective.latency_ms_mean,
                bound_worst_ms=self._bound.latency_ms,
            )
        )
        return True

    def _within(self, latency_ms: float) -> list[ContentTable]:
        made = [
            enumerate_contents(limits, self._problem.target_ms, allow_late=True, latency_ms_max=latency_ms)
            for limits in self._problem.types
        ]
        return [replace(table, late=np.zeros_like(table.late)) for table in made]

    def _first_schedules(self) -> None:
        """From the bound on in growing steps, the first worst latency at which a plain sweep serves everybody."""
        start = int(np.searchsorted(self._lattice, self._bound.latency_ms - TOLERANCE))
        last = len(self._lattice) - 1
        step = 0
        while True:
            index = min(start + step, last)
            done = self._sweep(self._lattice[index], PACK, spread=0.0) or self._sweep(
                self._lattice[index], PACK_AND_MOVE, spread=0.0
            )
            if done or index == last:
                break
            step = last if self._over(0.5 * SHARE_WORST)() else 2 * step + 1
        if self._short():
            self._sweep(self._lattice[last], PACK, spread=SPREAD)
            self._sweep(self._lattice[last], PACK, spread=0.0, variants=VARIANTS)

    def _sweep(
        self, latency_ms: float, weights: tuple[float, ...], *, spread: float, variants: int = 1, seed: int = 0
    ) -> bool:
        """Sweep with contents up to a latency; True if everybody is served."""
        tables = self._within(latency_ms)
        packing = self._packing(tables)
        if packing is None:
            return False
        waste = [
            own + spread / max(latency_ms, 1.0) * table.counts.sum(axis=1) * table.latency_ms
            for own, table in zip(packing.waste, tables, strict=True)
        ]
        worth = Worth(waste=tuple(waste), room=packing.room, class_value=packing.class_value)
        pieces, cost, _ = Sweep(self._problem, tables, worth, self._planned).run(
            weights,
            variants=variants,
            seed=self._seed + seed,
            stop=self._over(SHARE_WORST),
            until_served=True,
        )
        self._offer(pieces, "sweep")
        return cost.unserved == 0

    def _packing(self, tables: Sequence[ContentTable]) -> Worth | None:
        """What fills GPUs best where demand is fullest; None if nothing is ever active."""
        weigher = Weigher(tables, [1.0] * len(tables), [self._problem.periods] * len(tables))
        weigher.add(np.ones(self._problem.classes))
        for _ in range(2):  # the second time where it is fullest by the first one's weights
            if len(self._fullest):
                weights = np.array(weigher.found[-1].weights)
                weigher.strongest(self._fullest[np.argmax(self._fullest @ weights)])
        if not weigher.found:
            return None
        return worth_of(tables, weigher.found[-1].weights, weigher.found[-1].limit)

    def _lower_the_worst(self) -> None:
        """Try latencies from the bound upward, harder, while they are below the one at hand."""
        over = self._over(SHARE_WORST)
        index = int(np.searchsorted(self._lattice, self._bound.latency_ms - TOLERANCE))
        while self._lattice[index] < self._objective.latency_ms_max - TOLERANCE and not over():
            latency_ms = float(self._lattice[index])
            for round_ in range(ROUNDS):
                if over() or self._sweep(
                    latency_ms,
                    PACK_AND_MOVE if round_ % 2 else PACK,
                    spread=0.0 if round_ < 2 else SPREAD / 4,
                    variants=VARIANTS,
                    seed=round_,
                ):
                    return
            if self._repaired(latency_ms):
                return
            index += 1

    def _repaired(self, latency_ms: float) -> bool:
        """Search around the best schedule for one within a latency; True if there is one."""
        assert self._best is not None
        worst_ms = self._objective.latency_ms_max
        tables = self._within(worst_ms)
        improver = Improver(self._problem, tables, self._best[0])
        excess = [
            table.counts.sum(axis=1) * np.maximum(0.0, table.latency_ms - latency_ms - TOLERANCE) for table in tables
        ]
        over = self._over(SHARE_WORST)
        left = improver.total(excess)
        for _ in range(ROUNDS):
            improver.run(excess, split=True, gain_min=1.0, stop=over)
            improver.swap(excess, split=True, gain_min=1.0, stop=over)
            before, left = left, improver.total(excess)
            if left <= 0 or left >= before or over():
                break
        self._offer(improver.pieces(), "sweep and exchange")
        return self._objective.latency_ms_max <= latency_ms + TOLERANCE

    def _raise_the_bound(self) -> None:
        self._bound = raised_by_packing(
            self._problem,
            self._tables,
            self._demand,
            self._bound,
            self._objective.latency_ms_max,
            limit_s=PACKING_LIMIT_S,
            stop=self._over(1.2 * SHARE_WORST),
        )

    def _lower_the_mean(self) -> str:
        """Pass over the best schedule, within its worst latency, until nothing is gained."""
        assert self._best is not None
        over = self._over(0.95)
        worst_ms = self._objective.latency_ms_max
        tables = self._within(worst_ms)
        potential = [table.counts.sum(axis=1) * table.latency_ms for table in tables]
        improver = Improver(self._problem, tables, self._best[0])
        total = improver.total(potential)
        split = False
        while not over():
            gained = -improver.run(potential, split=split, gain_min=GAIN_MIN, stop=over)
            if gained < 0.01 * total:
                gained -= improver.swap(potential, split=split, gain_min=GAIN_MIN, stop=over)
            self._offer(improver.pieces(), "sweep and exchange")
            if gained <= SETTLED * total:
                return "no further improvement found"
            split = split or gained < 0.01 * total
        return "interrupted" if self._stop() else "deadline"

    def _result(self, end_reason: str) -> LatencyResult:
        assert self._best is not None
        _, solution, objective, name = self._best
        chosen, unserved_us = mandatory(self._problem, objective)
        demand, bound, least_unserved_us = self._demand, self._bound, 0.0
        if unserved_us > 0:
            least_unserved_us = unserved_bound_us(self._problem, self._tables, demand)
            demand = demand_of(self._problem, complete=True, chosen=chosen)
            bound = worst_bound(self._problem, self._tables, demand, unserved_us=unserved_us)
        mean_ms = mean_bound(
            self._problem,
            self._tables,
            demand,
            objective.latency_ms_max,
            unserved_us=unserved_us,
            seed=self._seed,
        )
        return LatencyResult(
            solution=solution,
            objective=objective,
            bound_unserved_us=min(least_unserved_us, float(sum(objective.unserved_us))),
            bound_worst_ms=min(bound.latency_ms, objective.latency_ms_max),
            bound_mean_ms=min(mean_ms, objective.latency_ms_mean),
            worst=bound,
            solver=name,
            end_reason=end_reason,
        )
