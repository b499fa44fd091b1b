"""The cascade for the cheapest offline schedule: bound, valid schedule, exact where small, improvement while it pays.

Decides which stage runs when under one deadline and which schedule is kept; must never know names, files or terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from solvers.contents import ContentTable, enumerate_contents
from solvers.demand import Demand, demand_of
from solvers.horizon import cheapest_counts
from solvers.offline_bounds import CostBound, ServiceBound, cost_bound, cost_bound_when_short, service_bound
from solvers.offline_exact import exact_size, solve_exact
from solvers.offline_objective import evaluate, spans_for
from solvers.offline_problem import OfflineObjective, OfflineProblem, OfflineSolution
from solvers.pools import dedicated_pieces
from solvers.sweep import BASE_WEIGHTS, Pieces, Sweep, plan_matrix, worth_of

Stage = Literal["auto", "greedy", "sweep", "exact"]

EXACT_SIZE_MAX = 2_000  # of `exact_size`: beyond, the exact stage does not finish in seconds
EXACT_SIZE_ASKED_MAX = 50_000  # where it is asked for: beyond, its model alone outlasts any deadline
RESERVES = (0.0, 0.03, 0.08)  # of each pool, tried in turn while somebody is unserved
VARIANTS = (4, 10)  # of the sweep's weights in each improvement round


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """What the search reports while it runs."""

    stage: str
    dollars: float | None = None
    bound_dollars: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostResult:
    """The best schedule found, and what bounds it."""

    solution: OfflineSolution
    objective: OfflineObjective
    bound: CostBound
    bound_dollars: float  # the bound of schedules with no more unserved and late time than this one
    service: ServiceBound
    solver: str
    end_reason: str

    @property
    def gap(self) -> float:
        total = self.objective.dollars
        return (total - self.bound_dollars) / total if total > 0 else 0.0


def minimize_cost(
    problem: OfflineProblem,
    *,
    stage: Stage,
    milp: str,
    deadline_s: float,
    gap: float,
    seed: int,
    clock: Callable[[], float],
    stop: Callable[[], bool],
    report: Callable[[StageReport], None],
) -> CostResult:
    """Find the cheapest schedule; there always is one. Stops at `gap`, at the deadline, or when `stop` says so."""
    search = _Search(problem, stage, milp, deadline_s, gap, seed, clock, stop, report)
    return search.run()


class _Search:
    def __init__(
        self,
        problem: OfflineProblem,
        stage: Stage,
        milp: str,
        limit_s: float,
        gap: float,
        seed: int,
        clock: Callable[[], float],
        stop: Callable[[], bool],
        report: Callable[[StageReport], None],
    ) -> None:
        self._problem, self._stage, self._milp, self._gap, self._seed = problem, stage, milp, gap, seed
        self._clock, self._stop, self._report = clock, stop, report
        self._best: tuple[tuple[tuple[int, ...], int, float], OfflineSolution, str] | None = None
        self._started_s = clock()
        self._sweep_s = self._evaluate_s = 0.0
        self._limit_s, self._end_s = limit_s, self._started_s + limit_s
        self._left_out = ""  # said at the end where a stage that was asked for could not run

    def run(self) -> CostResult:
        problem = self._problem
        self._report(StageReport(stage="contents"))
        on_time = [enumerate_contents(t, problem.target_ms, allow_late=False) for t in problem.types]
        demand = demand_of(problem, complete=False)
        self._report(StageReport(stage="bound"))
        self._bound = cost_bound(problem, on_time, demand, stop=self._over(0.25))
        self._report(StageReport(stage="bound", bound_dollars=self._bound.dollars))
        if self._stage == "greedy":
            self._offer(dedicated_pieces(problem, on_time), "greedy")
        else:
            self._sweeps(on_time)
        self._when_short(on_time)
        proven = self._exact()
        end_reason = "proven by the exact stage" if proven else self._improve() + self._left_out
        return self._result(on_time, end_reason)

    def _sweeps(self, on_time: Sequence[ContentTable]) -> None:
        self._worth = worth_of(
            on_time, self._bound.inequality.weights, self._bound.inequality.limit, self._bound.shares
        )
        for reserve in RESERVES:
            self._planned = self._plan(reserve)
            self._sweep = Sweep(self._problem, on_time, self._worth, self._planned)
            begun_s = self._clock()
            pieces, _, _ = self._sweep.run(BASE_WEIGHTS)
            self._sweep_s = self._clock() - begun_s
            self._offer(pieces, "sweep")
            if not self._short() or self._bound.needs is None:
                break

    def _plan(self, reserve: float) -> npt.NDArray[np.bool_]:
        """Which GPUs are meant to be on; a share of each pool may be kept for what the counts do not see."""
        needs = self._bound.needs
        counts = self._bound.counts if needs is None else needs.whole(reserve, self._milp, self._limit_s / 8)
        leads = [startup // self._problem.epoch_us for startup in self._problem.startup_us]
        return plan_matrix(self._problem, [cheapest_counts(c, lead) for c, lead in zip(counts, leads, strict=True)])

    def _when_short(self, on_time: Sequence[ContentTable]) -> None:
        """Where somebody is unserved or late: dedicated pools, then contents beyond the target with every GPU on."""
        if not self._short() or self._stage == "greedy":
            return
        self._offer(dedicated_pieces(self._problem, on_time), "dedicated pools")
        if not self._short():
            return
        problem = self._problem
        physical = [enumerate_contents(t, problem.target_ms, allow_late=True) for t in problem.types]
        worth = worth_of(physical, self._bound.inequality.weights, [1.0] * len(physical))
        everything = np.ones_like(self._planned)
        for planned in (self._planned, everything):
            pieces, _, _ = Sweep(problem, physical, worth, planned).run(BASE_WEIGHTS)
            self._offer(pieces, "sweep beyond the target")

    def _exact(self) -> bool:
        """Small instances are solved to the end; True if the optimum is proven."""
        if self._stage not in ("auto", "exact") or self._stop():
            return False
        if exact_size(self._problem) > (EXACT_SIZE_MAX if self._stage == "auto" else EXACT_SIZE_ASKED_MAX):
            self._left_out = "; too large for the exact stage" if self._stage == "exact" else ""
            return False
        self._report(self._standing("exact"))
        assert self._best is not None
        result = solve_exact(
            self._problem,
            minimize="cost",
            time_limit_s=max(0.1, (self._end_s - self._clock()) / 2),
            seed=self._seed,
            hint=self._best[1],
        )
        if result.solution is not None:
            self._offer_solution(result.solution, "cp-sat")
        return result.status == "optimal"

    def _improve(self) -> str:
        """Sweep again with more variants and other seeds while there is time and a gap."""
        if self._stage == "greedy":
            return "greedy only"
        if self._short():
            return "the fleet is too small"
        rounds = 0
        fruitless = 0
        # A stopped sweep goes on plainly to the end, and what it finds is evaluated and checked.
        latest_s = self._end_s - self._sweep_s - 3 * self._evaluate_s
        while True:
            if self._gap_now() <= self._gap:
                return "wanted gap reached"
            if self._stop():
                return "interrupted"
            if self._clock() >= latest_s:
                return "deadline"
            if fruitless >= 3:
                return "no further improvement found"
            self._report(self._standing("sweep"))
            variants = VARIANTS[min(rounds, len(VARIANTS) - 1)]
            pieces, _, _ = self._sweep.run(
                BASE_WEIGHTS,
                variants=variants,
                seed=self._seed + rounds,
                stop=lambda: self._stop() or self._clock() >= latest_s,
            )
            fruitless = 0 if self._offer(pieces, "sweep") else fruitless + 1
            rounds += 1

    def _offer(self, pieces: Pieces, name: str) -> bool:
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
        return self._offer_solution(solution, name)

    def _offer_solution(self, solution: OfflineSolution, name: str) -> bool:
        """Keep it if it is better; True if it was."""
        begun_s = self._clock()
        objective = evaluate(self._problem, solution)
        self._evaluate_s = self._clock() - begun_s
        key = objective.cost_key()
        if self._best is not None and key >= self._best[0]:
            return False
        self._best = (key, solution, name)
        self._objective = objective
        self._report(self._standing(name))
        return True

    def _standing(self, stage: str) -> StageReport:
        assert self._best is not None
        return StageReport(stage=stage, dollars=self._objective.dollars, bound_dollars=self._bound.dollars)

    def _short(self) -> bool:
        return self._best is None or sum(self._objective.unserved_us) + self._objective.late_us > 0

    def _gap_now(self) -> float:
        dollars = self._objective.dollars
        return (dollars - self._bound.dollars) / dollars if dollars > 0 else 0.0

    def _over(self, share: float) -> Callable[[], bool]:
        end_s = self._started_s + share * (self._end_s - self._started_s)
        return lambda: self._stop() or self._clock() >= end_s

    def _result(self, on_time: Sequence[ContentTable], end_reason: str) -> CostResult:
        assert self._best is not None
        problem, objective = self._problem, self._objective
        bound_dollars, service = self._bound.dollars, ServiceBound(unserved_us=0.0, unserved_or_late_us=0.0)
        if self._short():
            complete: Demand = demand_of(problem, complete=True)
            physical = [enumerate_contents(t, problem.target_ms, allow_late=True) for t in problem.types]
            service = service_bound(problem, on_time, physical, complete)
            short_us = float(sum(objective.unserved_us) + objective.late_us)
            bound_dollars = cost_bound_when_short(problem, complete, short_us, self._bound.inequality)
        return CostResult(
            solution=self._best[1],
            objective=objective,
            bound=self._bound,
            bound_dollars=min(bound_dollars, objective.dollars),
            service=service,
            solver=self._best[2],
            end_reason=end_reason,
        )
