"""The placement of an early step: who waits is placed, nobody migrates.

Decides what is looked at between epochs (service and lateness, not balance); must never know GPUs to start or moves.
"""

from __future__ import annotations

from scheduler.formulate import Formulated
from solvers.placement.check import evaluate, violations
from solvers.placement.fitting import place_in_turn
from solvers.placement.incumbent import value_before
from solvers.placement.solution import Answer, Bounds

NAME = "place"


def placed_between_epochs(formulated: Formulated) -> Answer | None:
    """A few compiled loops, and no search; None where there is no GPU to speak of."""
    problem = formulated.problem
    if not problem.gpus:
        return None
    placement = place_in_turn(problem, formulated.levels)
    wrong = violations(problem, placement)
    assert not wrong, "; ".join(wrong[:5])
    return Answer(
        placement=placement,
        value=evaluate(problem, placement),
        before=value_before(problem),
        bounds=Bounds(),
        solver=NAME,
        end_reason="placed between epochs",
        stages=(),
    )
