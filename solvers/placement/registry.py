"""Every solver of the placement problem by name.

Decides what a solver is (one verb) and which there are; must never know which of them is good at what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from solvers.placement.meter import Meter
from solvers.placement.problem import Problem
from solvers.placement.solution import Bounds, Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one solver comes back with. Without a placement it has only proven something, found nothing better in
    time, or does not apply; `end_reason` says which."""

    placement: Placement | None
    bounds: Bounds
    end_reason: str


class Solver(Protocol):
    """One way to solve a problem. A solver that does not apply answers without a placement and says why.

    `hint` is an allowed placement; what is returned is never worse. `bounds` are proven already and may be used.
    """

    def __call__(
        self, problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds
    ) -> Found: ...


def _one_class() -> Solver:
    from solvers.placement.one_class import solve

    return solve


def _patterns() -> Solver:
    from solvers.placement.pattern import solve

    return solve


def _columns() -> Solver:
    from solvers.placement.columns import solve_columns

    return solve_columns


def _cpsat() -> Solver:
    from solvers.placement.cpsat import solve

    return solve


def _highs() -> Solver:
    from solvers.placement.highs import solve

    return solve


def _milp(solver_name: str) -> Solver:
    from solvers.placement.milp import milp_through

    return milp_through(solver_name)


def _restricted() -> Solver:
    from solvers.placement.restricted import solve

    return solve


SOLVERS: Mapping[str, Callable[[], Solver]] = {
    "one-class": _one_class,
    "patterns": _patterns,
    "columns": _columns,
    "cpsat": _cpsat,
    "highs": _highs,
    "milp": lambda: _milp("HiGHS"),
    "milp-cbc": lambda: _milp("PULP_CBC_CMD"),
    "restricted": _restricted,
}
