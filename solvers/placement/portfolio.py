"""The cascade: a valid placement at once, then certificate and greedy, then what fits the batching model, then polish.

Decides which solver runs when under one deadline and when to stop; must never know sessions, names or how solvers work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from solvers.placement import cpsat
from solvers.placement.bounds import certificate
from solvers.placement.fitting import Fitter
from solvers.placement.incumbent import Incumbent, value_before
from solvers.placement.levels import Effort, LevelSearch
from solvers.placement.meter import Meter
from solvers.placement.polish import improve_lateness, lower_peaks, polish
from solvers.placement.problem import NO_TARGET_US, Problem
from solvers.placement.registry import SOLVERS
from solvers.placement.solution import Answer, Bounds, StageReport

POLISH_SHARE = 0.05  # of the budget is kept for the last stage
SMALL = 160  # GPUs x classes up to which CP-SAT, which knows every tier, is asked in the end
GREEDY_RESERVE = 0.45  # of the budget is kept where greedy fits fail, for single migrations and exact stages
SEARCH_SHARE = 0.15  # of the budget for randomised search before an exact stage


def solve(problem: Problem, meter: Meter, *, seed: int = 0, gap: float = 0.001, exact: bool = True) -> Answer:
    """The best placement that the meter allows; there always is one.

    Stops once the tiers before `balance` are at their bounds and it is within the relative `gap` of its own. Without
    `exact` only greedy and local search run. All stages run in this process: their placements are checked before they
    are kept, their bounds are taken as they are.
    """
    return _Cascade(problem, meter, seed, gap, exact).run()


class _Cascade:
    def __init__(self, problem: Problem, meter: Meter, seed: int, gap: float, exact: bool) -> None:
        self._problem, self._meter, self._seed, self._gap, self._exact = problem, meter, seed, gap, exact
        self._stages: list[StageReport] = []

    def run(self) -> Answer:
        problem = self._problem
        begun_s = self._meter.used_s()
        self._fitter = Fitter(problem)
        self._incumbent = Incumbent(problem, self._fitter.place(), Bounds())
        self._note("place", begun_s, "everybody is placed where there is room")
        self._meter.keep(POLISH_SHARE * self._meter.total_s)
        self._stage("certificate and greedy", self._greedy)
        chain = self._chain()
        for name in chain:
            if self._done():
                break
            self._stage(name, lambda name=name: self._ask(name, last=name == chain[-1]))  # type: ignore[misc]
        self._meter.keep(0.0)
        self._stage("polish", self._polish)
        end_reason = "wanted gap reached" if self._incumbent.gap <= self._gap else self._stages[-2].end_reason
        return Answer(
            placement=self._incumbent.placement,
            value=self._incumbent.value,
            before=value_before(problem),
            bounds=self._incumbent.bounds,
            solver=self._incumbent.solver,
            end_reason=end_reason,
            stages=tuple(self._stages),
        )

    def _greedy(self) -> str:
        problem, incumbent, meter = self._problem, self._incumbent, self._meter
        certain = self._prove()
        on_time = problem.tiers.meet and bool((problem.target_us < NO_TARGET_US).any())
        self._search = LevelSearch(self._fitter, incumbent, meter, on_time=on_time, seed=self._seed)
        if (on_time and incumbent.value.meet) or incumbent.value.leave or incumbent.value.repair:
            fitted = self._search.free()
            if on_time and not fitted:
                self._search = LevelSearch(self._fitter, incumbent, meter, on_time=False, seed=self._seed)
                self._search.free()
        if incumbent.value.meet > incumbent.bounds.meet:
            improve_lateness(problem, incumbent, meter)
        if not certain:
            self._prove()
        self._without_balance = incumbent.placement, incumbent.value
        if not problem.tiers.balance:
            return "balance is off"
        if problem.classes == 1 and incumbent.settled:
            return "left to the closed form"
        end_s = GREEDY_RESERVE * meter.total_s
        effort = Effort(name="greedy", attempts=1, noisy=False, steps_max=2, patience=4, bisects=False, end_s=end_s)
        end_reason = self._search.run(effort, self._gap)
        if not self._done():
            lower_peaks(problem, incumbent, meter)
        return end_reason

    def _prove(self) -> bool:
        """The certificate; True if it counts those who wait, which it may once everybody is known to be served.

        Where batches have to be repaired, or somebody has no place, the best placements may leave others waiting.
        """
        problem, value = self._problem, self._incumbent.value
        served = value.repair == 0 and sum(value.serve) == 0
        asked = problem if served else replace(problem, waiting=np.zeros_like(problem.waiting))
        self._incumbent.prove(certificate(asked, self._fitter.given))
        return served

    def _chain(self) -> tuple[str, ...]:
        """Who is asked after greedy, in turn."""
        problem = self._problem
        if not self._exact:
            return ("search",) if problem.tiers.balance else ()
        small = ("cpsat",) if problem.gpus * problem.classes <= SMALL else ()
        if not problem.tiers.balance:
            return small
        if not self._incumbent.settled:
            return ("search", *small)
        if problem.classes == 1:
            return ("one-class", "columns", "search", *small)
        if problem.tables.batching == "turboserve":
            return ("patterns", "columns", "search", *small)
        return ("columns", "search", *small)

    def _ask(self, name: str, *, last: bool) -> str:
        if name == "search":
            end_s = 0.0 if last else self._meter.left_s() * (1 - SEARCH_SHARE)
            effort = Effort(name="search", attempts=6, noisy=True, end_s=end_s)
            return self._search.run(effort, self._gap)
        if name == "cpsat" and not (self._meter.repeats or cpsat.is_loaded()) and self._meter.over(cpsat.LOAD_S):
            return "too little time to load the library"
        incumbent = self._incumbent
        found = SOLVERS[name]()(
            self._problem, self._meter, seed=self._seed, hint=incumbent.placement, bounds=incumbent.bounds
        )
        incumbent.prove(found.bounds)
        if found.placement is not None:
            incumbent.offer(found.placement, name)
        return found.end_reason

    def _polish(self) -> str:
        """Below the targets, migrations that lower the worst latency by too little are not worth making."""
        problem, incumbent = self._problem, self._incumbent
        placement, value = self._without_balance
        least = (1 - problem.tiers.balance_gain_min) * value.balance
        same = (value.repair, value.serve, value.meet, value.leave) == (
            incumbent.value.repair,
            incumbent.value.serve,
            incumbent.value.meet,
            incumbent.value.leave,
        )
        if same and value.meet == 0 and problem.tiers.balance_gain_min > 0 and incumbent.value.balance > least:
            incumbent.placement, incumbent.value = placement, value
            incumbent.solver = "greedy"
            reason = "balancing gains too little"
        else:
            reason = "polished"
        polish(problem, incumbent, self._meter)
        return reason

    def _done(self) -> bool:
        return (self._incumbent.settled and self._incumbent.gap <= self._gap) or self._meter.over()

    def _stage(self, name: str, run: Callable[[], str]) -> None:
        begun_s = self._meter.used_s()
        self._note(name, begun_s, run())

    def _note(self, name: str, begun_s: float, end_reason: str) -> None:
        incumbent = self._incumbent
        self._stages.append(
            StageReport(
                solver=name,
                seconds=self._meter.used_s() - begun_s,
                end_reason=end_reason,
                value=incumbent.value,
                balance_bound_us=incumbent.bounds.balance,
                gap=incumbent.gap,
            )
        )
