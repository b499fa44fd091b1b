"""The oracle itself, against problems whose optimum is plain."""

from __future__ import annotations

from hypothesis import given

from solvers.placement.check import evaluate, violations
from solvers.placement.problem import Problem
from tests.solvers.placement.brute_force import every, in_order, optimum, tightest
from tests.solvers.placement.builders import a_placement_problem
from tests.solvers.placement.strategies import placement_problems


def test_all_placements_are_tried() -> None:
    problem = a_placement_problem("A | A | ", waiting="B")
    # The As: nobody moves, one goes to the third GPU (2), both do, one joins the other (2), or they spread (2).
    # A GPU that loses its A cannot also take one. B waits or is on any of three GPUs.
    ways = {tuple(map(int, (placement.arrived - placement.out)[:, 0])) for placement, _ in every(problem)}
    assert ways == {(0, 0, 0), (-1, 0, 1), (0, -1, 1), (-1, -1, 2), (-1, 1, 0), (1, -1, 0)}
    assert len(list(every(problem))) == 4 * len(ways)


def test_the_optimum_serves_before_it_balances_and_balances_before_it_saves_moves() -> None:
    problem = a_placement_problem("AAAA | ", waiting="B", moves_max=9)
    placement, value = optimum(problem)
    assert (value.serve, value.balance, value.move) == ((0,), 30_000, 1)
    assert placement.placed.sum() == 1


@given(placement_problems())
def test_random_problems_have_an_allowed_optimum_and_bounds_that_it_meets(problem: Problem) -> None:
    placement, value = optimum(problem)
    assert not violations(problem, placement)
    assert evaluate(problem, placement) == value
    bounds = tightest(problem)
    assert (bounds.repair, bounds.serve) == (value.repair, value.serve)
    assert in_order(problem, value) <= min(in_order(problem, other) for _, other in every(problem))
