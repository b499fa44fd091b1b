"""What a policy is: whoever turns a snapshot of the fleet into a plan, ours or anybody's.

Decides what is asked and answered in a step; must never know who asks, or how a plan is carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scheduler.cluster import Snapshot
from scheduler.plan import Decision
from solvers.placement.meter import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one step may cost: seconds by a clock, or units of work where steps must repeat (see `Meter`).

    An `early` step comes between two epoch boundaries because somebody waits: it places, resumes and makes room for
    them. Migrations and the GPU count are decided at epoch boundaries, whose budgets they have.
    """

    seconds: float = 0.0
    clock: Callable[[], float] | None = None
    work: int | None = None
    early: bool = False

    def meter(self) -> Meter:
        return Meter(clock=self.clock, seconds=self.seconds, work=self.work)


class Policy(Protocol):
    """One verb, live, in simulation and in benchmarks alike.

    A policy may remember what it has seen in earlier steps; equal sequences of snapshots, times and budgets of work
    must give equal decisions.
    """

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A policy ready to run on one fleet and trace, and what has to be said about it."""

    name: str
    policy: Policy
    planning_s: float  # stated time from a snapshot until its plan takes effect, in runs that repeat
    gpus_at_start: Mapping[str, int] = field(default_factory=dict)  # GPU type -> usable at 0, with `gpus_min`
    work: int = 100  # of the budget of a step at an epoch boundary, in runs that repeat
    work_early: int = 5
