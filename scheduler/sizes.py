"""Sizes of states and memories in the whole numbers that everybody counts in.

Decides how GiB become MiB, states upward and memories downward; must never know who occupies what.
"""

from __future__ import annotations

import math

from scheduler.cluster import NodeId
from scheduler.fleet import Fleet

MIB_PER_GIB = 1024
_SLACK_MIB = 1e-6  # sums and products of decimals are not exact


def state_mib(fleet: Fleet, profile: str) -> int:
    """What one session's state takes, rounded up."""
    return max(1, math.ceil(fleet.profiles[profile].state_gib * MIB_PER_GIB - _SLACK_MIB))


def state_bytes(fleet: Fleet, profile: str) -> int:
    """What one session's state takes on a link."""
    return round(fleet.profiles[profile].state_gib * 2**30)


def room_mib(fleet: Fleet, gpu_type: str) -> int:
    """Memory of a GPU for states, weights taken off, rounded down."""
    own = fleet.gpu_types[gpu_type]
    return math.floor((own.memory_gib - own.weights_gib) * MIB_PER_GIB + _SLACK_MIB)


def host_room_mib(fleet: Fleet, node: NodeId) -> int | None:
    """Host memory of a node for states; None: unlimited."""
    pool, _, _ = node.partition("/")
    host_gib = fleet.pools[int(pool)].host_memory_gib
    return None if host_gib is None else math.floor(host_gib * MIB_PER_GIB + _SLACK_MIB)
