"""How long a batch round takes: f_g of a GPU's content, for each batching model.

Decides the chunk latency that all active sessions of one GPU share; must never know a session, a time or a transfer.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from scheduler.fleet import Fleet

Counts = NDArray[np.integer]
Milliseconds = NDArray[np.float64]


def chunk_latency_ms(fleet: Fleet, gpu_type: str, counts: Counts) -> Milliseconds:
    """f_g in milliseconds of each row of `counts` on a GPU of `gpu_type`.

    `counts` is [m, profiles]: active sessions per profile, in the order of `fleet.profiles`. The result is [m]: 0 where
    the GPU is empty, infinity where the content cannot run (a profile without figures for this type, or more sessions
    than its tables hold). Memory is not looked at. Raises `KeyError` for an unknown GPU type.
    """
    fleet.gpu_types[gpu_type]
    assert counts.ndim == 2, "one row per content"
    assert counts.shape[1] == len(fleet.profiles), "one column per profile"
    match fleet.batching:
        case "grouped":
            return _grouped(fleet, gpu_type, counts)
        case "packed":
            return _packed(fleet, gpu_type, counts)
        case "turboserve":
            return _turboserve(fleet, gpu_type, counts)
        case _:
            assert_never(fleet.batching)


def chunk_latency_ms_mixed(fleet: Fleet, type_index: NDArray[np.integer], counts: Counts) -> Milliseconds:
    """As `chunk_latency_ms`, each row on its own type, an index [m] into `fleet.gpu_types`."""
    latency_ms = np.zeros(len(counts))
    for index, gpu_type in enumerate(fleet.gpu_types):
        rows = np.flatnonzero(type_index == index)
        latency_ms[rows] = chunk_latency_ms(fleet, gpu_type, counts[rows])
    return latency_ms


def seats(fleet: Fleet, gpu_type: str) -> NDArray[np.int64]:
    """Most sessions of one profile alone that a GPU of this type holds in memory and advances within their target.

    One number per profile, in the fleet's order; 0 where not even one session is on time.
    """
    free_gib = fleet.gpu_types[gpu_type].memory_gib - fleet.gpu_types[gpu_type].weights_gib
    found = np.zeros(len(fleet.profiles), np.int64)
    for index, (name, profile) in enumerate(fleet.profiles.items()):
        batch_max = min(_batch_max(fleet, gpu_type, name), int(free_gib / profile.state_gib + 1e-9))
        alone = np.zeros((batch_max, len(fleet.profiles)), np.int64)
        alone[:, index] = np.arange(1, batch_max + 1)
        found[index] = np.count_nonzero(chunk_latency_ms(fleet, gpu_type, alone) <= fleet.target_ms(name))
    return found


def _grouped(fleet: Fleet, gpu_type: str, counts: Counts) -> Milliseconds:
    """sum_k l[k, t][x_k]: one batch per profile present, one after another."""
    total = np.zeros(len(counts))
    for index, profile in enumerate(fleet.profiles.values()):
        total += _looked_up((profile.latency_ms or {}).get(gpu_type, []), counts[:, index])
    return total


def _packed(fleet: Fleet, gpu_type: str, counts: Counts) -> Milliseconds:
    """a_t + sum_k b[k, t] * x_k, 0 if empty: one token-packed forward."""
    cost = (fleet.packed or {}).get(gpu_type)
    sessions = counts.sum(axis=1)
    if cost is None:
        return np.where(sessions > 0, np.inf, 0.0)
    total = np.full(len(counts), cost.fixed_ms)
    for index, profile in enumerate(fleet.profiles.values()):
        each_ms = (profile.per_session_ms or {}).get(gpu_type)
        present = counts[:, index]
        total += np.where(present > 0, np.inf, 0.0) if each_ms is None else each_ms * present
    total[sessions > cost.sessions_max] = np.inf
    total[sessions == 0] = 0.0
    return total


def _turboserve(fleet: Fleet, gpu_type: str, counts: Counts) -> Milliseconds:
    """max over profiles present of W[k, t], plus H[t][n] for n sessions on the GPU."""
    base = np.zeros(len(counts))
    for index, profile in enumerate(fleet.profiles.values()):
        base_ms = (profile.base_ms or {}).get(gpu_type, np.inf)
        base = np.maximum(base, np.where(counts[:, index] > 0, base_ms, 0.0))
    return base + _looked_up((fleet.crowding_ms or {}).get(gpu_type, []), counts.sum(axis=1))


def _looked_up(table_ms: list[float], count: Counts) -> Milliseconds:
    """The table's entry for a batch of `count` (1 is the first); 0 for none, infinity beyond its end."""
    padded = np.array([0.0, *table_ms, np.inf])
    found: Milliseconds = padded[np.minimum(count, len(table_ms) + 1)]
    return found


def _batch_max(fleet: Fleet, gpu_type: str, profile: str) -> int:
    """How many sessions of one profile alone the tables of this type speak of."""
    own = fleet.profiles[profile]
    match fleet.batching:
        case "grouped":
            return len((own.latency_ms or {}).get(gpu_type, []))
        case "packed":
            cost = (fleet.packed or {}).get(gpu_type)
            return 0 if cost is None else cost.sessions_max
        case "turboserve":
            return len((fleet.crowding_ms or {}).get(gpu_type, []))
        case _:
            assert_never(fleet.batching)
