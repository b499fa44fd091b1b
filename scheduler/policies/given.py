"""What a policy is made from.

Decides what every policy may know beforehand; must never know a policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scheduler.fleet import Fleet
from scheduler.offline_plan import OfflinePlan
from scheduler.policies.parameters import PolicySettings
from scheduler.policy import Policy, Prepared
from traces.trace import Trace

PLANNING_S = 0.01  # stated for every heuristic: they take less than that, and messages take time as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The trace is for sizing (an operator's guess) and for who plans with hindsight; others never see demand ahead."""

    name: str
    fleet: Fleet
    trace: Trace
    seed: int
    clock: Callable[[], float] | None  # monotonic seconds; None: what is prepared must repeat
    plan: OfflinePlan | None  # of this trace, where it is known already

    def heuristic(self, policy: Policy, gpus_at_start: dict[str, int]) -> Prepared:
        return Prepared(name=self.name, policy=policy, planning_s=PLANNING_S, gpus_at_start=gpus_at_start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A policy's settings and how it is made from them."""

    settings: type[PolicySettings]
    build: Callable[[Given, Any], Prepared]
