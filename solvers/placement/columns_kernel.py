"""The most profitable change of a GPU at given prices, compiled: which sessions leave it and which enter.

Decides patterns of single GPUs below a level; must never know where prices come from.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solvers.numba_kernel import inner, kernel
from solvers.placement.kernel import FAR, Given, latency_of
from solvers.placement.problem import IntArray

RealArray = npt.NDArray[np.float64]

NODES_MAX = 400  # of the search for the best filling of a GPU; beyond, its upper bound stands in for the value
NOTHING = -1e300
OUT_MAX = 2  # sessions that leave a GPU in a pattern
SLIGHT = 1e-12


class Prices(NamedTuple):
    """What a session is worth to whoever takes it, and what its migration costs."""

    entering: RealArray  # [classes], >= 0
    migrating: RealArray  # [classes], >= 0, on top of what it takes to place it elsewhere


class Patterns(NamedTuple):
    """The best pattern of each group; filled in by `best_patterns`."""

    out: IntArray  # [groups, classes]
    entering: IntArray  # [groups, classes]
    profit: RealArray  # [groups]: NOTHING where no pattern keeps to the level
    highest: RealArray  # [groups]: an upper bound on the profit of any pattern


class Scratch(NamedTuple):
    """Memory of one search."""

    counts: IntArray  # [classes]
    entering: IntArray  # [classes]
    filling: IntArray  # [classes]: the best so far
    order: IntArray  # [classes]: by price per microsecond
    path: IntArray  # [entering sessions]: positions in `order`


@inner
def _kept(given: Given, gpu_type: int, counts: IntArray, level_us: int) -> int:
    """f of `counts`; FAR where it is above the level or above the target of a class in it."""
    latency_us = latency_of(given, gpu_type, counts)
    if latency_us > level_us:
        return FAR
    for k in range(counts.shape[0]):
        if counts[k] > 0 and latency_us > given.target_us[k]:
            return FAR
    return latency_us


@inner
def _fill(
    given: Given, gpu_type: int, level_us: int, free_mib: int, enter_max: int, price: RealArray, step_us: IntArray,
    scratch: Scratch
) -> tuple[float, float]:  # fmt: skip
    """The dearest multiset that may enter a GPU that holds `scratch.counts`; its price and an upper bound on any.

    Depth first over classes by price per microsecond, cut off where the rest of the level at the best rate cannot pay.
    `step_us` [classes]: the least that one session more adds to f.
    """
    counts, entering, order, path = scratch.counts, scratch.entering, scratch.order, scratch.path
    classes = len(price)
    scratch.filling[:] = 0
    entering[:] = 0
    most, highest, value = 0.0, 0.0, 0.0
    position, entered, nodes = 0, 0, 0
    room_us = level_us - latency_of(given, gpu_type, counts)
    while True:
        descended = False
        while position < classes and entered < enter_max:
            k = order[position]
            if price[k] <= 0 or value + room_us * (price[k] / step_us[k]) <= most + SLIGHT:
                break
            if nodes >= NODES_MAX:
                highest = max(highest, value + room_us * (price[k] / step_us[k]))
                break
            if given.state_mib[k] <= free_mib and step_us[k] <= room_us:
                counts[k] += 1
                nodes += 1
                after_us = _kept(given, gpu_type, counts, level_us)
                if after_us < FAR:
                    entering[k] += 1
                    value += price[k]
                    free_mib -= given.state_mib[k]
                    room_us = level_us - after_us
                    path[entered] = position
                    entered += 1
                    if value > most:
                        most = value
                        scratch.filling[:] = entering
                    descended = True
                    break
                counts[k] -= 1
            position += 1
        if descended:
            continue
        if entered == 0:
            return most, max(most, highest)
        entered -= 1
        position = path[entered]
        k = order[position]
        counts[k] -= 1
        entering[k] -= 1
        value -= price[k]
        free_mib += given.state_mib[k]
        room_us = level_us - latency_of(given, gpu_type, counts)
        position += 1


@inner
def _try_leaving(
    given: Given, gpu: int, level_us: int, free_mib: int, enter_max: int, prices: Prices, step_us: IntArray,
    first: int, second: int, group: int, patterns: Patterns, scratch: Scratch
) -> None:  # fmt: skip
    """The best pattern of a group in which `first` and `second` (-1: nobody) leave, if it beats the best so far."""
    gpu_type = given.gpu_type[gpu]
    scratch.counts[:] = given.running[gpu]
    cost = 0.0
    if first >= 0:
        scratch.counts[first] -= 1
        cost += prices.entering[first] + prices.migrating[first]
    if second >= 0:
        scratch.counts[second] -= 1
        cost += prices.entering[second] + prices.migrating[second]
    if _kept(given, gpu_type, scratch.counts, level_us) == FAR:
        return
    value, bound = _fill(given, gpu_type, level_us, free_mib, enter_max, prices.entering, step_us, scratch)
    patterns.highest[group] = max(patterns.highest[group], bound - cost)
    if value - cost > patterns.profit[group]:
        patterns.profit[group] = value - cost
        patterns.entering[group] = scratch.filling
        patterns.out[group] = 0
        if first >= 0:
            patterns.out[group, first] += 1
        if second >= 0:
            patterns.out[group, second] += 1


@kernel
def best_patterns(
    given: Given, gpu_of_group: IntArray, level_us: int, enter_max: IntArray, prices: Prices, step_us: IntArray,
    patterns: Patterns
) -> None:  # fmt: skip
    """For each group of equal GPUs the pattern with the highest profit among those that keep to the level.

    profit = sum entering * price - sum out * (price + its migration). At most `OUT_MAX` sessions leave, and at most
    `enter_max` [groups] enter. `step_us` [types, classes]: the least that one session more adds to f.
    """
    classes = len(prices.entering)
    scratch = Scratch(
        np.zeros(classes, np.int64),
        np.zeros(classes, np.int64),
        np.zeros(classes, np.int64),
        np.zeros(classes, np.int64),
        np.zeros(enter_max.max() + 1, np.int64),
    )
    for group in range(len(gpu_of_group)):
        gpu = gpu_of_group[group]
        steps = step_us[given.gpu_type[gpu]]
        scratch.order[:] = np.argsort(-prices.entering / steps)
        patterns.profit[group] = NOTHING
        patterns.highest[group] = NOTHING
        running = given.running[gpu]
        free_mib = given.memory_mib[gpu] - (running * given.state_mib).sum()
        takes = enter_max[group] if given.receives[gpu] else 0
        _try_leaving(
            given, gpu, level_us, free_mib, takes, prices, steps, -1, -1, group, patterns, scratch
        )
        for first in range(classes):
            if running[first] == 0 or given.out_max[gpu] < 1:
                continue
            _try_leaving(
                given, gpu, level_us, free_mib, takes, prices, steps, first, -1, group, patterns, scratch
            )
            for second in range(first, classes):
                enough = running[second] > (1 if second == first else 0)
                if enough and given.out_max[gpu] >= OUT_MAX:
                    _try_leaving(
                        given, gpu, level_us, free_mib, takes, prices, steps, first, second, group, patterns, scratch
                    )
