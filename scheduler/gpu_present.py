"""How many GPUs hold what is wanted right now, for when there is no time to look ahead.

Decides counts per type that never go down, in microseconds; must never know forecasts or single GPUs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scheduler.cluster import Snapshot
from scheduler.fleet import Fleet
from scheduler.gpu_ahead import wanted_now
from scheduler.gpu_capacity import coarse_capacity, runnable

IntArray = npt.NDArray[np.int64]


def hold_present(snapshot: Snapshot, fleet: Fleet, gpu_types: Sequence[str]) -> tuple[IntArray, IntArray]:
    """GPUs to take back from draining and to start, by type; none unless somebody waits.

    As if every profile had GPUs of its own. Draining GPUs come back first, then those start that hold most per price.
    """
    taken_back, starts = np.zeros((2, len(gpu_types)), np.int64)
    now = wanted_now(snapshot)
    profiles = runnable(fleet, gpu_types, [p for p in fleet.profiles if now[p]])
    here = (s for session_id, s in snapshot.sessions.items() if session_id not in snapshot.moves)
    waiting = {session.profile for session in here if session.status == "waiting"}
    if not waiting.intersection(profiles):
        return taken_back, starts
    capacity = coarse_capacity(fleet, gpu_types, profiles)
    demand = np.array([now[p] for p in profiles], np.float64)
    count = Counter((gpu.gpu_type, gpu.status) for gpu in snapshot.gpus.values())
    on, draining, off = (
        np.array([sum(count[t, status] for status in statuses) for t in gpu_types], np.int64)
        for statuses in (("ready", "starting"), ("draining",), ("off",))
    )
    price = np.array([fleet.gpu_types[t].price_per_hour for t in gpu_types])
    for step, free in ((taken_back, draining), (starts, off)):
        while True:
            gpus = (on + taken_back + starts).astype(np.float64)
            row = capacity.violated(demand, gpus, within=step < free)
            if row is None:
                break
            worth = np.where(step < free, np.array(row.limit), 0.0)
            best = int(np.where(worth > 0, price / np.maximum(worth, 1e-9), np.inf).argmin())
            missing = capacity.missing(row, demand, gpus)
            step[best] += min(int(free[best] - step[best]), max(1, int(np.ceil(missing / worth[best] - 1e-7))))
    return taken_back, starts
