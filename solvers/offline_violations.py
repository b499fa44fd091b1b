"""The rules of an offline schedule, as one executable specification in solver terms.

Decides whether a solution may be shown to anyone; must never know how it was found or what it costs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from solvers.contents import TOLERANCE
from solvers.offline_problem import NEVER_ON, Int64Array, OfflineProblem, OfflineSolution
from solvers.offline_timeline import Migrations, Timeline, migrations, timeline

SHOWN_MAX = 5  # findings told per rule; the others are counted

BoolArray = npt.NDArray[np.bool_]


def violations(problem: OfflineProblem, solution: OfflineSolution) -> list[str]:
    """Every rule that the solution breaks, in words; empty if it keeps them all.

    Solutions whose pieces or spans are malformed are told just that, since nothing else can be said about them.
    """
    found = _malformed_pieces(problem, solution) + _malformed_spans(problem, solution)
    if found:
        return found
    line, moves = timeline(problem, solution), migrations(solution)
    return [
        *_spans_off_the_grid(problem, solution),
        *_spans_against_the_start(problem, solution),
        *_always_on_missing(problem, solution),
        *_pieces_off_their_spans(problem, solution),
        *_away_from_home(problem, solution),
        *_contents_that_do_not_fit(problem, line),
        *_moves_off_the_grid(problem, moves),
        *_moves_over_budget(problem, moves),
        *_memory_during_moves(problem, line, moves),
    ]


def _report(broken: BoolArray, text: Callable[[int], str]) -> list[str]:
    rows = np.flatnonzero(broken)
    told = [text(int(row)) for row in rows[:SHOWN_MAX]]
    if len(rows) > SHOWN_MAX:
        told.append(f"... and {len(rows) - SHOWN_MAX} more like the last one")
    return told


def _malformed_pieces(problem: OfflineProblem, solution: OfflineSolution) -> list[str]:
    """Known periods and GPUs, sorted, inside the period, without overlap."""
    period, gpu = solution.piece_period, solution.piece_gpu
    start, end = solution.piece_start_us, solution.piece_end_us
    unknown = (period < 0) | (period >= problem.periods) | (gpu < 0) | (gpu >= problem.gpus)
    if unknown.any():
        return _report(unknown, lambda i: f"piece {i}: period {period[i]} or GPU {gpu[i]} does not exist")
    same = period[1:] == period[:-1]
    unsorted = (period[1:] < period[:-1]) | (same & (start[1:] < start[:-1]))
    outside = (start < problem.start_us[period]) | (end > problem.end_us[period])
    return [
        *_report(unsorted, lambda i: f"piece {i + 1}: pieces must be sorted by (period, start)"),
        *_report(start >= end, lambda i: f"piece {i}: end {end[i]} us must be after start {start[i]} us"),
        *_report(outside, lambda i: f"piece {i}: [{start[i]}, {end[i]}) us must lie inside period {period[i]}"),
        *_report(
            same & ~unsorted & (start[1:] < end[:-1]),
            lambda i: (
                f"piece {i + 1}: period {period[i]} is on GPU {gpu[i]} until {end[i]} us, pieces must not overlap"
            ),
        ),
    ]


def _malformed_spans(problem: OfflineProblem, solution: OfflineSolution) -> list[str]:
    """Known GPUs, sorted, disjoint per GPU."""
    gpu, on, off = solution.span_gpu, solution.span_on_us, solution.span_off_us
    unknown = (gpu < 0) | (gpu >= problem.gpus)
    same = gpu[1:] == gpu[:-1]
    unsorted = (gpu[1:] < gpu[:-1]) | (same & (on[1:] < on[:-1]))
    return [
        *_report(unknown, lambda i: f"span {i}: GPU {gpu[i]} does not exist"),
        *_report(on >= off, lambda i: f"span {i}: off {off[i]} us must be after on {on[i]} us"),
        *_report(unsorted, lambda i: f"span {i + 1}: spans must be sorted by (GPU, on)"),
        *_report(
            same & ~unsorted & (on[1:] < off[:-1]),
            lambda i: f"span {i + 1}: GPU {gpu[i]} is on until {off[i]} us, spans must not overlap",
        ),
    ]


def _first_span_of_a_gpu_on_already(problem: OfflineProblem, solution: OfflineSolution) -> BoolArray:
    gpu = solution.span_gpu
    first = np.ones(len(gpu), dtype=np.bool_)
    first[1:] = gpu[1:] != gpu[:-1]
    return np.asarray(first & (problem.gpu_on_us[gpu] != NEVER_ON), dtype=np.bool_)


def _spans_off_the_grid(problem: OfflineProblem, solution: OfflineSolution) -> list[str]:
    """On and off are multiples of the epoch, but for the known on-time of a GPU that is on already."""
    gpu, on, off = solution.span_gpu, solution.span_on_us, solution.span_off_us
    known = _first_span_of_a_gpu_on_already(problem, solution)
    return [
        *_report(
            (on % problem.epoch_us != 0) & ~known,
            lambda i: f"span {i}: GPU {gpu[i]} on at {on[i]} us must be a multiple of {problem.epoch_us} us",
        ),
        *_report(
            off % problem.epoch_us != 0,
            lambda i: f"span {i}: GPU {gpu[i]} off at {off[i]} us must be a multiple of {problem.epoch_us} us",
        ),
    ]


def _startup_us(problem: OfflineProblem) -> Int64Array:
    """[gpus]"""
    return np.asarray(np.array(problem.startup_us, dtype=np.int64)[problem.gpu_type])


def _spans_against_the_start(problem: OfflineProblem, solution: OfflineSolution) -> list[str]:
    """No span begins before the start-up before 0; GPUs on already begin exactly where they did, and last until 0."""
    gpu, on, off = solution.span_gpu, solution.span_on_us, solution.span_off_us
    known = _first_span_of_a_gpu_on_already(problem, solution)
    earliest = problem.soonest_on_us[gpu]
    given = problem.gpu_on_us
    unpaid = given != NEVER_ON
    unpaid[gpu[known]] = False
    return [
        *_report(
            ~known & (on < earliest),
            lambda i: f"span {i}: GPU {gpu[i]} on at {on[i]} us must not be before {earliest[i]} us",
        ),
        *_report(
            known & (on != given[gpu]),
            lambda i: f"span {i}: GPU {gpu[i]} is on since {given[gpu[i]]} us, its first span must begin there",
        ),
        *_report(
            known & (off < 0), lambda i: f"span {i}: GPU {gpu[i]} is on at 0, its first span must last until then"
        ),
        *_report(unpaid, lambda g: f"GPU {g} is on since {given[g]} us, a span must say so"),
    ]


def _always_on_missing(problem: OfflineProblem, solution: OfflineSolution) -> list[str]:
    """GPUs always on are usable throughout [0, horizon), or as soon as one that is starting at 0 can be."""
    if problem.horizon_us == 0:
        return []
    gpu, startup = solution.span_gpu, _startup_us(problem)
    known = problem.gpu_on_us != NEVER_ON
    soonest = np.maximum(0, np.where(known, problem.gpu_on_us, problem.soonest_on_us) + startup)
    throughout = (solution.span_on_us + startup[gpu] <= soonest[gpu]) & (solution.span_off_us >= problem.horizon_us)
    missing = problem.gpu_always_on.copy()
    missing[gpu[throughout]] = False
    return _report(missing, lambda g: f"GPU {g} must be usable throughout [0, {problem.horizon_us}) us")


def _rows_at(
    sorted_gpu: npt.NDArray[np.int32], sorted_us: Int64Array, gpu: npt.NDArray[np.int32], at_us: Int64Array
) -> tuple[Int64Array, BoolArray]:
    """Last row of a table sorted by (gpu, time) at or before each (gpu, instant), and whether there is one."""
    low = min(int(sorted_us.min(initial=0)), int(at_us.min(initial=0)))
    width = max(int(sorted_us.max(initial=0)), int(at_us.max(initial=0))) - low + 1
    keys = sorted_gpu.astype(np.int64) * width + (sorted_us - low)
    row = np.searchsorted(keys, gpu.astype(np.int64) * width + (at_us - low), side="right") - 1
    exists = row >= 0
    row = np.maximum(row, 0)
    if len(keys):
        exists &= sorted_gpu[row] == gpu
    return row, exists


def _pieces_off_their_spans(problem: OfflineProblem, solution: OfflineSolution) -> list[str]:
    """A session is only on a GPU that is paid and past its start-up."""
    gpu, start, end = solution.piece_gpu, solution.piece_start_us, solution.piece_end_us
    row, usable = _rows_at(solution.span_gpu, solution.span_on_us, gpu, start)
    if len(solution.span_gpu):
        usable &= solution.span_on_us[row] + _startup_us(problem)[gpu] <= start
        usable &= end <= solution.span_off_us[row]
    return _report(~usable, lambda i: f"piece {i}: GPU {gpu[i]} is not usable throughout [{start[i]}, {end[i]}) us")


def _away_from_home(problem: OfflineProblem, solution: OfflineSolution) -> list[str]:
    """A session that some GPU holds at time 0 begins there, or begins later."""
    period, gpu = solution.piece_period, solution.piece_gpu
    home = problem.home[period]
    away = (home >= 0) & (solution.piece_start_us == 0) & (gpu != home)
    return _report(away, lambda i: f"piece {i}: period {period[i]} is on GPU {home[i]} at 0, not on GPU {gpu[i]}")


def _contents_that_do_not_fit(problem: OfflineProblem, line: Timeline) -> list[str]:
    """Each content was measured, and its states fit into memory, at every instant."""
    gpu_type = problem.gpu_type[line.gpu]
    unmeasured = np.zeros(len(line.gpu), dtype=np.bool_)
    too_large = np.zeros(len(line.gpu), dtype=np.bool_)
    for type_index, limits in enumerate(problem.types):
        here = gpu_type == type_index
        unmeasured |= here & ~np.isfinite(limits.costs.latency_ms(line.counts))[line.content]
        too_large |= here & (limits.memory_used_gib(line.counts) > limits.memory_gib + TOLERANCE)[line.content]

    def held(i: int) -> str:
        return f"GPU {line.gpu[i]} holds {line.counts[line.content[i]].tolist()} per class from {line.start_us[i]} us"

    return [
        *_report(unmeasured, lambda i: f"{held(i)}: more than its batches allow"),
        *_report(too_large, lambda i: f"{held(i)}: more than its memory"),
    ]


def _moves_off_the_grid(problem: OfflineProblem, moves: Migrations) -> list[str]:
    """A change of GPU inside a period happens at an epoch boundary."""
    return _report(
        moves.at_us % problem.epoch_us != 0,
        lambda i: (
            f"period {moves.period[i]} moves to GPU {moves.target[i]} at {moves.at_us[i]} us, "
            f"must be a multiple of {problem.epoch_us} us"
        ),
    )


def _moves_over_budget(problem: OfflineProblem, moves: Migrations) -> list[str]:
    """Moves, GiB, and moves out of and into each GPU, per epoch boundary."""
    budget = problem.budget
    instants, instant = np.unique(moves.at_us, return_inverse=True)
    count = np.bincount(instant, minlength=len(instants))
    state_gib = np.array(problem.state_gib, dtype=np.float64)[problem.class_index[moves.period]]
    gib = np.bincount(instant, weights=state_gib, minlength=len(instants))
    found = _report(
        count > budget.moves, lambda i: f"{count[i]} migrations at {instants[i]} us, at most {budget.moves} are allowed"
    )
    found += _report(
        gib > budget.gib + TOLERANCE,
        lambda i: f"{gib[i]} GiB migrate at {instants[i]} us, at most {budget.gib} are allowed",
    )
    for gpu, limit, way in ((moves.source, budget.out_per_gpu, "leave"), (moves.target, budget.in_per_gpu, "enter")):
        found += _gpus_over_budget(gpu, moves.at_us, limit, way)
    return found


def _gpus_over_budget(gpu: npt.NDArray[np.int32], at_us: Int64Array, limit: int, way: str) -> list[str]:
    pairs, sizes = np.unique(np.stack([at_us, gpu], axis=1), axis=0, return_counts=True)
    return _report(
        sizes > limit,
        lambda i: f"{sizes[i]} sessions {way} GPU {pairs[i, 1]} at {pairs[i, 0]} us, at most {limit} may",
    )


def _memory_during_moves(problem: OfflineProblem, line: Timeline, moves: Migrations) -> list[str]:
    """At the instant of a migration its source holds the leaving state besides those of all sessions then on it."""
    if not len(moves):
        return []
    state_gib = np.array(problem.state_gib, dtype=np.float64)
    order = np.lexsort((moves.at_us, moves.source))
    gpu, at_us = moves.source[order], moves.at_us[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (gpu[1:] != gpu[:-1]) | (at_us[1:] != at_us[:-1])
    leaving = np.add.reduceat(state_gib[problem.class_index[moves.period[order]]], np.flatnonzero(first))
    gpu, at_us = gpu[first], at_us[first]
    row, exists = _rows_at(line.gpu, line.start_us, gpu, at_us)
    exists &= at_us < line.end_us[row]
    staying = np.where(exists, (line.counts @ state_gib)[line.content[row]], 0.0)
    memory = np.array([limits.memory_gib for limits in problem.types])[problem.gpu_type[gpu]]
    return _report(
        leaving + staying > memory + TOLERANCE,
        lambda i: (
            f"GPU {gpu[i]} holds {leaving[i] + staying[i]} GiB at {at_us[i]} us while sessions leave, "
            f"its memory is {memory[i]} GiB"
        ),
    )
