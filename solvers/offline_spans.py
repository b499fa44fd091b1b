"""When GPUs are paid: the cheapest spans that make given pieces possible.

Decides on- and off-times on the epoch grid; must never know sessions, contents or prices.
"""

from __future__ import annotations

import numpy as np

from solvers.offline_problem import NEVER_ON, Int32Array, Int64Array, OfflineProblem


def spans_for(
    problem: OfflineProblem, piece_gpu: Int32Array, piece_start_us: Int64Array, piece_end_us: Int64Array
) -> tuple[Int32Array, Int64Array, Int64Array]:
    """Cheapest (span_gpu, span_on_us, span_off_us) on which the pieces are possible, sorted by (gpu, on).

    Each piece needs its GPU paid from the last epoch boundary a start-up before it until the first boundary after it;
    the union of these needs is the cheapest answer. GPUs that are always on, or on already, need time of their own.
    Where a piece begins before a GPU that is on already can be usable, no spans would do: `violations` tells.
    """
    epoch_us = problem.epoch_us
    startup_us = np.array(problem.startup_us, dtype=np.int64)[problem.gpu_type]
    own = _own_needs(problem)
    gpu = np.concatenate([own[0], piece_gpu]).astype(np.int32)
    on_us = np.concatenate([own[1], (piece_start_us - startup_us[piece_gpu]) // epoch_us * epoch_us])
    off_us = np.concatenate([own[2], -(-piece_end_us // epoch_us) * epoch_us])
    known = problem.gpu_on_us[gpu]
    on_us = np.where((known != NEVER_ON) & (on_us < np.maximum(known, 0)), known, on_us)
    order = np.lexsort((on_us, gpu))
    gpu, on_us, off_us = gpu[order], on_us[order], off_us[order]
    reach_us = _reach(gpu, off_us)
    first = np.ones(len(gpu), dtype=np.bool_)
    first[1:] = (gpu[1:] != gpu[:-1]) | (on_us[1:] > reach_us[:-1])
    last = np.append(first[1:], True)[: len(first)]
    return gpu[first], on_us[first], reach_us[last]


def _own_needs(problem: OfflineProblem) -> tuple[Int32Array, Int64Array, Int64Array]:
    """What is paid without any piece: GPUs always on, and those on already (until 0, or for one epoch)."""
    epoch_us, horizon_us = problem.epoch_us, problem.horizon_us
    known = problem.gpu_on_us != NEVER_ON
    always = problem.gpu_always_on & (horizon_us > 0)
    gpus = np.flatnonzero(known | always).astype(np.int32)
    on_us = np.where(known, problem.gpu_on_us, problem.soonest_on_us)[gpus]
    soonest_us = np.maximum(0, (on_us // epoch_us + 1) * epoch_us)
    throughout_us = np.where(always[gpus], -(-horizon_us // epoch_us) * epoch_us, 0)
    return gpus, on_us, np.where(known[gpus], np.maximum(soonest_us, throughout_us), throughout_us)


def _reach(gpu: Int32Array, off_us: Int64Array) -> Int64Array:
    """Running maximum of `off_us` within each GPU; `gpu` is sorted."""
    low = int(off_us.min(initial=0))
    width = int(off_us.max(initial=0)) - low + 1
    ranked = np.maximum.accumulate(gpu.astype(np.int64) * width + (off_us - low))
    return np.asarray(ranked - gpu.astype(np.int64) * width + low, dtype=np.int64)
