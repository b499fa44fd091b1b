"""Separate pools: every class on GPUs of its own, which always works where each pool can hold its own peak.

Decides a plain, valid schedule without any mixing or migration; must never know prices beyond their order.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from solvers.contents import ContentTable
from solvers.offline_problem import NEVER_ON, OfflineProblem
from solvers.sweep import Pieces


def dedicated_pieces(problem: OfflineProblem, tables: Sequence[ContentTable]) -> Pieces:
    """Every class takes GPUs for itself, cheapest per session first, as many as its own peak needs; no migration.

    Within a class each period goes to the first of its GPUs that has a free place. `tables` hold on-time contents.
    Periods that find no GPU, or that have a home elsewhere, are unserved.
    """
    capacity = _capacities(problem, tables)
    free = [list(np.flatnonzero(problem.gpu_type == t)) for t in range(len(tables))]
    gpu = np.full(problem.periods, -1, dtype=np.int32)
    for k in np.argsort(-capacity.max(axis=0) / np.maximum(capacity.min(axis=0), 1), kind="stable"):
        mine = np.flatnonzero((problem.class_index == k) & (problem.home < 0))
        peak = _peak(problem.start_us[mine], problem.end_us[mine])
        places: list[int] = []  # one entry per place, GPU by GPU
        order = sorted(
            (t for t in range(len(tables)) if capacity[t, k] > 0),
            key=lambda t: (problem.price_per_hour[t] / capacity[t, k], t),
        )
        for t in order:
            while free[t] and len(places) < peak:
                places += [int(free[t].pop(0))] * int(capacity[t, k])
        gpu[mine] = _first_fit(problem, mine, places)
    served = np.flatnonzero(gpu >= 0)
    return Pieces(
        period=served.astype(np.int32),
        gpu=gpu[served],
        start_us=problem.start_us[served],
        end_us=problem.end_us[served],
    )


def _capacities(problem: OfflineProblem, tables: Sequence[ContentTable]) -> npt.NDArray[np.int64]:
    """The most sessions of one class alone on one GPU of each type, on time [types, classes]."""
    capacity = np.zeros((len(tables), problem.classes), dtype=np.int64)
    for t, table in enumerate(tables):
        alone = (table.counts > 0).sum(axis=1) <= 1
        capacity[t] = table.counts[alone].max(axis=0)
    return capacity


def _peak(start_us: npt.NDArray[np.int64], end_us: npt.NDArray[np.int64]) -> int:
    active = np.arange(1, len(start_us) + 1) - np.searchsorted(np.sort(end_us), start_us, side="right")
    return int(active.max(initial=0))


def _first_fit(problem: OfflineProblem, mine: npt.NDArray[np.int64], places: list[int]) -> npt.NDArray[np.int32]:
    """The lowest free place for each period in the order of their starts; -1 where there is none."""
    free = list(range(len(places)))
    busy: list[tuple[int, int]] = []  # (end, place)
    chosen = np.full(len(mine), -1, dtype=np.int32)
    soonest_us = problem.soonest_on_us
    for index, period in enumerate(mine):
        start_us = int(problem.start_us[period])
        while busy and busy[0][0] <= start_us:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            continue
        place = free[0]
        gpu = places[place]
        on_us = problem.gpu_on_us[gpu]
        ready_us = (soonest_us[gpu] if on_us == NEVER_ON else on_us) + problem.startup_us[problem.gpu_type[gpu]]
        if ready_us > start_us:
            continue
        heapq.heappop(free)
        heapq.heappush(busy, (int(problem.end_us[period]), place))
        chosen[index] = gpu
    return chosen
