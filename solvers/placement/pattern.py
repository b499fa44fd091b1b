"""Least worst latency for batching `turboserve`: limits are tested one by one, each by choosing patterns of GPUs.

Decides which limit is tested next, what a test proves and when to stop; must never know what a pattern is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from solvers.placement.check import evaluate, violations
from solvers.placement.meter import Meter
from solvers.placement.pattern_build import build_placement
from solvers.placement.pattern_choose import Chosen, by_milp, round_mixture
from solvers.placement.pattern_dual import ZERO, Relaxed, certifies, least_moved_mib, least_slack
from solvers.placement.pattern_ground import Ground, careful, ground, in_time_for_transfers
from solvers.placement.pattern_level import Level, build, violated_rows
from solvers.placement.pattern_rows import Rows, join
from solvers.placement.problem import IntArray, Problem
from solvers.placement.registry import Found
from solvers.placement.solution import Bounds, Placement, Value, better

_RESERVE = 0.1  # share of the time that is left for whatever overruns
_SECONDS_PER_GPU = 2e-5  # what the first test may take
_MILP_SHARE = 0.6  # of the time that is left, for one MILP
_MILP_SECONDS_MIN = 0.02  # below this a MILP is not begun
_WORK_FIRST = 2.0  # in milliseconds on one core: what every test takes ...
_WORK_PER_GPU = 0.01
_WORK_PER_ROUND = 0.3  # ... and the rounds of its relaxation
_WORK_PER_PAIR = 0.0001
_WORK_PER_MILP = 50.0
_NODES_MAX = 200
_ITERATIONS_MAX = 20_000
_CUT_ROUNDS = 4

Verdict = Literal["too low", "built", "unbuilt", "open", "no time"]


def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
    """The least worst latency at which everybody can be placed, with proof; or the hint and a better bound."""
    del seed
    value = None if hint is None else evaluate(problem, hint)
    reason = _why_not(problem, value)
    if reason:
        return Found(placement=None, bounds=bounds, end_reason=f"does not apply: {reason}")
    assert hint is not None
    assert value is not None
    leaves = int(problem.running[problem.leaving].sum()) - value.leave if problem.tiers.leave else 0
    given = ground(problem, on_time=problem.tiers.meet, leave_least=leaves)
    limits = given.limits_us()
    search = _Search(
        problem=problem,
        meter=meter,
        given=given,
        limits_us=limits,
        best=hint,
        value=value,
        low=int(np.searchsorted(limits, bounds.balance)),
        _slowest_s=_SECONDS_PER_GPU * problem.gpus,
    )
    end_reason = search.run(from_below=bounds.balance > 0)
    if not len(limits):
        return Found(placement=hint, bounds=bounds, end_reason="nobody to place")
    proven = min(int(limits[min(search.low, len(limits) - 1)]), search.value.balance)
    if proven > bounds.balance:
        bounds = replace(bounds, balance=proven, proofs=bounds.proofs | {"balance": "patterns"})
    if search.least_moved_mib > bounds.move:
        bounds = replace(bounds, move=search.least_moved_mib, proofs=bounds.proofs | {"move": "patterns"})
    return Found(placement=search.best, bounds=bounds, end_reason=end_reason)


def _why_not(problem: Problem, value: Value | None) -> str | None:
    """Why this solver has nothing to say."""
    if problem.tables.batching != "turboserve" or problem.tables.alone_us.any():
        return f"batching {problem.tables.batching}"
    if not problem.tiers.balance:
        return "the worst latency does not count"
    if value is None:
        return "no placement is known"
    if any(value.serve):
        return "somebody has no GPU"
    if value.repair:
        return "something is broken"
    if problem.tiers.meet and value.meet:
        return "somebody is late"
    return None


@dataclass(slots=True, kw_only=True)
class _Search:
    """What is known about the limits so far: all below `low` are proven too low, `best` attains `value`."""

    problem: Problem
    meter: Meter
    given: Ground
    limits_us: IntArray
    best: Placement
    value: Value
    low: int
    _slowest_s: float = field(default=0.0)  # what a test has to be expected to take
    least_moved_mib: int = 0
    _unbuilt: set[int] = field(default_factory=set)  # limits with a choice of patterns that sessions did not fit

    @property
    def _reserve_s(self) -> float:
        return _RESERVE * self.meter.total_s

    @property
    def _high(self) -> int:
        """The first limit that is as good as what is attained."""
        equal_us = self.value.balance * (1.0 - self.problem.tiers.balance_tolerance)
        return int(np.searchsorted(self.limits_us, equal_us))

    def run(self, *, from_below: bool) -> str:
        """Find the least limit that the relaxation leaves open, then insist on the first at which sessions fit."""
        step, open_at = (1 if from_below else 0), self._high
        probe = self.low if from_below else (self.low + open_at) // 2
        while self.low < open_at:
            verdict = self._test(self.given, probe, stubborn=False)
            if verdict == "no time":
                return "deadline"
            if verdict == "too low":
                self.low = probe + 1
            else:
                open_at = min(probe, self._high)
                step = 0
            probe = min(self.low + step - 1, open_at - 1) if step else (self.low + open_at) // 2
            step *= 2
        end_reason = self._insist()
        if self.problem.tiers.move:
            self._move_less()
        return end_reason

    def _insist(self) -> str:
        """Limits from the bound upwards, with every means, until one is attained."""
        probe, step = self.low, 1
        while probe < self._high:
            for given in self._grounds():
                relaxed = given is self.given
                if relaxed and probe in self._unbuilt:
                    continue
                verdict = self._test(given, probe, stubborn=True)
                if verdict == "no time":
                    return "deadline"
                if verdict == "too low" and relaxed and probe == self.low:
                    self.low += 1
                if verdict == "built" or (verdict == "too low" and relaxed):
                    break
            probe += step
            step += 1 if probe > self.low + 2 else 0
        return "optimal" if self._high <= self.low else "no further means"

    def _grounds(self) -> list[Ground]:
        """The relaxation, and then stricter problems, whose solutions surely are in time and fit memory."""
        states = self.problem.state_mib[self.given.present]
        weights = (self.problem.running.sum(axis=0) + self.problem.waiting)[self.given.present]
        mean = int(np.ceil(states @ weights / weights.sum()))
        grounds = [careful(self.given, state) for state in sorted({mean, int(states.max())})]
        if self.problem.tiers.meet and (self.problem.transfer_us > 0).any():
            grounds.insert(0, in_time_for_transfers(self.problem, self.given))
        return [self.given, *grounds]

    def _test(self, given: Ground, index: int, *, stubborn: bool) -> Verdict:
        """Try one limit; `stubborn` also tries a MILP."""
        before_s = self.meter.left_s()
        if self.meter.over(self._reserve_s + self._slowest_s):
            return "no time"
        level = build(given, int(self.limits_us[index]))
        self.meter.spend(_WORK_FIRST + _WORK_PER_GPU * self.problem.gpus)
        verdict: Verdict
        if isinstance(level, str):
            verdict = "too low" if level.startswith("too low") else "open"
        else:
            verdict, _, _ = self._choose(level, level.rows, stubborn=stubborn)
            if verdict == "unbuilt":
                self._unbuilt.add(index)
        self._slowest_s = max(self._slowest_s, before_s - self.meter.left_s()) if not stubborn else self._slowest_s
        return verdict

    def _choose(
        self, level: Level, rows: Rows, *, stubborn: bool, share: float = 1.0
    ) -> tuple[Verdict, Rows, Relaxed | None]:
        """Choose patterns, add rows that the choice violates, choose again; then build what was chosen."""
        relaxed, start = None, None
        for _ in range(_CUT_ROUNDS):
            relaxed = least_slack(level, rows, start, self._goes_on)
            self._spend(level, relaxed.rounds)
            if relaxed.best.slack < -ZERO:
                return "too low" if certifies(level, rows, relaxed.best.prices) else "open", rows, relaxed
            chosen = round_mixture(level, rows, relaxed)
            if chosen.pair is None and stubborn and self._left_for_milp_s() > _MILP_SECONDS_MIN:
                chosen = by_milp(level, rows, relaxed, self._left_for_milp_s, self._limit)
                self.meter.spend(_WORK_PER_MILP)
            if chosen.end == "none exists":
                return "too low", rows, relaxed
            if chosen.pair is None or chosen.cap is None:
                return "open", rows, relaxed
            broken = violated_rows(level, chosen.pair, chosen.cap)
            if broken is None:
                return "built" if self._take(level, chosen) else "unbuilt", rows, relaxed
            start = np.concatenate([relaxed.best.prices * rows.unit, np.zeros(broken.count)])
            rows = join(rows, broken.for_least_moved(share))
        return "open", rows, relaxed

    def _take(self, level: Level, chosen: Chosen) -> bool:
        """Keep the placement that follows the patterns if it is better than the best so far."""
        assert chosen.pair is not None
        assert chosen.cap is not None
        placement = build_placement(self.problem, level, chosen.pair, chosen.cap)
        if placement is None or violations(self.problem, placement):
            return False
        value = evaluate(self.problem, placement)
        if better(self.problem, value, self.value):
            self.best, self.value = placement, value
        return self.value.balance <= level.limit_us

    def _move_less(self) -> None:
        """At the largest limit that counts as equal to the best, migrate as little as can be, and prove how little."""
        tolerance = self.problem.tiers.balance_tolerance
        best_us = min(self.value.balance, int(self.limits_us[self.low]) if self.low < len(self.limits_us) else 1 << 60)
        settled = self.value.balance * (1.0 - tolerance) <= best_us
        equal_us = (best_us if settled else self.value.balance) / (1.0 - tolerance)
        index = int(np.searchsorted(self.limits_us, equal_us, side="right")) - 1
        if self.value.move == 0 or self.meter.over(self._reserve_s + self._slowest_s):
            return
        given = replace(self.given, moved_mib_max=self.value.move)
        largest_mib = int(self.problem.state_mib[given.present].max())
        for one, share in ((given, 0.02), (given, 0.3), (careful(given, largest_mib), 0.1)):
            level = build(one, int(self.limits_us[index]), sizes=True)
            self.meter.spend(_WORK_FIRST + _WORK_PER_GPU * self.problem.gpus)
            if isinstance(level, str):
                return
            moved_mib = self.value.move
            _, rows, relaxed = self._choose(level, level.rows.for_least_moved(share), stubborn=False, share=share)
            if relaxed is not None and one is given:
                least_mib = least_moved_mib(level, rows, relaxed.best.prices)
                self.least_moved_mib = max(self.least_moved_mib, least_mib)
            if self.value.move < moved_mib or self.meter.over(self._reserve_s + self._slowest_s):
                return

    def _goes_on(self) -> bool:
        return not self.meter.over(self._reserve_s)

    def _spend(self, level: Level, rounds: int) -> None:
        """Work for one relaxation and what follows it."""
        self.meter.spend(_WORK_FIRST + rounds * (_WORK_PER_ROUND + _WORK_PER_PAIR * len(level.pairs.group)))

    def _left_for_milp_s(self) -> float:
        return _MILP_SHARE * (self.meter.left_s() - self._reserve_s)

    def _limit(self, highs: Any) -> None:
        """Time in wall mode; in work mode numbers that do not depend on the machine."""
        if self.meter.repeats:
            highs.setOptionValue("mip_max_nodes", _NODES_MAX)
            highs.setOptionValue("simplex_iteration_limit", _ITERATIONS_MAX)
        else:
            highs.setOptionValue("time_limit", self._left_for_milp_s())
