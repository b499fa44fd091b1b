"""What the GPU types of a fleet hold on time, prepared for counting GPUs.

Decides which profiles count and how finely; must never know demand, time or single GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scheduler.fleet import Fleet
from scheduler.formulate_offline import type_limits
from solvers.capacity import Capacity
from solvers.coarse_capacity import CoarseCapacity
from solvers.contents import TooManyContentsError, enumerate_contents, most_alone

CONTENTS_MAX = 50_000  # of one GPU type; enumerating them takes a few tenths of a second
PATTERNS_MAX = 5_000  # contents that admit nobody more, of all types; each is a column of the configuration LP

Holding = Capacity | CoarseCapacity


def runnable(fleet: Fleet, gpu_types: Sequence[str], profiles: Sequence[str]) -> tuple[str, ...]:
    """Profiles that run somewhere at all, late or not; no number of GPUs helps the others."""
    late = (math.inf,) * len(profiles)
    runs = np.stack([most_alone(type_limits(fleet, t, profiles), late) for t in gpu_types]).max(axis=0) > 0
    return tuple(p for p, fine in zip(profiles, runs, strict=True) if fine)


def coarse_capacity(fleet: Fleet, gpu_types: Sequence[str], profiles: Sequence[str]) -> CoarseCapacity:
    """As if every profile had GPUs of its own; takes microseconds."""
    targets = _targets_ms(fleet, gpu_types, profiles)
    return CoarseCapacity(np.stack([most_alone(type_limits(fleet, t, profiles), targets) for t in gpu_types]))


def capacity_of(fleet: Fleet, gpu_types: Sequence[str], profiles: Sequence[str], prices: Sequence[int]) -> Holding:
    """Every mix of profiles where there are not too many of them, the coarse rule otherwise."""
    targets = _targets_ms(fleet, gpu_types, profiles)
    try:
        tables = [
            enumerate_contents(type_limits(fleet, t, profiles), targets, allow_late=False, contents_max=CONTENTS_MAX)
            for t in gpu_types
        ]
    except TooManyContentsError:
        return coarse_capacity(fleet, gpu_types, profiles)
    if sum(len(table.maximal()) for table in tables) > PATTERNS_MAX:
        return coarse_capacity(fleet, gpu_types, profiles)
    return Capacity(tables, prices)


def _targets_ms(fleet: Fleet, gpu_types: Sequence[str], profiles: Sequence[str]) -> tuple[float, ...]:
    """A profile that is late on every type, even alone, counts as it runs."""
    targets = tuple(fleet.target_ms(p) for p in profiles)
    alone = np.stack([most_alone(type_limits(fleet, t, profiles), targets) for t in gpu_types]).max(axis=0)
    return tuple(target if most else math.inf for target, most in zip(targets, alone, strict=True))
