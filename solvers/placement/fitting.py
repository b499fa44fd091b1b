"""Placements below a wanted level, greedily or by randomised search.

Decides how the compiled repair is fed and read; must never know which levels are worth trying.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solvers.placement.fit_kernel import FITTED, UNKNOWN, Level, Pool, fit
from solvers.placement.kernel import Given, State, given_of, place_waiting, placement_of, state_of
from solvers.placement.order import class_sizes, placing_order
from solvers.placement.problem import IntArray, Problem
from solvers.placement.solution import Placement

PATIENCE = 25  # steps that leave no fewer sessions without a GPU, before an attempt is given up
LOOK_S = 1e-8  # seconds for one look at one class on one GPU
WORK_PER_EVALUATION = 4e-5  # units of work (milliseconds) for one look at one class on one GPU, roughly


def place_in_turn(problem: Problem, levels: Sequence[IntArray]) -> Placement:
    """Nobody moves; who waits goes where it harms least, level by level [classes] of those who are served first.

    Whoever comes after an equal that has found no place has none.
    """
    given, state, order = given_of(problem), state_of(problem), placing_order(problem)
    left_out = np.zeros(problem.classes, np.bool_)
    for level in levels:
        waiting = np.where(left_out, 0, level).astype(np.int64)
        place_waiting(given, state, waiting, order)
        left_out |= waiting > 0
    return placement_of(state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """One attempt: a placement if everybody found room, and what it cost to try."""

    placement: Placement | None
    work: float


class Fitter:
    """One problem with everybody who can be placed, ready to be fitted below any level."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.given: Given = given_of(problem)
        self._size = class_sizes(problem)
        self._rank = problem.priority_rank.astype(np.int64)
        self.served: IntArray = problem.waiting.copy()  # [classes]: of those who wait, how many have to be placed

    @property
    def expected_s(self) -> float:
        """What one attempt may take, before any was timed."""
        problem = self.problem
        steps = int(problem.waiting.sum()) + min(problem.moves_max, 2 * problem.gpus)
        return LOOK_S * problem.gpus * problem.classes * steps

    def place(self) -> Placement:
        """The first valid placement: nobody moves, those who wait go where they harm least; sets `served`."""
        state = state_of(self.problem)
        waiting = self.problem.waiting.astype(np.int64)
        place_waiting(self.given, state, waiting, placing_order(self.problem))
        self.served = self.problem.waiting - waiting
        return placement_of(state)

    def fit(
        self, limit_us: int, *, on_time: bool, noise: float = 0.0, seed: int = 0, patience: int = PATIENCE
    ) -> Fitted:
        """Everybody on a GPU with f <= `limit_us`; with `on_time` every target is met, transfers included.

        It gives up after `patience` steps that left no fewer sessions without a GPU.
        """
        nobody = np.zeros(self.problem.classes, np.int64)
        state = state_of(self.problem)
        return self._run(state, nobody, self.served.copy(), limit_us, on_time, noise, seed, patience)

    def complete(self, placement: Placement, limit_us: int, *, on_time: bool, noise: float, seed: int) -> Fitted:
        """From a placement in which fewer arrive than leave, or fewer are placed than have to be: all of them."""
        migrating = np.maximum(placement.out.sum(axis=0) - placement.arrived.sum(axis=0), 0)
        waiting = np.maximum(self.served - placement.placed.sum(axis=0), 0)
        state = state_of(self.problem, placement)
        return self._run(state, migrating, waiting, limit_us, on_time, noise, seed, PATIENCE)

    def _run(
        self,
        state: State,
        migrating: IntArray,
        waiting: IntArray,
        limit_us: int,
        on_time: bool,
        noise: float,
        seed: int,
        patience: int,
    ) -> Fitted:
        problem = self.problem
        moved = state.out.sum(axis=0)
        pool = Pool(
            migrating=migrating.astype(np.int64),
            waiting=waiting.astype(np.int64),
            spent=np.array([moved.sum(), moved @ problem.state_mib], dtype=np.int64),
            tabu_until=np.zeros((problem.gpus, problem.classes), np.int64),
            direct=np.zeros(problem.classes, np.int64),
            entry_us=np.full((2, problem.gpus, problem.classes), UNKNOWN, np.int64),
        )
        level = Level(
            limit_us=limit_us,
            on_time=on_time,
            moves_max=problem.moves_max,
            moved_mib_max=problem.moved_mib_max,
            noise=noise,
        )
        steps_max = 40 + 3 * int(waiting.sum()) + 3 * min(problem.moves_max, 2 * problem.gpus)
        outcome, steps = fit(self.given, state, pool, level, self._size, self._rank, steps_max, patience, seed)
        work = WORK_PER_EVALUATION * problem.gpus * problem.classes * (steps + problem.classes)
        return Fitted(placement=placement_of(state) if outcome == FITTED else None, work=work)
