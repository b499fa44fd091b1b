"""What every GPU of an offline solution holds over time, and which sessions move when.

Decides how pieces become stretches of constant content and migrations; must never know prices, targets or spans.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from solvers.offline_problem import Int32Array, Int64Array, OfflineProblem, OfflineSolution

CODE_MAX = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Stretches during which a GPU holds one (non-empty) content, sorted by (gpu, start)."""

    gpu: Int32Array = field(repr=False)  # [stretches]
    start_us: Int64Array = field(repr=False)  # [stretches]
    end_us: Int64Array = field(repr=False)  # [stretches]
    content: Int64Array = field(repr=False)  # [stretches]: row of `counts`
    counts: Int32Array = field(repr=False)  # [contents, classes], distinct rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrations:
    """Changes of GPU inside a period, in the order of the pieces; `at_us` is the start of the piece on the target."""

    period: Int32Array = field(repr=False)
    source: Int32Array = field(repr=False)
    target: Int32Array = field(repr=False)
    at_us: Int64Array = field(repr=False)

    def __len__(self) -> int:
        return len(self.period)


def timeline(problem: OfflineProblem, solution: OfflineSolution) -> Timeline:
    """Sweep all GPUs at once; every piece must have a positive length."""
    pieces = len(solution.piece_gpu)
    time_us = np.concatenate([solution.piece_end_us, solution.piece_start_us])
    gpu = np.concatenate([solution.piece_gpu, solution.piece_gpu])
    order = np.lexsort((time_us, gpu))
    time_us, gpu = time_us[order], gpu[order]
    class_index = problem.class_index[solution.piece_period][order % max(pieces, 1)]
    sign = np.where(order < pieces, -1, 1).astype(np.int8)
    instants = np.ones(len(order), dtype=np.bool_)
    instants[:-1] = (gpu[1:] != gpu[:-1]) | (time_us[1:] != time_us[:-1])  # the last event of each instant
    total = np.cumsum(sign, dtype=np.int64)[instants]
    content, counts = _contents(class_index, sign, instants, int(total.max(initial=0)) + 1, problem.classes)
    time_us, gpu = time_us[instants], gpu[instants]
    held = np.flatnonzero(total > 0)  # such a stretch always ends at the next instant of the same GPU
    return Timeline(
        gpu=gpu[held],
        start_us=time_us[held],
        end_us=time_us[np.minimum(held + 1, max(len(time_us) - 1, 0))],
        content=content[held],
        counts=counts,
    )


def _contents(
    class_index: Int32Array,
    sign: npt.NDArray[np.int8],
    instants: npt.NDArray[np.bool_],
    radix: int,
    classes: int,
) -> tuple[Int64Array, Int32Array]:
    """Content after each instant and the distinct contents.

    Contents are told apart by exact codes: numbers of base `radix`, for as many classes at a time as fit into 63 bits.
    """
    digits = 1
    while digits < classes and radix ** (digits + 1) < CODE_MAX:
        digits += 1
    content = np.zeros(int(instants.sum()), dtype=np.int64)
    counts = np.zeros((min(1, len(content)), 0), dtype=np.int32)
    for first in range(0, classes, digits):
        powers = np.zeros(classes, dtype=np.int64)
        here = np.arange(first, min(first + digits, classes))
        powers[here] = radix ** (here - first)
        codes = np.cumsum(powers[class_index] * sign)[instants]
        distinct, part = np.unique(codes, return_inverse=True)
        decoded = (distinct[:, None] // powers[here]) % radix
        pairs, content = np.unique(content * max(len(distinct), 1) + part, return_inverse=True)
        rows, part_rows = np.divmod(pairs, max(len(distinct), 1))
        counts = np.concatenate([counts[rows], decoded[part_rows]], axis=1, dtype=np.int32)
    return content, counts


def migrations(solution: OfflineSolution) -> Migrations:
    """Consecutive pieces of one period on different GPUs, whether or not time lies between them."""
    period, gpu = solution.piece_period, solution.piece_gpu
    moved = np.flatnonzero((period[1:] == period[:-1]) & (gpu[1:] != gpu[:-1])) + 1
    return Migrations(
        period=period[moved], source=gpu[moved - 1], target=gpu[moved], at_us=solution.piece_start_us[moved]
    )
