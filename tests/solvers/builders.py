"""Small offline problems and solutions, written down in a line.

Decides defaults; must never know what is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from solvers.contents import RoundCosts, TypeLimits
from solvers.offline_problem import NEVER_ON, OfflineProblem, OfflineSolution
from solvers.offline_spans import spans_for


def a_problem(periods: Sequence[tuple[int, int]], *, gpus: int = 2, **changes: Any) -> OfflineProblem:
    """One class, up to three sessions per GPU (100, 200, 400 ms; the target is 300), 4 GiB, epochs of 10 us."""
    limits = TypeLimits(
        costs=RoundCosts(batching="grouped", tables_ms=((100.0, 200.0, 400.0),)), memory_gib=4.0, state_gib=(1.0,)
    )
    count = len(periods)
    problem = OfflineProblem(
        start_us=np.array([start for start, _ in periods], dtype=np.int64),
        end_us=np.array([end for _, end in periods], dtype=np.int64),
        class_index=np.zeros(count, dtype=np.int32),
        priority=np.zeros(count, dtype=np.int32),
        home=np.full(count, -1, dtype=np.int32),
        epoch_us=10,
        epochs=-(-max((end for _, end in periods), default=0) // 10),
        types=(limits,),
        target_ms=(300.0,),
        state_gib=(1.0,),
        price_per_hour=(3.6e9,),
        startup_us=(15,),
        gpu_type=np.zeros(gpus, dtype=np.int32),
        gpu_node=np.zeros(gpus, dtype=np.int32),
        gpu_always_on=np.zeros(gpus, dtype=np.bool_),
        gpu_on_us=np.full(gpus, NEVER_ON, dtype=np.int64),
        transfer_same_s=(0.5e-6,),
        transfer_cross_s=(1e-6,),
    )
    return replace(problem, **changes)


def a_solution(
    problem: OfflineProblem,
    pieces: Sequence[tuple[int, int, int, int]],
    spans: Sequence[tuple[int, int, int]] | None = None,
) -> OfflineSolution:
    """Pieces (period, gpu, start, end) and spans (gpu, on, off); without spans the cheapest ones."""
    columns = np.array(pieces, dtype=np.int64).reshape(-1, 4).T
    gpu = columns[1].astype(np.int32)
    if spans is None:
        span_gpu, on_us, off_us = spans_for(problem, gpu, columns[2], columns[3])
    else:
        rows = np.array(spans, dtype=np.int64).reshape(-1, 3).T
        span_gpu, on_us, off_us = rows[0].astype(np.int32), rows[1], rows[2]
    return OfflineSolution(
        piece_period=columns[0].astype(np.int32),
        piece_gpu=gpu,
        piece_start_us=columns[2],
        piece_end_us=columns[3],
        span_gpu=span_gpu,
        span_on_us=on_us,
        span_off_us=off_us,
    )
