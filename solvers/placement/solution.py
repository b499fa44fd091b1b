"""What a solver answers: a placement, what it is worth in every tier, and what no placement can beat.

Decides the shape of answers and how two of them compare; must never know how they were found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from solvers.placement.problem import IntArray, Problem

TierName = Literal["repair", "serve", "meet", "leave", "balance", "move", "smooth"]
TIERS: tuple[TierName, ...] = ("repair", "serve", "meet", "leave", "balance", "move", "smooth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Sessions per GPU and class that leave, arrive by migration, and are placed from waiting; all [gpus, classes]."""

    out: IntArray
    arrived: IntArray
    placed: IntArray

    @staticmethod
    def unchanged(problem: Problem) -> Placement:
        """Nobody moves and nobody is placed."""
        return Placement(
            out=np.zeros_like(problem.running),
            arrived=np.zeros_like(problem.running),
            placed=np.zeros_like(problem.running),
        )

    def after(self, problem: Problem) -> IntArray:
        """Sessions per GPU and class once everything is done."""
        return problem.running - self.out + self.arrived + self.placed

    @property
    def moves(self) -> int:
        return int(self.out.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a placement is worth; less is better everywhere."""

    repair: int  # MiB beyond memory plus sessions in batches that may not run
    serve: tuple[int, ...]  # sessions without a GPU, by rank of priority
    meet: int  # weighted microseconds beyond targets, own transfers included
    leave: int  # sessions on GPUs that are to be emptied
    balance: int  # the worst latency, microseconds
    move: int  # MiB migrated
    smooth: int  # sum of squared latencies, in square milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What no placement can beat, tier by tier: each holds among placements that are optimal in the tiers before it.

    A tier that has no bound of its own has 0, which is always true. `proofs` names what proved each bound.
    """

    repair: int = 0
    serve: tuple[int, ...] = ()  # empty: zeros
    meet: int = 0
    leave: int = 0
    balance: int = 0
    move: int = 0
    smooth: int = 0
    proofs: dict[TierName, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One stage of the cascade: who, how long, what came of it."""

    solver: str
    seconds: float
    end_reason: str
    value: Value | None  # of its best answer; None: it had none
    balance_bound_us: int
    gap: float  # of the headline tier, after this stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The best placement found, its certificate, and how it came about."""

    placement: Placement
    value: Value
    before: Value  # of the state as it is, with nobody moved or placed
    bounds: Bounds
    solver: str  # whose placement it is
    end_reason: str
    stages: tuple[StageReport, ...]


def better(problem: Problem, value: Value, than: Value) -> bool:
    """Whether `value` comes before `than` in the lexicographic order of the tiers, with their tolerances.

    Two worst latencies within `balance_tolerance` are equal, and then bytes and smoothness decide.
    """
    tiers = problem.tiers
    first = (value.repair, value.serve, value.meet if tiers.meet else 0, value.leave if tiers.leave else 0)
    second = (than.repair, than.serve, than.meet if tiers.meet else 0, than.leave if tiers.leave else 0)
    if first != second:
        return first < second
    if tiers.balance and abs(value.balance - than.balance) > tiers.balance_tolerance * max(value.balance, than.balance):
        return value.balance < than.balance
    rest = (value.move if tiers.move else 0, value.smooth if tiers.smooth else 0, value.balance)
    return rest < (than.move if tiers.move else 0, than.smooth if tiers.smooth else 0, than.balance)
