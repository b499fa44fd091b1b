"""What a round takes, as tables for compiled code: the same sums of the same numbers as `scheduler.latency`.

Decides how the batching models become one formula; must never know who takes part in a round.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduler.fleet import Fleet
from scheduler.simulation.instants import to_us

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# These numbers become part of compiled code: that `solvers.numba_kernel` is named here renews its cache when they
# change.

# Columns of RoundCosts.profile
K_CHUNK_US = 0
K_AHEAD_US = 1  # a buffer that holds so much wants no chunk
K_TARGET_US = 2
K_COLUMNS = 3


class RoundCosts(NamedTuple):
    """A round of x_k sessions per profile takes common[t, sum x] + (sum or max over k of alone[t, k, x_k]) ms."""

    alone_ms: Floats  # [type, profile, sessions]; infinite where it may not run
    common_ms: Floats  # [type, sessions]
    by_max: bool  # the largest of `alone`, not their sum
    profile: Ints  # [profile, K_*]
    runs_alone: NDArray[np.bool_]  # [type, profile]


def round_costs(fleet: Fleet, ahead_chunks: int) -> RoundCosts:
    """Types and profiles in the fleet's order."""
    types, profiles = list(fleet.gpu_types), list(fleet.profiles)
    columns = _batch_max(fleet) + 2  # an empty batch, and one beyond every table
    alone: Floats = np.zeros((len(types), len(profiles), columns))
    common: Floats = np.zeros((len(types), columns))
    present = np.arange(columns)
    for t, gpu_type in enumerate(types):
        if fleet.batching == "packed":
            cost = (fleet.packed or {}).get(gpu_type)
            common[t, 1:] = np.inf
            if cost is not None:
                common[t, 1 : cost.sessions_max + 1] = cost.fixed_ms
        elif fleet.batching == "turboserve":
            common[t] = _looked_up((fleet.crowding_ms or {}).get(gpu_type, []), columns)
        for k, name in enumerate(profiles):
            own = fleet.profiles[name]
            if fleet.batching == "grouped":
                alone[t, k] = _looked_up((own.latency_ms or {}).get(gpu_type, []), columns)
            else:
                table = own.per_session_ms if fleet.batching == "packed" else own.base_ms
                each_ms = (table or {}).get(gpu_type)
                alone[t, k, 1:] = np.inf if each_ms is None else each_ms
                if fleet.batching == "packed" and each_ms is not None:
                    alone[t, k] = each_ms * present
    profile: Ints = np.zeros((len(profiles), K_COLUMNS), np.int64)
    for k, name in enumerate(profiles):
        profile[k, K_CHUNK_US] = max(1, to_us(fleet.profiles[name].chunk_s))
        profile[k, K_AHEAD_US] = ahead_chunks * profile[k, K_CHUNK_US]
        profile[k, K_TARGET_US] = round(1000 * fleet.target_ms(name))
    runs_alone = np.isfinite(alone[:, :, 1] + common[:, None, 1])
    return RoundCosts(alone, common, fleet.batching == "turboserve", profile, runs_alone)


def _looked_up(table_ms: list[float], columns: int) -> Floats:
    row = np.full(columns, np.inf)
    row[0] = 0.0
    row[1 : len(table_ms) + 1] = table_ms
    return row


def _batch_max(fleet: Fleet) -> int:
    """The largest batch that any table speaks of."""
    if fleet.batching == "grouped":
        return max((len(t) for p in fleet.profiles.values() for t in (p.latency_ms or {}).values()), default=0)
    if fleet.batching == "packed":
        return max((cost.sessions_max for cost in (fleet.packed or {}).values()), default=0)
    return max((len(table) for table in (fleet.crowding_ms or {}).values()), default=0)
