"""The placement of an early step: who waits is placed, and where somebody would be late, sessions make way.

Decides what is looked at between epochs (service and lateness, not balance); must never know GPUs to start or moves.
"""

from __future__ import annotations

from scheduler.formulate import Formulated
from solvers.placement.fitting import place_in_turn
from solvers.placement.incumbent import Incumbent, value_before
from solvers.placement.meter import Meter
from solvers.placement.polish import improve_lateness
from solvers.placement.solution import Answer, Bounds


def placed_between_epochs(formulated: Formulated, meter: Meter) -> Answer | None:
    """A few compiled loops, and no search; None where there is no GPU to speak of.

    Migrations are those that lower the lateness of everybody together, one by one, within what is left of the budget.
    """
    problem = formulated.problem
    if not problem.gpus:
        return None
    incumbent = Incumbent(problem, place_in_turn(problem, formulated.levels), Bounds())
    if incumbent.value.meet and problem.tiers.meet:
        improve_lateness(problem, incumbent, meter)
    return Answer(
        placement=incumbent.placement,
        value=incumbent.value,
        before=value_before(problem),
        bounds=Bounds(),
        solver=incumbent.solver,
        end_reason="placed between epochs",
        stages=(),
    )
