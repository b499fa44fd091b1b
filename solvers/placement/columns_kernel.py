"""The most profitable change of a GPU at given prices, compiled: which sessions leave it and which enter.

Decides patterns of single GPUs below a level; must never know where prices come from.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solvers.numba_kernel import inner, kernel
from solvers.placement.kernel import FAR, Given, latency_of
from solvers.placement.knapsack_kernel import WIDTHS, Fillings, take_filling
from solvers.placement.problem import BoolArray, IntArray

RealArray = npt.NDArray[np.float64]

NOTHING = -1e300
OUT_MAX = 2  # sessions that leave a GPU in a pattern
FAR_ABOVE = 1e300
SLIGHT = 1e-12


class Prices(NamedTuple):
    """What a session is worth to whoever takes it, and what its migration costs."""

    arriving: RealArray  # [classes], >= 0: by migration; whoever leaves a GPU costs as much
    placing: RealArray  # [classes], >= 0: from waiting
    migrating: RealArray  # [classes], >= 0: what the budgets charge, on top


class Patterns(NamedTuple):
    """The best pattern of each group; filled in by `best_patterns`."""

    out: IntArray  # [groups, classes]
    arrived: IntArray  # [groups, classes]
    placed: IntArray  # [groups, classes]
    profit: RealArray  # [groups]: NOTHING where no pattern keeps to the level
    highest: RealArray  # [groups]: an upper bound on the profit of any pattern


class Steps(NamedTuple):
    """The least that any further session adds to f, never more than what it really adds."""

    own_us: IntArray  # [types, classes, sessions]: by its class, from so many of the class on
    shared_us: IntArray  # [types, sessions]: by the number of sessions, from so many on
    least_us: IntArray  # [types, sessions]: by any class


class Scratch(NamedTuple):
    """Memory of one search."""

    counts: IntArray  # [classes]
    order: IntArray  # [classes]: by price per microsecond
    rates: RealArray  # [classes]: that price
    rate: RealArray  # [classes]: by position in the order, that price
    rest: RealArray  # [classes]: by position in the order, the best price from there on
    path: IntArray  # [entering sessions]: positions in `order`
    arrives: BoolArray  # [entering sessions]: by migration, under the prices
    best: IntArray  # [2, classes]: arrived and placed of the dearest filling so far


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
def _worth(prices: Prices, scratch: Scratch, entered: int, in_max: int) -> float:
    """What those on the path are worth: placed all of them, but for up to `in_max` who are worth more by migration."""
    total = 0.0
    for i in range(entered):
        total += prices.placing[scratch.order[scratch.path[i]]]
        scratch.arrives[i] = False
    for _ in range(min(in_max, entered)):
        best, most = -1, 0.0
        for i in range(entered):
            k = scratch.order[scratch.path[i]]
            more = prices.arriving[k] - prices.placing[k]
            if not scratch.arrives[i] and more > most:
                best, most = i, more
        if best < 0:
            break
        scratch.arrives[best] = True
        total += most
    return total


@inner
def _rank(
    given: Given,
    gpu_type: int,
    room_us: int,
    total: int,
    enter_max: int,
    prices: Prices,
    steps: Steps,
    scratch: Scratch,
) -> None:
    """Classes by what they pay per microsecond at best, their fixed parts included, if they enter now."""
    classes = len(scratch.counts)
    last = given.alone_us.shape[2] - 1
    shared_us = steps.shared_us[gpu_type, min(total, steps.shared_us.shape[1] - 1)]
    rates = scratch.rates
    rates[:] = 0.0
    for k in range(classes):
        price = max(prices.arriving[k], prices.placing[k])
        before_us = given.alone_us[gpu_type, k, min(scratch.counts[k], last)]
        for count in range(1, enter_max + 1):
            column = scratch.counts[k] + count
            cost_us = given.alone_us[gpu_type, k, min(column, last)] - before_us + count * shared_us
            if cost_us > room_us:
                break
            rates[k] = max(rates[k], price * count / max(1, cost_us))
            if column >= last:
                break
    scratch.order[:] = np.argsort(-rates)
    best = 0.0
    for position in range(classes - 1, -1, -1):
        k = scratch.order[position]
        scratch.rate[position] = rates[k]
        if rates[k] > 0:
            best = max(best, max(prices.arriving[k], prices.placing[k]))
        scratch.rest[position] = best


@inner
def _fill(
    given: Given, gpu_type: int, level_us: int, free_mib: int, enter_max: int, in_max: int, prices: Prices,
    steps: Steps, nodes_max: int, scratch: Scratch
) -> tuple[float, float]:  # fmt: skip
    """The dearest multiset that may enter a GPU that holds `scratch.counts`; its worth and an upper bound on any.

    Depth first over classes by price per microsecond. A branch is cut off where the rest of the level cannot pay: not
    at the best rate of the classes that are left, and not as so many whole sessions at their best price. After
    `nodes_max` steps what is left counts by that bound alone.
    """
    counts, order, path = scratch.counts, scratch.order, scratch.path
    classes = len(counts)
    last = steps.shared_us.shape[1] - 1
    scratch.best[:] = 0
    most, highest, worth = 0.0, 0.0, 0.0
    position, entered, nodes = 0, 0, 0
    total = counts.sum()
    room_us = level_us - latency_of(given, gpu_type, counts)
    _rank(given, gpu_type, room_us, total, enter_max, prices, steps, scratch)
    while True:
        descended = False
        while position < classes and entered < enter_max:
            k = order[position]
            rate = scratch.rate[position]
            if entered > 0 and path[entered - 1] == position:  # of a class that is there, the next one costs less
                own_us = steps.own_us[gpu_type, k, min(counts[k], steps.own_us.shape[2] - 1)]
                step_us = max(1, own_us + steps.shared_us[gpu_type, min(total, last)])
                rate = max(rate, max(prices.arriving[k], prices.placing[k]) / step_us)
            whole = room_us // max(1, steps.least_us[gpu_type, min(total, last)])
            more = min(room_us * rate, whole * scratch.rest[position])
            if worth + more <= most + SLIGHT:
                break
            if nodes >= nodes_max:
                highest = max(highest, worth + more)
                break
            if given.state_mib[k] <= free_mib:
                counts[k] += 1
                nodes += 1
                after_us = _kept(given, gpu_type, counts, level_us)
                if after_us < FAR:
                    free_mib -= given.state_mib[k]
                    room_us = level_us - after_us
                    path[entered] = position
                    entered += 1
                    total += 1
                    worth = _worth(prices, scratch, entered, in_max)
                    if worth > most:
                        most = worth
                        scratch.best[:] = 0
                        for i in range(entered):
                            scratch.best[0 if scratch.arrives[i] else 1, order[path[i]]] += 1
                    descended = True
                    break
                counts[k] -= 1
            position += 1
        if descended:
            continue
        if entered == 0:
            return most, max(most, highest)
        entered -= 1
        total -= 1
        position = path[entered]
        k = order[position]
        counts[k] -= 1
        free_mib += given.state_mib[k]
        worth = _worth(prices, scratch, entered, in_max)
        room_us = level_us - latency_of(given, gpu_type, counts)
        position += 1


@inner
def _let_go(given: Given, gpu: int, first: int, second: int, prices: Prices, counts: IntArray) -> float:
    """Sets counts to what is left when `first` and `second` (-1: nobody) leave; what that costs."""
    counts[:] = given.running[gpu]
    cost = 0.0
    if first >= 0:
        counts[first] -= 1
        cost += prices.arriving[first] + prices.migrating[first]
    if second >= 0:
        counts[second] -= 1
        cost += prices.arriving[second] + prices.migrating[second]
    return cost


@inner
def _try_leaving(
    given: Given, gpu: int, level_us: int, free_mib: int, enter_max: int, prices: Prices, steps: Steps,
    nodes_max: int, dearest: float, first: int, second: int, group: int, patterns: Patterns, scratch: Scratch
) -> None:  # fmt: skip
    """The best pattern of a group in which `first` and `second` (-1: nobody) leave, if it beats the best so far."""
    gpu_type = given.gpu_type[gpu]
    cost = _let_go(given, gpu, first, second, prices, scratch.counts)
    latency_us = _kept(given, gpu_type, scratch.counts, level_us)
    if latency_us == FAR:
        return
    least_us = steps.least_us[gpu_type, min(scratch.counts.sum(), steps.least_us.shape[1] - 1)]
    if (level_us - latency_us) // max(1, least_us) * dearest - cost <= patterns.profit[group]:
        return
    value, bound = _fill(
        given, gpu_type, level_us, free_mib, enter_max, given.in_max[gpu], prices, steps, nodes_max, scratch
    )
    patterns.highest[group] = max(patterns.highest[group], bound - cost)
    if value - cost > patterns.profit[group]:
        patterns.profit[group] = value - cost
        patterns.arrived[group] = scratch.best[0]
        patterns.placed[group] = scratch.best[1]
        patterns.out[group] = 0
        if first >= 0:
            patterns.out[group, first] += 1
        if second >= 0:
            patterns.out[group, second] += 1


@inner
def _look_up(
    given: Given, gpu: int, level_us: int, free_mib: int, takes: int, prices: Prices, rooms: Fillings, group: int,
    patterns: Patterns, scratch: Scratch
) -> bool:  # fmt: skip
    """The best pattern of a group where sessions add up; False if what is dearest may not enter for another reason.

    `highest` is set in any case: what is left out only makes fillings dearer.
    """
    gpu_type = given.gpu_type[gpu]
    running = given.running[gpu]
    classes = len(running)
    arrivals = min(given.in_max[gpu], rooms.upper.shape[1] - 1)
    best_first, best_second, best_room = -2, -2, 0
    for first in range(-1, classes):
        if first >= 0 and (running[first] == 0 or given.out_max[gpu] < 1):
            continue
        for second in range(-1, classes):
            if second >= 0 and (first < 0 or second < first or given.out_max[gpu] < OUT_MAX):
                continue
            if second >= 0 and running[second] <= (1 if second == first else 0):
                continue
            cost = _let_go(given, gpu, first, second, prices, scratch.counts)
            latency_us = _kept(given, gpu_type, scratch.counts, level_us)
            if latency_us == FAR:
                continue
            room_us = level_us - (latency_us if latency_us > 0 else given.common_us[gpu_type, 1])
            if takes == 0 or room_us < 0:
                room_us = 0
            upper = rooms.upper[gpu_type, arrivals, min(-(-room_us // rooms.width_us), WIDTHS)]
            lower = rooms.lower[gpu_type, arrivals, min(room_us // rooms.width_us, WIDTHS)]
            patterns.highest[group] = max(patterns.highest[group], upper - cost)
            if lower - cost > patterns.profit[group]:
                patterns.profit[group] = lower - cost
                best_first, best_second, best_room = first, second, room_us
    if best_first == -2:
        return True
    take_filling(rooms, gpu_type, arrivals, best_room, scratch.best)
    _let_go(given, gpu, best_first, best_second, prices, scratch.counts)
    entered_mib = 0
    for k in range(classes):
        more = scratch.best[0, k] + scratch.best[1, k]
        scratch.counts[k] += more
        entered_mib += more * given.state_mib[k]
    if entered_mib > free_mib or _kept(given, gpu_type, scratch.counts, level_us) == FAR:
        return False
    patterns.arrived[group] = scratch.best[0]
    patterns.placed[group] = scratch.best[1]
    patterns.out[group] = 0
    if best_first >= 0:
        patterns.out[group, best_first] += 1
    if best_second >= 0:
        patterns.out[group, best_second] += 1
    return True


@kernel
def best_patterns(
    given: Given, gpu_of_group: IntArray, level_us: int, enter_max: IntArray, prices: Prices, steps: Steps,
    nodes_max: int, rooms: Fillings, patterns: Patterns, deep: bool, groups_from: int, groups_to: int
) -> None:  # fmt: skip
    """For each of some groups of equal GPUs the pattern with the highest profit among those that keep to the level.

    profit = what enters at its prices - what leaves at the price of arriving and of its migration. At most `OUT_MAX`
    sessions leave, and at most `enter_max` [groups] enter. `rooms` has no types where sessions do not add up;
    what it leaves open is searched for if `deep`.
    """
    classes = len(prices.arriving)
    longest = enter_max.max() + 1
    scratch = Scratch(
        np.zeros(classes, np.int64),
        np.zeros(classes, np.int64),
        np.zeros(classes),
        np.zeros(classes),
        np.zeros(classes),
        np.zeros(longest, np.int64),
        np.zeros(longest, np.bool_),
        np.zeros((2, classes), np.int64),
    )
    dearest = np.maximum(prices.arriving, prices.placing).max()
    for group in range(groups_from, groups_to):
        gpu = gpu_of_group[group]
        patterns.profit[group] = NOTHING
        patterns.highest[group] = NOTHING
        running = given.running[gpu]
        free_mib = given.memory_mib[gpu] - (running * given.state_mib).sum()
        takes = enter_max[group] if given.receives[gpu] else 0
        known = FAR_ABOVE
        if rooms.upper.shape[0] > 0:
            found = _look_up(given, gpu, level_us, free_mib, takes, prices, rooms, group, patterns, scratch)
            known = patterns.highest[group]
            if found and (known <= patterns.profit[group] + SLIGHT or not deep):
                continue
            if not found:
                patterns.profit[group] = NOTHING
            patterns.highest[group] = NOTHING
        _try_leaving(
            given, gpu, level_us, free_mib, takes, prices, steps, nodes_max, dearest, -1, -1, group, patterns, scratch
        )
        for first in range(classes):
            if running[first] == 0 or given.out_max[gpu] < 1:
                continue
            _try_leaving(
                given,
                gpu,
                level_us,
                free_mib,
                takes,
                prices,
                steps,
                nodes_max,
                dearest,
                first,
                -1,
                group,
                patterns,
                scratch,
            )
            for second in range(first, classes):
                enough = running[second] > (1 if second == first else 0)
                if enough and given.out_max[gpu] >= OUT_MAX:
                    _try_leaving(
                        given,
                        gpu,
                        level_us,
                        free_mib,
                        takes,
                        prices,
                        steps,
                        nodes_max,
                        dearest,
                        first,
                        second,
                        group,
                        patterns,
                        scratch,
                    )
        patterns.highest[group] = min(patterns.highest[group], known)
