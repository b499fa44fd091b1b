"""Swim-lanes: no two bars on top of each other, never too many of them, and a heat-map that adds up."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.report.lanes import BARS_MAX, WINDOW_BARS_MAX, Lanes, heat_map, is_crowded, windows_of
from scheduler.report.schedule import Schedule, schedule_of
from tests.scheduler.report_plans import Shape, a_fleet, a_plan

PROFILES = ("wan-1.3b-480p", "longlive-2-5b")


@pytest.fixture(scope="module")
def crowded() -> Schedule:
    shape = Shape(horizon_s=28_800.0, active_s_mean=60, idle_s_mean=10, slots={"h100": 4}, moves=80, base_share=1.0)
    return schedule_of(*a_plan(a_fleet(PROFILES, pools={"h100": 24}), shape))


def _assert_no_bars_overlap(schedule: Schedule, window: Lanes) -> None:
    row = window.lane * window.slots + window.slot
    start, end = schedule.placed.start_us[window.placed_index], schedule.placed.end_us[window.placed_index]
    order = np.lexsort((start, row))
    same = row[order][1:] == row[order][:-1]
    assert (start[order][1:][same] >= end[order][:-1][same]).all()
    assert (window.slot < window.slots).all()


def test_a_small_schedule_is_drawn_whole() -> None:
    schedule = schedule_of(*a_plan(a_fleet(PROFILES, pools={"h100": 8}), Shape(horizon_s=3600.0, moves=10)))
    (window,) = windows_of(schedule)
    assert not is_crowded(schedule)
    assert sorted(window.placed_index.tolist()) == list(range(len(schedule.placed.gpu_index)))
    assert len(window.move_index) == 10
    assert (window.gpu_index[window.lane] == schedule.placed.gpu_index[window.placed_index]).all()
    _assert_no_bars_overlap(schedule, window)


def test_a_crowded_schedule_is_shown_in_windows_of_bounded_size_busiest_first(crowded: Schedule) -> None:
    assert len(crowded.placed.gpu_index) > BARS_MAX
    windows = windows_of(crowded)
    assert windows[0].title == "Busiest"
    assert len(windows) >= 2
    for window in windows:
        assert 0 < len(window.lane) <= WINDOW_BARS_MAX
        start, end = crowded.placed.start_us, crowded.placed.end_us
        inside = np.flatnonzero((start < window.end_us) & (end > window.start_us))
        assert sorted(window.placed_index.tolist()) == inside.tolist()
        _assert_no_bars_overlap(crowded, window)


def test_heat_map_holds_the_used_seat_time_and_marks_what_is_off(crowded: Schedule) -> None:
    heat = heat_map(crowded)
    assert heat.gpus_per_row == 1
    contents = crowded.contents
    length_s = (contents.end_us - contents.start_us) / 1e6
    used = (np.minimum(crowded.load, 1.0) * length_s)[contents.gpu_index == 3].sum()
    (on,) = np.flatnonzero(crowded.on.gpu_index == 3)
    shown = heat.percent[3]
    off_us = np.minimum(crowded.on.off_us[on], heat.edges_us[1:])
    paid_s = (off_us - np.maximum(crowded.on.on_us[on], heat.edges_us[:-1])) / 1e6
    assert (shown * paid_s / 100)[shown >= 0].sum() == pytest.approx(used, rel=0.01)


def test_gpus_beyond_the_rows_of_a_heat_map_share_rows() -> None:
    shape = Shape(horizon_s=600.0, moves=0, slots={"h100": 1})
    heat = heat_map(schedule_of(*a_plan(a_fleet(pools={"h100": 1208}), shape)))
    assert heat.gpus_per_row == 3
    assert len(heat.percent) == 403


def test_a_gpu_that_is_off_is_not_an_empty_one() -> None:
    plan, trace = a_plan(a_fleet(pools={"h100": 16}), Shape(active_s_mean=600, idle_s_mean=60, base_share=0.25))
    heat = heat_map(schedule_of(plan, trace))
    assert (heat.percent[0] >= 0).all()
    assert (heat.percent[-1] == -1).any()
