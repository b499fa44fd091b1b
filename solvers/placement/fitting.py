"""Placements below a wanted level, greedily or by randomised search.

Decides how the compiled repair is fed and read; must never know which levels are worth trying.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from solvers.placement.fit_kernel import FITTED, GOING, STUCK, UNKNOWN, Level, Pool, begin_fit, fit
from solvers.placement.kernel import FAR, Given, State, given_of, place_waiting, placement_of, state_of
from solvers.placement.order import class_sizes, placing_order
from solvers.placement.problem import IntArray, Problem
from solvers.placement.solution import Placement

PATIENCE = 25  # steps that leave no fewer sessions without a GPU, before an attempt is given up
LOOKS_AT_ONCE = 300_000  # at one class on one GPU, between two looks at the clock: a millisecond or two
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
class Attempt:
    """What one attempt has to reach, and how hard it tries."""

    limit_us: int  # f of every GPU
    on_time: bool  # every target has to be met, transfers included
    ends: Callable[[], bool]  # asked every few milliseconds
    noise: float = 0.0
    seed: int = 0
    patience: int = PATIENCE  # it gives up after so many steps that left no fewer sessions without a GPU


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

    def place(self) -> Placement:
        """The first valid placement: nobody moves, those who wait go where they harm least; sets `served`."""
        state = state_of(self.problem)
        waiting = self.problem.waiting.astype(np.int64)
        place_waiting(self.given, state, waiting, placing_order(self.problem))
        self.served = self.problem.waiting - waiting
        return placement_of(state)

    def fit(self, attempt: Attempt) -> Fitted:
        """Everybody on a GPU below the level of the attempt."""
        return self._run(state_of(self.problem), np.zeros(self.problem.classes, np.int64), self.served, attempt)

    def complete(self, placement: Placement, attempt: Attempt) -> Fitted:
        """From a placement in which fewer arrive than leave, or fewer are placed than have to be: all of them."""
        migrating = np.maximum(placement.out.sum(axis=0) - placement.arrived.sum(axis=0), 0)
        waiting = np.maximum(self.served - placement.placed.sum(axis=0), 0)
        return self._run(state_of(self.problem, placement), migrating, waiting, attempt)

    def _run(self, state: State, migrating: IntArray, waiting: IntArray, attempt: Attempt) -> Fitted:
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
            limit_us=attempt.limit_us,
            on_time=attempt.on_time,
            moves_max=problem.moves_max,
            moved_mib_max=problem.moved_mib_max,
            noise=attempt.noise,
        )
        steps_max = 40 + 3 * int(waiting.sum()) + 3 * min(problem.moves_max, 2 * problem.gpus)
        progress = np.array([0, FAR, 0], dtype=np.int64)
        outcome = GOING if begin_fit(self.given, state, pool, level, self._size, attempt.seed) else STUCK
        while outcome == GOING and not attempt.ends():
            outcome = fit(
                self.given,
                state,
                pool,
                level,
                self._size,
                self._rank,
                progress,
                steps_max,
                attempt.patience,
                LOOKS_AT_ONCE,
            )
        work = WORK_PER_EVALUATION * problem.gpus * problem.classes * (int(progress[0]) + problem.classes)
        return Fitted(placement=placement_of(state) if outcome == FITTED else None, work=work)
