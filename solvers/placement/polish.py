"""Placements made better by single migrations: less lateness, a lower peak, and, last, fewer migrations and smoothness.

Decides what a descent is for and when it ends; must never know how the placement was found.
"""

from __future__ import annotations

from solvers.placement.descend_kernel import LATENESS, PEAKS, SQUARES, Goal, begin, descend, moves_of, undo
from solvers.placement.incumbent import Incumbent
from solvers.placement.kernel import State, given_of, placement_of, state_of
from solvers.placement.meter import Meter
from solvers.placement.problem import NEVER_US, Problem

SMOOTH_GAIN_MIN = 1.0  # square milliseconds that a move has to save
LATENESS_GAIN_MIN = 1.0  # weighted microseconds
PEAK_GAIN_MIN = 1e-6  # of a GPU that is as slow as the slowest one in the beginning
STEPS_PER_GPU = 4
FRUITLESS_MAX = 64  # steps that leave the peak as high, roughly
LOOKS_AT_ONCE = 200_000  # at one class on one GPU, between two looks at the meter: a millisecond or two
BEGIN_S = 3e-7  # seconds for a look at each class on each GPU, in the beginning
WORK_PER_LOOK, WORK_TO_BEGIN = 1e-5, 2e-4  # units of work (milliseconds), per GPU and class
LAST_SHARE = 0.02  # of the budget, for the last of them


def improve_lateness(problem: Problem, incumbent: Incumbent, meter: Meter) -> None:
    """Single migrations while the lateness of everybody together falls."""
    goal = Goal(kind=LATENESS, limit_us=NEVER_US - 1, gain_min=LATENESS_GAIN_MIN)
    state = state_of(problem, incumbent.placement)
    _descend(problem, state, goal, problem.moves_max, meter)
    incumbent.offer(placement_of(state), "descent")


def lower_peaks(problem: Problem, incumbent: Incumbent, meter: Meter) -> str:
    """Single migrations away from the slowest GPUs, each where it costs least, while nobody gets later for it."""
    worst_us = incumbent.value.balance
    if not 0 < worst_us < NEVER_US:
        return "does not apply: nobody runs, or a batch may not"
    goal = Goal(kind=PEAKS, limit_us=worst_us - 1, gain_min=PEAK_GAIN_MIN)
    state = state_of(problem, incumbent.placement)
    ended = _descend(problem, state, goal, problem.moves_max, meter)
    undo(given_of(problem), state, int(state.latency_us.max()))
    incumbent.offer(placement_of(state), "descent")
    return "no single migration helps" if ended else "deadline"


def polish(problem: Problem, incumbent: Incumbent, meter: Meter) -> None:
    """Undo what is not needed within the tolerance of `balance`, then smooth with at most `smooth_moves` migrations."""
    if meter.over():
        return
    tiers = problem.tiers
    limit_us = NEVER_US - 1
    if tiers.balance:
        # Values up to here count as equal to the best one, wherever above the bound that is.
        allowed_us = int(incumbent.bounds.balance * (1 + tiers.balance_tolerance * (1 - tiers.balance_tolerance)))
        limit_us = max(incumbent.value.balance, allowed_us)
    if tiers.move and incumbent.placement.moves:
        state = state_of(problem, incumbent.placement)
        if undo(given_of(problem), state, limit_us):
            incumbent.offer(placement_of(state), incumbent.solver)
    if tiers.smooth:
        state = state_of(problem, incumbent.placement)
        moves_max = min(incumbent.placement.moves + tiers.smooth_moves, problem.moves_max)
        _descend(problem, state, Goal(kind=SQUARES, limit_us=limit_us, gain_min=SMOOTH_GAIN_MIN), moves_max, meter)
        incumbent.replace_smoother(placement_of(state))


def _descend(problem: Problem, state: State, goal: Goal, moves_max: int, meter: Meter) -> bool:
    """Change the state as long as it pays, with `moves_max` migrations in all; False if the meter ended it."""
    given, cells = given_of(problem), problem.gpus * problem.classes
    moves = moves_of(problem.gpus, problem.classes)
    steps_at_once = max(1, LOOKS_AT_ONCE // max(1, cells))
    steps_left, expected_s = STEPS_PER_GPU * problem.gpus, LAST_SHARE * meter.total_s
    if meter.over(expected_s + BEGIN_S * cells):
        return False
    begin(given, state, moves, goal)
    meter.spend(WORK_TO_BEGIN * cells)
    peak_us, fruitless = int(state.latency_us.max(initial=0)), 0
    while steps_left > 0:
        if meter.over(expected_s):
            return False
        before_s = meter.used_s()
        out = state.out.sum(axis=0)
        left, left_mib = moves_max - int(out.sum()), problem.moved_mib_max - int(out @ problem.state_mib)
        steps = descend(given, state, moves, goal, left, left_mib, min(steps_at_once, steps_left))
        meter.spend(WORK_PER_LOOK * cells * (steps + 1))
        steps_left -= steps
        expected_s = max(LAST_SHARE * meter.total_s, meter.used_s() - before_s)
        fruitless = fruitless + steps if goal.kind == PEAKS and int(state.latency_us.max()) == peak_us else 0
        peak_us = int(state.latency_us.max())
        if steps < steps_at_once or fruitless > FRUITLESS_MAX:
            break
    return True
