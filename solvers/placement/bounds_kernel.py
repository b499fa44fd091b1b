"""Exhaustive looks at single GPUs, compiled: what one or two removals can do.

Decides the least latency and lateness of each GPU over all small removals; must never know the rest of the fleet.
"""

from __future__ import annotations

import numpy as np

from solvers.numba_kernel import inner, kernel
from solvers.placement.kernel import Given, latency_of
from solvers.placement.problem import NEVER_US, IntArray


@inner
def _least_after(given: Given, gpu_type: int, counts: IntArray, removals: int, least: IntArray) -> None:
    """least[j]: the least f of `counts` after at most j of the allowed removals; beyond two removals it is 0."""
    least[:] = latency_of(given, gpu_type, counts)
    for k in range(counts.shape[0]):
        if removals < 1 or counts[k] == 0:
            continue
        counts[k] -= 1
        least[1] = min(least[1], latency_of(given, gpu_type, counts))
        if removals >= 2:
            for other in range(k, counts.shape[0]):
                if counts[other] > 0:
                    counts[other] -= 1
                    least[2] = min(least[2], latency_of(given, gpu_type, counts))
                    counts[other] += 1
        counts[k] += 1
    least[2] = min(least[1], least[2])
    least[3] = 0 if removals > 2 else least[2]


@kernel
def least_left(given: Given, removals: IntArray) -> IntArray:
    """[gpus, 4]: the least f after at most 0, 1, 2 removals, and after as many as may leave."""
    result = np.zeros((given.running.shape[0], 4), np.int64)
    counts = np.zeros(given.running.shape[1], np.int64)
    for gpu in range(len(result)):
        counts[:] = given.running[gpu]
        _least_after(given, given.gpu_type[gpu], counts, removals[gpu], result[gpu])
    return result


@kernel
def least_entered(given: Given, waiting: IntArray, removals: IntArray, left: IntArray) -> int:
    """Each waiting class enters some GPU, from which at most the allowed removals are made: the least f there.

    `left` is what `least_left` gives; one session more makes no GPU faster than that.
    """
    bound = 0
    counts = np.zeros(given.running.shape[1], np.int64)
    least = np.zeros(4, np.int64)
    for k in range(waiting.shape[0]):
        if waiting[k] == 0:
            continue
        best = NEVER_US
        for gpu in range(given.running.shape[0]):
            if not given.receives[gpu] or left[gpu, 3] >= best:
                continue
            counts[:] = given.running[gpu]
            counts[k] += 1
            _least_after(given, given.gpu_type[gpu], counts, removals[gpu], least)
            counts[:] = 0
            counts[k] = 1
            best = min(best, max(least[3], latency_of(given, given.gpu_type[gpu], counts)))
        if best < NEVER_US:
            bound = max(bound, best)
    return bound


@inner
def _lateness(given: Given, gpu_type: int, counts: IntArray) -> int:
    latency_us = latency_of(given, gpu_type, counts)
    late = 0
    for k in range(counts.shape[0]):
        late += given.weight[k] * counts[k] * max(latency_us - given.target_us[k], 0)
    return late


@kernel
def lateness_cuts(given: Given, removals: IntArray) -> IntArray:
    """[gpus, 3]: the least weighted lateness of each GPU after at most 0, 1, 2 of the allowed removals."""
    result = np.zeros((given.running.shape[0], 3), np.int64)
    counts = np.zeros(given.running.shape[1], np.int64)
    for gpu in range(len(result)):
        counts[:] = given.running[gpu]
        result[gpu, :] = _lateness(given, given.gpu_type[gpu], counts)
        for k in range(counts.shape[0]):
            if removals[gpu] < 1 or counts[k] == 0:
                continue
            counts[k] -= 1
            result[gpu, 1] = min(result[gpu, 1], _lateness(given, given.gpu_type[gpu], counts))
            if removals[gpu] >= 2:
                for other in range(k, counts.shape[0]):
                    if counts[other] > 0:
                        counts[other] -= 1
                        result[gpu, 2] = min(result[gpu, 2], _lateness(given, given.gpu_type[gpu], counts))
                        counts[other] += 1
            counts[k] += 1
        result[gpu, 2] = min(result[gpu, 1], result[gpu, 2])
    return result
