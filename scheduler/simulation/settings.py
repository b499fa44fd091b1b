"""How a simulation goes about: pacing, early steps, faults, what is recorded.

Decides names, defaults and meaning of what may be set; must never know a policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PlanTime = Literal["stated", "measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A GPU is lost at an instant: the `draw`-th (modulo how many there are) that is paid, in the fleet's order."""

    at_s: float
    draw: int
    repair_s: float  # until it may be started again


@dataclass(frozen=True, slots=True, kw_only=True)
class Straggler:
    """A GPU's rounds take `factor` times as long for a while; who it is, as for a `Failure`."""

    at_s: float
    draw: int
    factor: float  # > 1
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """Equal settings, trace, fleet, policy and seed give equal runs, unless plan times are measured."""

    ahead_chunks: int = 2  # a session whose buffer holds so many takes no part in a round
    early_spacing_s: float = 0.25  # least time from one step to the next early one
    plan_time: PlanTime = "stated"  # how long a plan takes to compute: as the policy states, or as measured
    faults: tuple[Failure | Straggler, ...] = ()  # by time
    rounds: bool = False  # whether the table of rounds is kept
    seed: int = 0  # told in the summary; whoever draws faults, traces or choices draws them from it
