"""Swim-lanes: which bars are drawn on which lane, in which windows, and the heat-map where they would be too many.

Decides how much of a schedule a screen can show; must never know colours or markup.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from scheduler.report.schedule import US_PER_S, Float, Int, Schedule
from scheduler.report.steps import bin_edges_us, overlaps

BARS_MAX = 20_000  # in one picture of the whole schedule
WINDOW_BARS_MAX = 5_000
WHOLE = "Whole trace"  # title of a window
HEAT_ROWS_MAX = 600
HEAT_BINS_MAX = 600
_WINDOWS_S = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800)
_SHORTEST_WINDOW_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """Bars of one window: [n] each, with `lane` counting the GPUs shown, from the top."""

    title: str
    start_us: int
    end_us: int
    gpu_index: Int  # [lanes]: GPUs shown
    slots: int  # bars that fit above each other in a lane
    lane: Int  # [n]
    slot: Int  # [n]
    placed_index: Int  # [n]: row of the schedule's placements
    on_lane: Int  # [i]
    on_index: Int  # [i]: row of the schedule's on-intervals
    move_index: Int  # [v]: migrations in the window, between GPUs shown


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """How full GPUs are: per cent of seats used while on, -1 where off. [rows, bins], a row is `gpus_per_row` GPUs."""

    edges_us: Int  # [bins + 1]
    percent: np.ndarray[tuple[int, int], np.dtype[np.int8]]
    gpus_per_row: int


def is_crowded(schedule: Schedule) -> bool:
    """Whether the whole schedule has more bars than one picture should."""
    return len(schedule.placed.gpu_index) > BARS_MAX


def windows_of(schedule: Schedule) -> tuple[Lanes, ...]:
    """The whole schedule where it fits; else a few windows of equal length, the busiest one first."""
    if not is_crowded(schedule):
        return (_lanes(schedule, WHOLE, schedule.start_us, schedule.end_us),)
    length_us = _window_us(schedule)
    whole = max(int(schedule.periods.end_us.max()) // length_us, 1)  # a last, shorter window is never chosen
    edges_us = np.arange(whole + 1, dtype=np.int64) * length_us
    cut = overlaps(schedule.placed.start_us, schedule.placed.end_us, edges_us)
    busy = np.bincount(cut.bin, cut.seconds, len(edges_us) - 1)
    moves = np.histogram(schedule.moves.at_us, edges_us)[0]
    on = schedule.on
    switches = np.histogram(np.concatenate([on.on_us, on.off_us]), edges_us)[0]
    chosen: dict[int, str] = {int(busy.argmax()): "Busiest"}
    if moves.any():
        chosen.setdefault(int(moves.argmax()), "Most migrations")
    if switches.any():
        chosen.setdefault(int(switches.argmax()), "Most switching")
    chosen.setdefault(int(np.where(busy > 0, busy, np.inf).argmin()), "Quietest")
    return tuple(
        _lanes(schedule, title, int(edges_us[index]), int(edges_us[index + 1])) for index, title in chosen.items()
    )


def _window_us(schedule: Schedule) -> int:
    """The longest round window of which the fullest holds no more bars than allowed; at least a minute."""
    start_us, end_us = schedule.placed.start_us, schedule.placed.end_us
    for window_s in reversed(_WINDOWS_S):
        edges_us = np.arange(0, int(end_us.max()) + window_s * US_PER_S, window_s * US_PER_S, dtype=np.int64)
        started = np.searchsorted(np.sort(start_us), edges_us[1:], side="left")
        ended = np.searchsorted(np.sort(end_us), edges_us[:-1], side="right")
        if (started - ended).max() <= WINDOW_BARS_MAX:
            return window_s * US_PER_S
    return _SHORTEST_WINDOW_S * US_PER_S


def _lanes(schedule: Schedule, title: str, start_us: int, end_us: int) -> Lanes:
    placed, on, moves = schedule.placed, schedule.on, schedule.moves
    on_index = np.flatnonzero((on.on_us < end_us) & (on.off_us > start_us))
    shown = np.unique(on.gpu_index[on_index])
    lane_of = np.full(len(schedule.gpus.gpu_id), -1, np.int64)
    lane_of[shown] = np.arange(len(shown))
    drawn = np.flatnonzero((placed.start_us < end_us) & (placed.end_us > start_us) & (lane_of[placed.gpu_index] >= 0))
    drawn = _longest_first(drawn, placed.end_us - placed.start_us)
    lane = lane_of[placed.gpu_index[drawn]]
    order = np.lexsort((placed.start_us[drawn], lane))
    drawn, lane = drawn[order], lane[order]
    slot = lowest_free_slots(lane, placed.start_us[drawn], placed.end_us[drawn])
    moved = np.flatnonzero((moves.at_us >= start_us) & (moves.at_us < end_us))
    both_shown = (lane_of[moves.source_index[moved]] >= 0) & (lane_of[moves.target_index[moved]] >= 0)
    return Lanes(
        title=title,
        start_us=start_us,
        end_us=end_us,
        gpu_index=shown,
        slots=int(slot.max(initial=0)) + 1,
        lane=lane,
        slot=slot,
        placed_index=drawn,
        on_lane=lane_of[on.gpu_index[on_index]],
        on_index=on_index,
        move_index=moved[both_shown],
    )


def _longest_first(drawn: Int, length_us: Int) -> Int:
    """Where even the shortest window is too full, the longest bars are what can be seen."""
    if len(drawn) <= BARS_MAX:
        return drawn
    return drawn[np.argsort(-length_us[drawn], kind="stable")[:BARS_MAX]]


def lowest_free_slots(lane: Int, start_us: Int, end_us: Int) -> Int:
    """The lowest free row within its lane for each bar, by (lane, start)."""
    slot = np.zeros(len(lane), np.int64)
    current = -1
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    for index, (on_lane, start, end) in enumerate(zip(lane.tolist(), start_us.tolist(), end_us.tolist(), strict=True)):
        if on_lane != current:
            current, busy, free = on_lane, [], []
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        slot[index] = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, int(slot[index])))
    return slot


def heat_map(schedule: Schedule) -> HeatMap:
    """Seats used over seats paid for, per GPU (or group of neighbouring GPUs) and bin of the whole schedule."""
    edges_us = bin_edges_us(schedule.start_us, schedule.end_us, HEAT_BINS_MAX)
    bins, gpus = len(edges_us) - 1, len(schedule.gpus.gpu_id)
    per_row = -(-gpus // HEAT_ROWS_MAX)
    rows = -(-gpus // per_row)

    def painted(gpu_index: Int, start_us: Int, end_us: Int, weight: Float | None) -> Float:
        cut = overlaps(start_us, end_us, edges_us)
        seconds = cut.seconds if weight is None else cut.seconds * weight[cut.row]
        cell = gpu_index[cut.row] // per_row * bins + cut.bin
        return np.bincount(cell, seconds, rows * bins).astype(float).reshape(rows, bins)

    on, contents = schedule.on, schedule.contents
    paid = painted(on.gpu_index, on.on_us, on.off_us, None)
    used = painted(contents.gpu_index, contents.start_us, contents.end_us, np.minimum(schedule.load, 1.0))
    percent = np.where(paid > 0, np.rint(100 * np.divide(used, paid, out=np.zeros_like(used), where=paid > 0)), -1)
    return HeatMap(edges_us=edges_us, percent=np.clip(percent, -1, 100).astype(np.int8), gpus_per_row=per_row)
