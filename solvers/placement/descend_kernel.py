"""Single migrations that pay, compiled: steepest descent on a sum over GPUs, and undoing migrations that do not.

Decides one move at a time; must never know which tier asked for it. The sum falls apart into GPUs, so the best move
of a class is the best source with the best target; both are kept from step to step, and only the two GPUs that a step
changes are looked at anew.
"""

from __future__ import annotations

from typing import NamedTuple

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
from solvers.placement.problem import NEVER_US, IntArray

RealArray = npt.NDArray[np.float64]

# What is summed: weighted lateness; squares of f; or a power of f so high that only the slowest GPUs count.
LATENESS, SQUARES, PEAKS = 0, 1, 2
PEAK_DOUBLINGS = 5  # the power is 2 ** 5
NO_WAY = 1e300
PLACED, ARRIVED, RUNNING = 0, 1, 2  # where a session comes from: the first two cost no migration
ORIGINS = 3


class Goal(NamedTuple):
    """What falls, and what must hold meanwhile."""

    kind: int  # LATENESS, SQUARES or PEAKS
    limit_us: int  # of f
    gain_min: float  # that a step has to save


class Moves(NamedTuple):
    """What single sessions save where they are and cost elsewhere, and the best of each class."""

    save: RealArray  # [origins, classes, gpus]; -NO_WAY where there is none that may leave
    cost: RealArray  # [2, classes, gpus]: by placing, by migrating; NO_WAY where none may enter
    source: IntArray  # [origins, classes]: the first GPU of the most saved
    target: IntArray  # [2, classes]: the first GPU of the least cost


def moves_of(gpus: int, classes: int) -> Moves:
    """Room for `begin` to fill in."""
    return Moves(
        save=np.zeros((ORIGINS, classes, gpus)),
        cost=np.zeros((2, classes, gpus)),
        source=np.zeros((ORIGINS, classes), np.int64),
        target=np.zeros((2, classes), np.int64),
    )


@inner
def _potential(given: Given, state: State, gpu: int, latency_us: int, goal: Goal) -> float:
    if goal.kind == LATENESS:
        return float(lateness_of(given, state, gpu, latency_us))
    if goal.kind == SQUARES:
        return (latency_us * 1e-3) ** 2
    power = latency_us / (goal.limit_us + 1)
    for _ in range(PEAK_DOUBLINGS):
        power *= power
    return power


@inner
def _look(given: Given, state: State, moves: Moves, gpu: int, goal: Goal) -> None:
    """What sessions of each class save on one GPU, and what one more would cost it."""
    now_us = state.latency_us[gpu]
    now = _potential(given, state, gpu, now_us, goal)
    late_now = lateness_of(given, state, gpu, now_us)
    leaves = state.out_count[gpu] < given.out_max[gpu]
    for k in range(state.after.shape[1]):
        saved = -NO_WAY
        if state.after[gpu, k] > 0:
            less_us = latency_with(given, state, gpu, k, -1)
            saved = now - _potential(given, state, gpu, less_us, goal)
            if goal.kind == LATENESS:
                saved += given.weight[k] * max(less_us - given.target_us[k], 0)
        arrived, placed = state.arrived[gpu, k], state.placed[gpu, k]
        runs = arrived == 0 and state.after[gpu, k] > placed and leaves
        moves.save[PLACED, k, gpu] = saved if placed > 0 else -NO_WAY
        moves.save[ARRIVED, k, gpu] = saved if arrived > 0 else -NO_WAY
        moves.save[RUNNING, k, gpu] = saved if runs else -NO_WAY
        moves.cost[0, k, gpu] = NO_WAY
        moves.cost[1, k, gpu] = NO_WAY
        places, hosts = may_place(given, state, gpu, k), may_arrive(given, state, gpu, k)
        if not places and not hosts:
            continue
        more_us = latency_with(given, state, gpu, k, 1)
        if more_us > goal.limit_us or more_us >= NEVER_US:
            continue
        late = lateness_of(given, state, gpu, more_us) - late_now
        grows = _potential(given, state, gpu, more_us, goal) - now
        for kind in range(2):
            if not (hosts if kind else places):
                continue
            own_us = more_us - given.target_us[k]
            if kind and state.out[gpu, k] == 0:
                own_us += given.transfer_us[k]
            beyond = late + given.weight[k] * max(own_us, 0)
            if goal.kind == LATENESS:
                moves.cost[kind, k, gpu] = float(beyond)
            elif beyond <= 0:
                moves.cost[kind, k, gpu] = grows


@inner
def _first_most(values: RealArray) -> int:
    best = 0
    for gpu in range(1, len(values)):
        if values[gpu] > values[best]:
            best = gpu
    return best


@inner
def _first_least(values: RealArray) -> int:
    best = 0
    for gpu in range(1, len(values)):
        if values[gpu] < values[best]:
            best = gpu
    return best


@inner
def _renew(given: Given, state: State, moves: Moves, gpu: int, goal: Goal) -> None:
    """One GPU has changed: look at it, and find the best of each class again where it was or is now the best."""
    _look(given, state, moves, gpu, goal)
    for k in range(state.after.shape[1]):
        for origin in range(ORIGINS):
            save, best = moves.save[origin, k], moves.source[origin, k]
            if best == gpu:
                moves.source[origin, k] = _first_most(save)
            elif save[gpu] > save[best] or (save[gpu] == save[best] and gpu < best):
                moves.source[origin, k] = gpu
        for kind in range(2):
            cost, best = moves.cost[kind, k], moves.target[kind, k]
            if best == gpu:
                moves.target[kind, k] = _first_least(cost)
            elif cost[gpu] < cost[best] or (cost[gpu] == cost[best] and gpu < best):
                moves.target[kind, k] = gpu


@kernel
def begin(given: Given, state: State, moves: Moves, goal: Goal) -> None:
    """Look at every GPU."""
    for gpu in range(state.after.shape[0]):
        _look(given, state, moves, gpu, goal)
    for k in range(state.after.shape[1]):
        for origin in range(ORIGINS):
            moves.source[origin, k] = _first_most(moves.save[origin, k])
        for kind in range(2):
            moves.target[kind, k] = _first_least(moves.cost[kind, k])


@kernel
def descend(
    given: Given, state: State, moves: Moves, goal: Goal, moves_left: int, mib_left: int, steps_max: int
) -> int:
    """Move one session at a time as long as the sum falls by at least `gain_min`; returns the steps taken.

    `moves` is as `begin` or the last call left it.
    """
    for step in range(steps_max):
        best, best_k, best_origin = goal.gain_min, -1, 0
        for k in range(state.after.shape[1]):
            for origin in range(ORIGINS):
                if origin == RUNNING and (moves_left <= 0 or mib_left < given.state_mib[k]):
                    continue
                kind = 0 if origin == PLACED else 1
                source, target = moves.source[origin, k], moves.target[kind, k]
                saved, costs = moves.save[origin, k, source], moves.cost[kind, k, target]
                if source == target or saved <= -NO_WAY or costs >= NO_WAY:
                    continue
                if saved - costs >= best and saved > costs:
                    best, best_k, best_origin = saved - costs, k, origin
        if best_k < 0:
            return step
        source, target = moves.source[best_origin, best_k], moves.target[0 if best_origin == PLACED else 1, best_k]
        if best_origin == PLACED:
            take_placed(given, state, source, best_k)
            add_placed(given, state, target, best_k)
        else:
            before = state.out[source, best_k] + state.out[target, best_k]
            take_out(given, state, source, best_k)
            add_arrived(given, state, target, best_k)
            change = state.out[source, best_k] + state.out[target, best_k] - before
            moves_left -= change
            mib_left -= change * given.state_mib[best_k]
        _renew(given, state, moves, source, goal)
        _renew(given, state, moves, target, goal)
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
