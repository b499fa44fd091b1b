"""Placements in compiled code: the state of a search, what a change does to a GPU, and the first valid placement.

Decides how the rules of `check` look from inside a search; must never know why a change is tried.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from solvers.numba_kernel import inner, kernel
from solvers.placement.problem import NEVER_US, NO_TARGET_US, BoolArray, IntArray, Problem
from solvers.placement.solution import Placement

FAR = 1 << 60


class Given(NamedTuple):
    """The problem as arrays; see `Problem`."""

    alone_us: IntArray
    base_us: IntArray
    common_us: IntArray
    gpu_type: IntArray
    running: IntArray
    receives: BoolArray
    leaving: BoolArray
    memory_mib: IntArray
    state_mib: IntArray
    target_us: IntArray  # NO_TARGET_US where the tier `meet` is off
    transfer_us: IntArray
    weight: IntArray
    out_max: IntArray
    in_max: IntArray


class State(NamedTuple):
    """A placement under construction; changed in place."""

    out: IntArray  # [gpus, classes]
    arrived: IntArray
    placed: IntArray
    after: IntArray
    latency_us: IntArray  # [gpus]
    held_mib: IntArray  # [gpus]: running and entering, both sides of migrations
    out_count: IntArray  # [gpus]
    in_count: IntArray  # [gpus]: by migration


def given_of(problem: Problem) -> Given:
    """The arrays of a problem, with the types that kernels are compiled for."""
    meets = problem.tiers.meet
    return Given(
        alone_us=np.ascontiguousarray(problem.tables.alone_us, dtype=np.int64),
        base_us=np.ascontiguousarray(problem.tables.base_us, dtype=np.int64),
        common_us=np.ascontiguousarray(problem.tables.common_us, dtype=np.int64),
        gpu_type=problem.gpu_type.astype(np.int64),
        running=np.ascontiguousarray(problem.running, dtype=np.int64),
        receives=np.ascontiguousarray(problem.receives),
        leaving=np.ascontiguousarray(problem.leaving),
        memory_mib=problem.memory_mib.astype(np.int64),
        state_mib=problem.state_mib.astype(np.int64),
        target_us=problem.target_us.astype(np.int64) if meets else np.full(problem.classes, NO_TARGET_US),
        transfer_us=problem.transfer_us.astype(np.int64),
        weight=problem.lateness_weight.astype(np.int64),
        out_max=problem.out_max.astype(np.int64),
        in_max=problem.in_max.astype(np.int64),
    )


def state_of(problem: Problem, placement: Placement | None = None) -> State:
    """The state in which a placement leaves the fleet; without one, everybody stays and waits."""
    placement = placement or Placement.unchanged(problem)
    after = placement.after(problem)
    return State(
        out=placement.out.astype(np.int64),
        arrived=placement.arrived.astype(np.int64),
        placed=placement.placed.astype(np.int64),
        after=after.astype(np.int64),
        latency_us=problem.latency_us(after),
        held_mib=(problem.running + placement.arrived + placement.placed) @ problem.state_mib,
        out_count=placement.out.sum(axis=1).astype(np.int64),
        in_count=placement.arrived.sum(axis=1).astype(np.int64),
    )


def placement_of(state: State) -> Placement:
    """A copy of what the state stands for."""
    return Placement(out=state.out.copy(), arrived=state.arrived.copy(), placed=state.placed.copy())


@inner
def latency_of(given: Given, gpu_type: int, counts: IntArray) -> int:
    """f of one GPU for counts [classes]."""
    last = given.alone_us.shape[2] - 1
    total = 0
    base = 0
    result = 0
    for k in range(counts.shape[0]):
        count = counts[k]
        if count > 0:
            total += count
            base = max(base, given.base_us[gpu_type, k])
            result += given.alone_us[gpu_type, k, min(count, last)]
    if total == 0:
        return 0
    return int(min(result + base + given.common_us[gpu_type, min(total, given.common_us.shape[1] - 1)], NEVER_US))


@inner
def latency_with(given: Given, state: State, gpu: int, k: int, change: int) -> int:
    """f of a GPU after `change` sessions of class k more (or less)."""
    counts = state.after[gpu]
    counts[k] += change
    result = latency_of(given, given.gpu_type[gpu], counts)
    counts[k] -= change
    return result


@inner
def lateness_of(given: Given, state: State, gpu: int, latency_us: int) -> int:
    """Weighted microseconds beyond targets of the sessions that a GPU holds, if its f were `latency_us`."""
    late = 0
    for k in range(given.target_us.shape[0]):
        beyond = latency_us - given.target_us[k]
        stayed = state.after[gpu, k] - state.arrived[gpu, k]
        late += given.weight[k] * (
            stayed * max(beyond, 0) + state.arrived[gpu, k] * max(beyond + given.transfer_us[k], 0)
        )
    return late


@inner
def add_placed(given: Given, state: State, gpu: int, k: int) -> None:
    """A waiting session takes its place."""
    state.placed[gpu, k] += 1
    state.after[gpu, k] += 1
    state.held_mib[gpu] += given.state_mib[k]
    state.latency_us[gpu] = latency_of(given, given.gpu_type[gpu], state.after[gpu])


@inner
def add_arrived(given: Given, state: State, gpu: int, k: int) -> None:
    """A migrating session arrives, or stays where it was going to leave."""
    if state.out[gpu, k] > 0:
        state.out[gpu, k] -= 1
        state.out_count[gpu] -= 1
    else:
        state.arrived[gpu, k] += 1
        state.in_count[gpu] += 1
        state.held_mib[gpu] += given.state_mib[k]
    state.after[gpu, k] += 1
    state.latency_us[gpu] = latency_of(given, given.gpu_type[gpu], state.after[gpu])


@inner
def take_out(given: Given, state: State, gpu: int, k: int) -> None:
    """A running session leaves, or one that was going to arrive does not."""
    if state.arrived[gpu, k] > 0:
        state.arrived[gpu, k] -= 1
        state.in_count[gpu] -= 1
        state.held_mib[gpu] -= given.state_mib[k]
    else:
        state.out[gpu, k] += 1
        state.out_count[gpu] += 1
    state.after[gpu, k] -= 1
    state.latency_us[gpu] = latency_of(given, given.gpu_type[gpu], state.after[gpu])


@inner
def take_placed(given: Given, state: State, gpu: int, k: int) -> None:
    """A session that was placed waits again."""
    state.placed[gpu, k] -= 1
    state.after[gpu, k] -= 1
    state.held_mib[gpu] -= given.state_mib[k]
    state.latency_us[gpu] = latency_of(given, given.gpu_type[gpu], state.after[gpu])


@inner
def may_place(given: Given, state: State, gpu: int, k: int) -> bool:
    """Whether a waiting session may enter, but for the batch."""
    return bool(given.receives[gpu] and state.held_mib[gpu] + given.state_mib[k] <= given.memory_mib[gpu])


@inner
def may_arrive(given: Given, state: State, gpu: int, k: int) -> bool:
    """Whether a migrating session may enter (or stay), but for the batch."""
    if state.out[gpu, k] > 0:
        return True
    return state.in_count[gpu] < given.in_max[gpu] and may_place(given, state, gpu, k)


@inner
def may_leave(given: Given, state: State, gpu: int, k: int) -> bool:
    """Whether a running session (or one that was to arrive) may leave."""
    if state.arrived[gpu, k] > 0:
        return True
    return bool(state.after[gpu, k] > state.placed[gpu, k] and state.out_count[gpu] < given.out_max[gpu])


@kernel
def place_waiting(given: Given, state: State, waiting: IntArray, order: IntArray) -> None:
    """Put waiting sessions, class by class in `order`, where they add least lateness, then where f is least.

    `waiting` [classes] is counted down; what has no place stays in it.
    """
    gpus = state.after.shape[0]
    late = np.full(gpus, -1, np.int64)
    latency_us = np.zeros(gpus, np.int64)
    for k in order:
        if waiting[k] == 0:
            continue
        for gpu in range(gpus):
            late[gpu] = _lateness_added(given, state, gpu, k, latency_us)
        while waiting[k] > 0:
            best = -1
            for gpu in range(gpus):
                if late[gpu] >= 0 and (
                    best < 0
                    or late[gpu] < late[best]
                    or (late[gpu] == late[best] and latency_us[gpu] < latency_us[best])
                ):
                    best = gpu
            if best < 0:
                break
            add_placed(given, state, best, k)
            waiting[k] -= 1
            late[best] = _lateness_added(given, state, best, k, latency_us)


@inner
def _lateness_added(given: Given, state: State, gpu: int, k: int, latency_us: IntArray) -> int:
    """By one more waiting session of class k; -1 where it may not enter. Sets f after that."""
    if not may_place(given, state, gpu, k):
        return -1
    after_us = latency_with(given, state, gpu, k, 1)
    latency_us[gpu] = after_us
    if after_us >= NEVER_US:
        return -1
    own = given.weight[k] * max(after_us - given.target_us[k], 0)
    return int(own + lateness_of(given, state, gpu, after_us) - lateness_of(given, state, gpu, state.latency_us[gpu]))
