"""Lower the worst latency by a small program: who leaves the slowest GPUs, and which of the fastest take them.

Decides which levels are tried and which GPUs may take part; must never know how the program is solved. It finds
placements and proves nothing, because most GPUs are left out.
"""

from __future__ import annotations

import numpy as np

from solvers.placement.check import evaluate, violations
from solvers.placement.highs import HighsModel
from solvers.placement.meter import Meter
from solvers.placement.problem import BoolArray, Problem
from solvers.placement.reach import Reach
from solvers.placement.registry import Found
from solvers.placement.solution import Bounds, Placement, Value, better
from solvers.placement.tier_by_tier import of_step, steps, tidy

TAKERS_PER_SESSION = 4  # GPUs that may take, for each session that may move or waits
TAKERS_MIN = 16
TESTS_MAX = 12  # levels that are tried
BUILD_S_PER_CELL = 20e-6  # per GPU and class: most columns are absent
SHARE_OF_TIME = 0.25  # of what is left, for one level


def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
    """A placement with a lower worst latency than the hint's, at its values in all earlier tiers."""
    reason = _why_not(problem, meter, hint)
    if reason is not None or hint is None:
        return Found(placement=None, bounds=bounds, end_reason=reason or "does not apply: nothing to start from")
    best, value = hint, evaluate(problem, hint)
    low, tolerance = bounds.balance, problem.tiers.balance_tolerance
    level, end_reason = low, "levels are close"
    for _ in range(TESTS_MAX):
        if value.balance <= low * (1 + tolerance):
            break
        if meter.over(_build_s(problem)):
            end_reason = "time"
            break
        placement = _at_most(problem, meter, seed, level, value)
        if placement is None:
            low = level + 1
        elif better(problem, evaluate(problem, placement), value):
            best, value = placement, evaluate(problem, placement)
        else:
            break
        level = (low + value.balance) // 2
    return Found(placement=best, bounds=bounds, end_reason=end_reason)


def _why_not(problem: Problem, meter: Meter, hint: Placement | None) -> str | None:
    if problem.tables.batching == "turboserve":
        return "does not apply: turboserve has whole patterns instead"
    if not problem.tiers.balance:
        return "does not apply: the worst latency does not count"
    if hint is None:
        return "does not apply: nothing to start from"
    value = evaluate(problem, hint)
    if value.repair or value.meet:
        return "does not apply: an earlier tier is open"
    return "too little time to build the program" if meter.over(2 * _build_s(problem)) else None


def _build_s(problem: Problem) -> float:
    return BUILD_S_PER_CELL * problem.gpus * problem.classes


def _at_most(problem: Problem, meter: Meter, seed: int, level_us: int, value: Value) -> Placement | None:
    """A placement whose worst latency is at most `level_us`, with the fewest MiB moved; None if none was found."""
    gives, takes = _who_takes_part(problem, level_us)
    reach = Reach.of(problem, level_us).only(gives, takes, problem.running)
    model = HighsModel(problem, reach, meter, seed)
    for step in steps(problem):
        if step[0] not in ("balance", "move"):
            model.hold(step, of_step(value, step))
    model.hold(("balance", 0), level_us)
    outcome = model.least(("move", 0), SHARE_OF_TIME, lower=0, start=None)
    if outcome.placement is None:
        return None
    placement = tidy(outcome.placement)
    return placement if not violations(problem, placement) else None


def _who_takes_part(problem: Problem, level_us: int) -> tuple[BoolArray, BoolArray]:
    """Only GPUs beyond the level, or that are to be emptied, give; they and the least loaded ones take."""
    latency_us = problem.latency_us(problem.running)
    gives = (latency_us > level_us) | problem.leaving
    movers = min(problem.moves_max, int(problem.running[gives].sum())) + int(problem.waiting.sum())
    count = max(TAKERS_MIN, TAKERS_PER_SESSION * movers)
    order = np.argsort(np.where(problem.receives, latency_us, np.iinfo(np.int64).max), kind="stable")
    takes = gives.copy()
    takes[order[:count]] = True
    return gives, takes & problem.receives
