"""The last tiers: migrations that are not needed are undone, and what may be spent on smoothness is.

Decides how a placement is tidied without giving up what the tiers before have; must never know how it was found.
"""

from __future__ import annotations

from solvers.placement.descend_kernel import LATENESS, SQUARES, descend, undo
from solvers.placement.incumbent import Incumbent
from solvers.placement.kernel import given_of, placement_of, state_of
from solvers.placement.meter import Meter
from solvers.placement.problem import NEVER_US, Problem

SMOOTH_GAIN_MIN = 1.0  # square milliseconds that a move has to save
LATENESS_GAIN_MIN = 1.0  # weighted microseconds
STEPS_PER_GPU = 4
STEPS_AT_ONCE = 64  # between two looks at the meter
LAST_SHARE = 0.02  # of the budget, for the last of them


def improve_lateness(problem: Problem, incumbent: Incumbent, meter: Meter) -> None:
    """Single migrations while the lateness of everybody together falls."""
    state = state_of(problem, incumbent.placement)
    left = problem.moves_max - incumbent.placement.moves
    left_mib = problem.moved_mib_max - incumbent.value.move
    steps = descend(
        given_of(problem),
        state,
        NEVER_US - 1,
        LATENESS,
        left,
        left_mib,
        LATENESS_GAIN_MIN,
        STEPS_PER_GPU * problem.gpus,
    )
    meter.spend(1e-4 * problem.gpus * problem.classes * (steps + 1))
    incumbent.offer(placement_of(state), "descent")


def polish(problem: Problem, incumbent: Incumbent, meter: Meter) -> None:
    """Undo what is not needed within the tolerance of `balance`, then smooth with at most `smooth_moves` migrations."""
    if meter.over():
        return
    tiers, given = problem.tiers, given_of(problem)
    limit_us = NEVER_US - 1
    if tiers.balance:
        # Values up to here count as equal to the best one, wherever above the bound that is.
        allowed_us = int(incumbent.bounds.balance * (1 + tiers.balance_tolerance * (1 - tiers.balance_tolerance)))
        limit_us = max(incumbent.value.balance, allowed_us)
    if tiers.move and incumbent.placement.moves:
        state = state_of(problem, incumbent.placement)
        if undo(given, state, limit_us):
            incumbent.offer(placement_of(state), incumbent.solver)
    if tiers.smooth:
        state = state_of(problem, incumbent.placement)
        left = min(tiers.smooth_moves, problem.moves_max - incumbent.placement.moves)
        left_mib = problem.moved_mib_max - incumbent.value.move
        for _ in range(-(-STEPS_PER_GPU * problem.gpus // STEPS_AT_ONCE)):
            if meter.over(LAST_SHARE * meter.total_s):
                break
            out = state.out.sum(axis=0)
            steps = descend(given, state, limit_us, SQUARES, left, left_mib, SMOOTH_GAIN_MIN, STEPS_AT_ONCE)
            more = state.out.sum(axis=0) - out
            left, left_mib = left - int(more.sum()), left_mib - int(more @ problem.state_mib)
            meter.spend(1e-4 * problem.gpus * problem.classes * (steps + 1))
            if steps < STEPS_AT_ONCE:
                break
        incumbent.replace_smoother(placement_of(state))
