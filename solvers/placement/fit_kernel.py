"""Fitting everybody below a level: the compiled repair that greedy placement and local search share.

Decides who leaves a GPU that is above the level and where everybody finds room, by insertion and by making room; must
never know which level is wanted, or why.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solvers.numba_kernel import inner, kernel
from solvers.placement.kernel import (
    FAR,
    Given,
    State,
    add_arrived,
    add_placed,
    latency_of,
    may_arrive,
    may_leave,
    may_place,
    take_out,
    take_placed,
)
from solvers.placement.problem import IntArray

RealArray = npt.NDArray[np.float64]

FITTED, STUCK, GOING = 1, 0, 2
UNKNOWN = -1
TABU_LEAST, TABU_SPREAD = 5, 10  # insertions during which a class does not come back to where it made room


class Level(NamedTuple):
    """What every GPU has to keep to, and what may be spent."""

    limit_us: int
    on_time: bool  # every target has to be met, too
    moves_max: int
    moved_mib_max: int
    noise: float  # 0: the same greedy choice always


class Pool(NamedTuple):
    """Sessions that are on no GPU."""

    migrating: IntArray  # [classes]
    waiting: IntArray  # [classes]
    spent: IntArray  # [2]: migrations, MiB
    tabu_until: IntArray  # [gpus, classes]: step before which the class does not come back
    direct: IntArray  # [classes]: GPUs that would take one more just now
    entry_us: IntArray  # [2, gpus, classes]: f once one more is there (waiting, migrating), FAR: may not; UNKNOWN


@inner
def _within(given: Given, state: State, level: Level, gpu: int, latency_us: int) -> bool:
    """Whether the level holds on a GPU whose counts are up to date and whose f would be `latency_us`."""
    if latency_us > level.limit_us:
        return False
    if level.on_time:
        for k in range(given.target_us.shape[0]):
            if state.arrived[gpu, k] > 0:
                if latency_us + given.transfer_us[k] > given.target_us[k]:
                    return False
            elif state.after[gpu, k] > 0 and latency_us > given.target_us[k]:
                return False
    return True


@inner
def _within_after(given: Given, state: State, level: Level, gpu: int, enters: int, migrating: bool) -> int:
    """f of a GPU once a session of class `enters` (-1: none) is there; FAR where the level would not hold."""
    arrives = False
    if enters >= 0:
        arrives = migrating and state.out[gpu, enters] == 0
        state.after[gpu, enters] += 1
        if arrives:
            state.arrived[gpu, enters] += 1
    latency_us = latency_of(given, given.gpu_type[gpu], state.after[gpu])
    holds = _within(given, state, level, gpu, latency_us)
    if enters >= 0:
        state.after[gpu, enters] -= 1
        if arrives:
            state.arrived[gpu, enters] -= 1
    return latency_us if holds else FAR


@inner
def _entry(given: Given, state: State, pool: Pool, level: Level, gpu: int, k: int, migrating: bool) -> int:
    """f of a GPU once one of class k is there, FAR where it may not be; remembered until the GPU changes."""
    may = may_arrive(given, state, gpu, k) if migrating else may_place(given, state, gpu, k)
    latency_us = _within_after(given, state, level, gpu, k, migrating) if may else FAR
    pool.entry_us[1 if migrating else 0, gpu, k] = latency_us
    return latency_us


@inner
def _may_enter(given: Given, state: State, gpu: int, k: int, migrating: bool) -> bool:
    return may_arrive(given, state, gpu, k) if migrating else may_place(given, state, gpu, k)


@inner
def _leave(given: Given, state: State, pool: Pool, gpu: int, k: int) -> None:
    """One session of class k goes from a GPU into the pool that it belongs to."""
    pool.entry_us[:, gpu] = UNKNOWN
    if state.placed[gpu, k] > 0 and state.arrived[gpu, k] == 0:
        take_placed(given, state, gpu, k)
        pool.waiting[k] += 1
        return
    if state.arrived[gpu, k] == 0:
        pool.spent[0] += 1
        pool.spent[1] += given.state_mib[k]
    take_out(given, state, gpu, k)
    pool.migrating[k] += 1


@inner
def _enter(given: Given, state: State, pool: Pool, gpu: int, k: int, migrating: bool) -> None:
    """One session of class k goes from its pool to a GPU."""
    pool.entry_us[:, gpu] = UNKNOWN
    if migrating:
        if state.out[gpu, k] > 0:
            pool.spent[0] -= 1
            pool.spent[1] -= given.state_mib[k]
        add_arrived(given, state, gpu, k)
        pool.migrating[k] -= 1
    else:
        add_placed(given, state, gpu, k)
        pool.waiting[k] -= 1


@inner
def _is_free(given: Given, state: State, pool: Pool, level: Level, gpu: int, k: int) -> bool:
    """Whether one of class k may leave under the budgets."""
    if state.placed[gpu, k] > 0 or state.arrived[gpu, k] > 0:
        return True
    return (
        may_leave(given, state, gpu, k)
        and pool.spent[0] < level.moves_max
        and pool.spent[1] + given.state_mib[k] <= level.moved_mib_max
    )


@inner
def _empty_leaving(given: Given, state: State, pool: Pool, level: Level, size: RealArray) -> None:
    """Sessions leave GPUs that are to be emptied, the smallest first, as far as the budgets go."""
    for gpu in range(state.after.shape[0]):
        while given.leaving[gpu]:
            best = -1
            for k in range(size.shape[0]):
                smaller = best < 0 or size[k] < size[best]
                if smaller and state.after[gpu, k] > 0 and _is_free(given, state, pool, level, gpu, k):
                    best = k
            if best < 0:
                break
            _leave(given, state, pool, gpu, best)


@inner
def _come_below(given: Given, state: State, pool: Pool, level: Level, gpu: int, size: RealArray) -> bool:
    """The least set of one or two sessions that brings a GPU to the level leaves it, or the largest, one by one."""
    classes = size.shape[0]
    while _within_after(given, state, level, gpu, -1, False) == FAR:
        first, second, least = -1, -1, 1e300
        largest = -1
        for k in range(classes):
            if state.after[gpu, k] == 0 or not _is_free(given, state, pool, level, gpu, k):
                continue
            if largest < 0 or size[k] > size[largest]:
                largest = k
            state.after[gpu, k] -= 1
            if _within_after(given, state, level, gpu, -1, False) < FAR:
                cost = size[k] * (1 + level.noise * np.random.random())
                if cost < least:
                    first, second, least = k, -1, cost
            elif state.out_count[gpu] + 2 <= given.out_max[gpu] and pool.spent[0] + 2 <= level.moves_max:
                for other in range(k, classes):
                    if state.after[gpu, other] == 0:
                        continue
                    state.after[gpu, other] -= 1
                    if _within_after(given, state, level, gpu, -1, False) < FAR:
                        cost = (size[k] + size[other]) * (1 + level.noise * np.random.random())
                        if cost < least:
                            first, second, least = k, other, cost
                    state.after[gpu, other] += 1
            state.after[gpu, k] += 1
        if first < 0:
            if largest < 0:
                return False
            first = largest
        _leave(given, state, pool, gpu, first)
        if second >= 0 and _is_free(given, state, pool, level, gpu, second):
            _leave(given, state, pool, gpu, second)
    return True


@inner
def _hardest(pool: Pool, size: RealArray, rank: IntArray, noise: float) -> tuple[int, bool]:
    """The class to insert next: highest priority, then largest; migrating before waiting, whom no budget holds back."""
    best, migrating, most = -1, False, -1.0
    for k in range(size.shape[0]):
        for moves in range(2):
            count = pool.migrating[k] if moves else pool.waiting[k]
            if count == 0:
                continue
            weight = size[k] * (1 + 0.3 * noise * np.random.random()) * (1.0 + 1e-6 * moves)
            if best >= 0 and rank[k] != rank[best]:
                if rank[k] < rank[best]:
                    best, migrating, most = k, moves == 1, weight
            elif weight > most:
                best, migrating, most = k, moves == 1, weight
    return best, migrating


@inner
def _best_room(given: Given, state: State, pool: Pool, level: Level, k: int, migrating: bool, step: int) -> int:
    """The GPU where one of class k adds least to f, and among equals the fullest; -1 if there is none."""
    best, least = -1, 1e300
    entry_us = pool.entry_us[1 if migrating else 0]  # calls are dear: what is known is looked up here
    for gpu in range(state.after.shape[0]):
        if pool.tabu_until[gpu, k] > step:
            continue
        latency_us = entry_us[gpu, k]
        if latency_us == UNKNOWN:
            latency_us = _entry(given, state, pool, level, gpu, k, migrating)
        if latency_us < FAR:
            cost = float(latency_us - state.latency_us[gpu])
            if level.noise > 0:
                cost *= 1 + level.noise * np.random.random()
            cost -= 1e-3 * latency_us
            if given.leaving[gpu]:
                cost += 1e15  # back to where it should leave, only if nowhere else
            if cost < least:
                best, least = gpu, cost
    return best


@inner
def _count_direct(given: Given, state: State, pool: Pool, level: Level, step: int) -> None:
    """For each class the GPUs that would take one migrating session more."""
    for k in range(pool.direct.shape[0]):
        pool.direct[k] = 0
        for gpu in range(state.after.shape[0]):
            if pool.tabu_until[gpu, k] > step:
                continue
            latency_us = pool.entry_us[1, gpu, k]
            if latency_us == UNKNOWN:
                latency_us = _entry(given, state, pool, level, gpu, k, True)
            if latency_us < FAR:
                pool.direct[k] += 1


@inner
def _make_room(
    given: Given, state: State, pool: Pool, level: Level, k: int, migrating: bool, step: int, size: RealArray
) -> bool:
    """One of class k enters where one or two others leave for it, preferably such as find room elsewhere."""
    classes = size.shape[0]
    _count_direct(given, state, pool, level, step)
    best, first, second, least = -1, -1, -1, 1e300
    for pair in range(2):
        if pair and least < 1e9:
            break
        for gpu in range(state.after.shape[0]):
            if pool.tabu_until[gpu, k] > step or not _may_enter(given, state, gpu, k, migrating):
                continue
            for one in range(classes):
                if one == k or state.after[gpu, one] == 0 or not _is_free(given, state, pool, level, gpu, one):
                    continue
                state.after[gpu, one] -= 1
                lone = 0.0 if pool.direct[one] else 1e9
                if pair == 0:
                    if _within_after(given, state, level, gpu, k, migrating) < FAR:
                        cost = size[one] * (1 + level.noise * np.random.random()) + lone
                        if cost < least:
                            best, first, second, least = gpu, one, -1, cost
                elif lone == 0.0 and state.out_count[gpu] + 2 <= given.out_max[gpu]:
                    for other in range(one, classes):
                        if other == k or state.after[gpu, other] == 0 or pool.direct[other] == 0:
                            continue
                        state.after[gpu, other] -= 1
                        if _within_after(given, state, level, gpu, k, migrating) < FAR:
                            cost = (size[one] + size[other]) * (1 + level.noise * np.random.random())
                            if cost < least and pool.spent[0] + 2 <= level.moves_max:
                                best, first, second, least = gpu, one, other, cost
                        state.after[gpu, other] += 1
                state.after[gpu, one] += 1
    if best < 0:
        return False
    _leave(given, state, pool, best, first)
    pool.tabu_until[best, first] = step + TABU_LEAST + int(TABU_SPREAD * np.random.random())
    if second >= 0 and _is_free(given, state, pool, level, best, second):
        _leave(given, state, pool, best, second)
        pool.tabu_until[best, second] = step + TABU_LEAST + int(TABU_SPREAD * np.random.random())
    if _within_after(given, state, level, best, k, migrating) < FAR:
        _enter(given, state, pool, best, k, migrating)
    return True


@kernel
def begin_fit(given: Given, state: State, pool: Pool, level: Level, size: RealArray, seed: int) -> bool:
    """Sessions leave for the pool until every GPU is below the level; False where what may leave is not enough."""
    np.random.seed(seed)
    _empty_leaving(given, state, pool, level, size)
    for gpu in range(state.after.shape[0]):
        if state.latency_us[gpu] > 0 and not _come_below(given, state, pool, level, gpu, size):
            return False
    return True


@kernel
def fit(
    given: Given,
    state: State,
    pool: Pool,
    level: Level,
    size: RealArray,
    rank: IntArray,
    progress: IntArray,
    steps_max: int,
    fruitless_max: int,
    looks_max: int,
) -> int:
    """Everybody in the pool finds a GPU, below the level, within the budgets.

    Returns FITTED, STUCK (somebody is still in the pool) or GOING, after about `looks_max` looks at one class on one
    GPU. `progress` is what passes from call to call: steps taken, the fewest that were in the pool, and steps since
    then; it is stuck after more than `fruitless_max` of those.
    """
    gpus, classes = state.after.shape
    looks = 0
    while progress[0] < steps_max:
        if looks > looks_max:
            return GOING
        left = pool.migrating.sum() + pool.waiting.sum()
        progress[2] = 0 if left < progress[1] else progress[2] + 1
        progress[1] = min(progress[1], left)
        if progress[2] > fruitless_max:
            return STUCK
        k, migrating = _hardest(pool, size, rank, level.noise)
        if k < 0:
            return FITTED
        step = progress[0]
        gpu = _best_room(given, state, pool, level, k, migrating, step)
        looks += gpus
        if gpu >= 0:
            _enter(given, state, pool, gpu, k, migrating)
        else:
            looks += gpus * classes * classes
            if not _make_room(given, state, pool, level, k, migrating, step, size):
                return STUCK
        progress[0] += 1
    return STUCK
