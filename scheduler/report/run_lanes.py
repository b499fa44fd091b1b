"""Swim-lanes of a run: those of its GPUs, with rows below for sessions that are suspended or wait.

Decides how many rows there are below and which moves are drawn; must never know how the browser draws them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scheduler.report import theme
from scheduler.report.lane_payload import lane_px, packed_window, window_arrays
from scheduler.report.lanes import BARS_MAX, Lanes, lowest_free_slots
from scheduler.report.run_schedule import Below, RunSchedule, kinds_of
from scheduler.report.schedule import Int
from scheduler.report.theme import clock_ms

HOST_MOVES_MAX = 400  # resumes and offloads in one picture; more would hide it
_ROWS_MAX = 3  # per status below


def run_window(run: RunSchedule, lanes: Lanes) -> dict[str, Any]:
    """One window of a run, packed for the page's script."""
    arrays = window_arrays(run.schedule, lanes, run.session_ids, run.moved_from_us)
    _put_active_above_idle(arrays, run, lanes)
    on_gpus = len(lanes.gpu_index)
    row_of: dict[str, int] = {}
    for below in run.below:
        row_of[below.name] = len(arrays["gpus"])
        _add_rows(arrays, below, lanes, run)
    _add_host_moves(arrays, run, lanes, row_of["suspended"])
    arrays["px"] = lane_px(len(arrays["gpus"]), lanes.slots)
    if len(arrays["gpus"]) > on_gpus:
        below_count = len(arrays["gpus"]) - on_gpus
        arrays["groups"].append({"first": on_gpus, "count": below_count, "type": "on no GPU", "node": ""})
    return packed_window(arrays)


def kind_colours(run: RunSchedule) -> list[dict[str, str]]:
    """Name and colour of each kind of bar: idle is a tint of its profile's colour."""
    fleet = run.schedule.fleet
    colours: list[str] = []
    for colour in theme.profile_colours(len(fleet.profiles)):
        colours += [colour, theme.tint(colour)]
    colours += [theme.SUSPENDED, theme.UNSERVED]
    return [{"name": name, "colour": colour} for name, colour in zip(kinds_of(fleet), colours, strict=True)]


def _put_active_above_idle(arrays: dict[str, Any], run: RunSchedule, lanes: Lanes) -> None:
    """In each lane active sessions get two thirds of the height; idle ones, which may be many, get the rest."""
    placed, bars = run.schedule.placed, lanes.placed_index
    start_us, end_us = placed.start_us[bars], placed.end_us[bars]
    idle = placed.profile_index[bars] % 2 == 1
    slot = np.zeros(len(bars), np.int64)
    for mine in (idle, ~idle):
        slot[mine] = lowest_free_slots(lanes.lane[mine], start_us[mine], end_us[mine])
    active_rows, idle_rows = int(slot[~idle].max(initial=0)) + 1, int(slot[idle].max(initial=-1)) + 1
    high = max(-(-2 * idle_rows // active_rows), 1)
    arrays["bars"]["slot"] = np.where(idle, active_rows * high + slot, high * slot)
    arrays["bars"]["high"] = np.where(idle, 1, high)
    arrays["slots"] = [active_rows * high + idle_rows] * len(arrays["gpus"])


def _add_rows(arrays: dict[str, Any], below: Below, lanes: Lanes, run: RunSchedule) -> None:
    """The stays of one status, in as many rows as show them well, at most `_ROWS_MAX`."""
    index = np.flatnonzero((below.start_us < lanes.end_us) & (below.end_us > lanes.start_us))
    if len(index) > BARS_MAX:
        longest = np.argsort(below.start_us[index] - below.end_us[index], kind="stable")[:BARS_MAX]
        index = np.sort(index[longest])
    if not len(index):
        return
    start_us, end_us = below.start_us[index], below.end_us[index]
    slot = lowest_free_slots(np.zeros(len(index), np.int64), start_us, end_us)
    height = int(slot.max()) + 1
    rows = min(-(-height // max(lanes.slots, 4)), _ROWS_MAX)
    per_row = -(-height // rows)
    first = len(arrays["gpus"])
    arrays["gpus"] += [below.name if row == 0 else "" for row in range(rows)]
    arrays["slots"] += [per_row] * rows
    _append(
        arrays["bars"],
        lane=first + slot // per_row,
        slot=slot % per_row,
        high=np.ones(len(index)),
        profile=np.full(len(index), below.kind),
        start=clock_ms(start_us),
        end=clock_ms(end_us),
    )
    arrays["bars"]["session"] += run.session_ids.gather(below.session_index[index]).to_list()
    by_lane = np.argsort(arrays["bars"]["lane"], kind="stable")
    for name, values in arrays["bars"].items():
        arrays["bars"][name] = [values[i] for i in by_lane] if name == "session" else values[by_lane]


def _add_host_moves(arrays: dict[str, Any], run: RunSchedule, lanes: Lanes, suspended_row: int) -> None:
    """Resumes come from the first row of the suspended, offloads go to it."""
    moves = run.host_moves
    lane_of = np.full(len(run.schedule.gpus.gpu_id), -1, np.int64)
    lane_of[lanes.gpu_index] = np.arange(len(lanes.gpu_index))
    lane = lane_of[moves.gpu_index]
    inside = (moves.end_us >= lanes.start_us) & (moves.end_us < lanes.end_us) & (lane >= 0)
    drawn = np.flatnonzero(inside)
    no_row = suspended_row >= len(arrays["gpus"]) or arrays["gpus"][suspended_row] != "suspended"
    if no_row or len(drawn) > HOST_MOVES_MAX:
        return
    host = np.full(len(drawn), suspended_row)
    resumed = moves.resumes[drawn]
    _append(
        arrays["moves"],
        **{
            "from": clock_ms(moves.start_us[drawn]),
            "at": clock_ms(moves.end_us[drawn]),
            "source": np.where(resumed, host, lane[drawn]),
            "target": np.where(resumed, lane[drawn], host),
            "host": np.ones(len(drawn)),
        },
    )


def _append(part: dict[str, Any], **more: Int | np.ndarray[Any, Any]) -> None:
    for name, values in more.items():
        part[name] = np.concatenate([part[name], values])
