"""Single migrations that pay, compiled: steepest descent on a sum over GPUs, and undoing migrations that do not.

Decides one move at a time; must never know which tier asked for it. The sum falls apart into GPUs, so the best move
of a class is the best source with the best target, and a step costs GPUs x classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from solvers.numba_kernel import inner, kernel
from solvers.placement.kernel import (
    Given,
    State,
    add_arrived,
    add_placed,
    latency_with,
    lateness_of,
    may_arrive,
    may_place,
    take_out,
    take_placed,
)
from solvers.placement.problem import NEVER_US

RealArray = npt.NDArray[np.float64]

LATENESS, SQUARES = 0, 1
NO_WAY = 1e300


@inner
def _potential(given: Given, state: State, gpu: int, latency_us: int, goal: int) -> float:
    if goal == LATENESS:
        return float(lateness_of(given, state, gpu, latency_us))
    return (latency_us * 1e-3) ** 2


@inner
def _loss(given: Given, state: State, gpu: int, k: int, limit_us: int, goal: int, migrates: bool) -> float:
    """What one more session of class k costs a GPU; NO_WAY where it may not enter."""
    if not (may_arrive(given, state, gpu, k) if migrates else may_place(given, state, gpu, k)):
        return NO_WAY
    after_us = latency_with(given, state, gpu, k, 1)
    if after_us > limit_us or after_us >= NEVER_US:
        return NO_WAY
    late = lateness_of(given, state, gpu, after_us) - lateness_of(given, state, gpu, state.latency_us[gpu])
    own = after_us - given.target_us[k]
    if migrates and state.out[gpu, k] == 0:
        own += given.transfer_us[k]
    late += given.weight[k] * max(own, 0)
    if goal == LATENESS:
        return float(late)
    if late > 0:
        return NO_WAY
    return _potential(given, state, gpu, after_us, goal) - _potential(given, state, gpu, state.latency_us[gpu], goal)


@inner
def _gain(given: Given, state: State, gpu: int, k: int, goal: int) -> float:
    """What a GPU gains by one session of class k less."""
    after_us = latency_with(given, state, gpu, k, -1)
    gain = _potential(given, state, gpu, state.latency_us[gpu], goal) - _potential(given, state, gpu, after_us, goal)
    if goal == LATENESS:
        gain += given.weight[k] * max(after_us - given.target_us[k], 0)
    return gain


@inner
def _refresh(given: Given, state: State, gpu: int, limit_us: int, goal: int, gain: RealArray, loss: RealArray) -> None:
    """gain [gpus, classes], loss [2, gpus, classes] (placed, migrated) of one GPU."""
    for k in range(state.after.shape[1]):
        gain[gpu, k] = _gain(given, state, gpu, k, goal) if state.after[gpu, k] > 0 else -NO_WAY
        loss[0, gpu, k] = _loss(given, state, gpu, k, limit_us, goal, False)
        loss[1, gpu, k] = _loss(given, state, gpu, k, limit_us, goal, True)


@inner
def _is_source(given: Given, state: State, gpu: int, k: int, migrates: int, left: int, left_mib: int) -> bool:
    """Whether one of class k may go from here: placed ones freely, running ones under the budgets."""
    if not migrates:
        return bool(state.placed[gpu, k] > 0)
    if state.arrived[gpu, k] > 0:
        return True
    running = state.after[gpu, k] - state.placed[gpu, k]
    return running > 0 and state.out_count[gpu] < given.out_max[gpu] and left > 0 and left_mib >= given.state_mib[k]


@kernel
def descend(
    given: Given,
    state: State,
    limit_us: int,
    goal: int,
    moves_left: int,
    mib_left: int,
    gain_min: float,
    steps_max: int,
) -> int:
    """Move one session at a time as long as the sum falls by at least `gain_min`; f stays within `limit_us`.

    Returns the steps taken.
    """
    gpus, classes = state.after.shape
    gain = np.zeros((gpus, classes))
    loss = np.zeros((2, gpus, classes))
    for gpu in range(gpus):
        _refresh(given, state, gpu, limit_us, goal, gain, loss)
    for step in range(steps_max):
        best, best_k, best_from, best_to, best_kind = gain_min, -1, -1, -1, 0
        for k in range(classes):
            for kind in range(2):
                source, target = -1, -1
                for gpu in range(gpus):
                    if loss[kind, gpu, k] < NO_WAY and (target < 0 or loss[kind, gpu, k] < loss[kind, target, k]):
                        target = gpu
                    if (source < 0 or gain[gpu, k] > gain[source, k]) and _is_source(
                        given, state, gpu, k, kind, moves_left, mib_left
                    ):
                        source = gpu
                if source < 0 or target < 0 or source == target:
                    continue
                pays = gain[source, k] - loss[kind, target, k]
                if pays >= best and pays > 0:
                    best, best_k, best_from, best_to, best_kind = pays, k, source, target, kind
        if best_k < 0:
            return step
        if best_kind == 0:
            take_placed(given, state, best_from, best_k)
            add_placed(given, state, best_to, best_k)
        else:
            before = state.out[best_from, best_k] + state.out[best_to, best_k]
            take_out(given, state, best_from, best_k)
            add_arrived(given, state, best_to, best_k)
            change = state.out[best_from, best_k] + state.out[best_to, best_k] - before
            moves_left -= change
            mib_left -= change * given.state_mib[best_k]
        _refresh(given, state, best_from, limit_us, goal, gain, loss)
        _refresh(given, state, best_to, limit_us, goal, gain, loss)
    return steps_max


@kernel
def undo(given: Given, state: State, limit_us: int) -> int:
    """Sessions stay where they were, the largest states first, where f stays within the limit and nobody gets late.

    Returns how many migrations were undone. GPUs that are to be emptied get nobody back.
    """
    undone = 0
    order = np.argsort(-given.state_mib)
    for k in order:
        for gpu in range(state.after.shape[0]):
            while state.out[gpu, k] > 0 and not given.leaving[gpu]:
                after_us = latency_with(given, state, gpu, k, 1)
                if after_us > limit_us:
                    break
                late = lateness_of(given, state, gpu, after_us)
                late += given.weight[k] * max(after_us - given.target_us[k], 0)
                if late > lateness_of(given, state, gpu, state.latency_us[gpu]):
                    break
                fullest = -1
                for other in range(state.after.shape[0]):
                    if state.arrived[other, k] > 0 and (
                        fullest < 0 or state.latency_us[other] > state.latency_us[fullest]
                    ):
                        fullest = other
                take_out(given, state, fullest, k)
                add_arrived(given, state, gpu, k)
                undone += 1
    return undone
