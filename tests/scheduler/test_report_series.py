"""The numbers behind the report's pictures, on schedules small enough to count by hand and on random ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.offline_plan import GPUS_SCHEMA, NEEDED_SCHEMA, PLACEMENTS_SCHEMA, OfflinePlan
from scheduler.report.bound import needed_of
from scheduler.report.gpu_table import gpu_rows
from scheduler.report.schedule import Schedule, schedule_of
from scheduler.report.series import cost_parts, cost_series, demand_series, latency_series
from scheduler.report.steps import bin_edges_us, overlaps, steps_of, weighted_quantile_in
from tests.scheduler.report_plans import a_fleet, one_session_plan
from traces.trace import PERIODS_SCHEMA, SESSIONS_SCHEMA, Trace

PROFILES = ("wan-1.3b-480p", "self-forcing-14b")  # 215, 305, ... ms and 375, 640, ... ms
INTERVALS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=0, max_size=20)


def _edges(*seconds: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(seconds, np.int64) * 1_000_000


def _small(gpu_types: dict[str, int] | None = None) -> tuple[OfflinePlan, Trace]:
    """a: 0-10 on g0, moves to g1 until 20; b (the other profile): 0-10 on g0; c: 12-20, unserved until 15."""
    template, _ = one_session_plan()
    fleet = a_fleet(PROFILES, pools={"h100": 2} if gpu_types is None else gpu_types, target_ms=500.0)
    sessions = pl.DataFrame(
        {"session_id": ["a", "b", "c"], "profile": [None, PROFILES[1], PROFILES[0]], "tenant": None, "priority": 0},
        schema=SESSIONS_SCHEMA,
    )
    periods = pl.DataFrame(
        {"session_index": [0, 1, 2], "start_us": _edges(0, 0, 12), "end_us": _edges(20, 10, 20)}, schema=PERIODS_SCHEMA
    )
    second = "h100" if gpu_types is None else "l40s"
    gpus = [("g0", "h100", "0/0", -60.0, 10.0), ("g1", second, "0/1", -55.0, 20.0)]
    placements = [("a", "g0", 0.0, 10.0), ("b", "g0", 0.0, 10.0), ("a", "g1", 10.0, 20.0), ("c", "g1", 15.0, 20.0)]
    needed = [(0, 0.0, [0.25, 0.5], [0.5] * len(fleet.gpu_types)), (3, 15.0, [0.5, 0.5], [1.0] * len(fleet.gpu_types))]
    plan = replace(
        template,
        fleet=fleet,
        gpus=pl.DataFrame(gpus, schema=GPUS_SCHEMA, orient="row"),
        placements=pl.DataFrame(placements, schema=PLACEMENTS_SCHEMA, orient="row"),
        needed=pl.DataFrame(needed, schema=NEEDED_SCHEMA, orient="row"),
    )
    return plan, Trace(name="small", sha256="0" * 64, sessions=sessions, periods=periods)


def _schedule() -> Schedule:
    return schedule_of(*_small())


def test_a_change_of_gpu_inside_a_period_is_a_migration_that_costs_its_transfer() -> None:
    moves = _schedule().moves
    assert (moves.at_us.tolist(), moves.source_index.tolist(), moves.target_index.tolist()) == ([10_000_000], [0], [1])
    transfer_s = 0.008 + 3.2 * 2**30 / 35e9  # between two nodes
    assert moves.dollars == pytest.approx([transfer_s / 3600 * 2.5])


def test_resuming_on_another_gpu_after_idling_is_no_migration() -> None:
    plan, trace = _small()
    periods = pl.DataFrame(
        {"session_index": [0, 1, 0, 2], "start_us": _edges(0, 0, 10, 12), "end_us": _edges(9, 10, 20, 20)},
        schema=PERIODS_SCHEMA,
    )
    placements = plan.placements.with_columns(
        end_s=pl.when((pl.col("session_id") == "a") & (pl.col("gpu_id") == "g0")).then(9.0).otherwise(pl.col("end_s"))
    )
    schedule = schedule_of(replace(plan, placements=placements), replace(trace, periods=periods))
    assert len(schedule.moves.at_us) == 0


def test_latency_is_worst_p99_and_mean_of_session_time() -> None:
    series = latency_series(_schedule(), _edges(0, 10, 20, 30))
    assert series.worst_ms[:2].tolist() == [590.0, 305.0]  # 215 + 375, then two of the first profile
    assert series.p99_ms[:2].tolist() == [590.0, 305.0]
    assert series.mean_ms[:2] == pytest.approx([590.0, (5 * 215 + 2 * 5 * 305) / 15])
    assert np.isnan(series.worst_ms[2])
    assert np.isnan(series.p99_ms[2])
    assert np.isnan(series.mean_ms[2])


def test_late_and_unserved_sessions_are_counted_in_their_bin() -> None:
    series = latency_series(_schedule(), _edges(0, 10, 20))
    assert series.late_mean == pytest.approx([2.0, 0.0])
    assert series.unserved_mean == pytest.approx([0.0, 0.3])


def test_a_maximum_shorter_than_its_bin_stays_the_maximum() -> None:
    series = latency_series(_schedule(), _edges(0, 1000))
    assert series.worst_ms.tolist() == [590.0]


def test_gpus_needed_are_rounded_up_and_the_largest_of_an_epoch() -> None:
    plan, trace = _small()
    schedule = schedule_of(plan, trace)
    needed = needed_of(schedule, plan.needed)
    assert needed.gpus is not None
    assert needed.gpus.at(_edges(-1, 0, 4, 5, 15, 19, 20)).tolist() == [0, 2, 2, 0, 1, 1, 0]
    series = demand_series(schedule, needed, _edges(0, 10, 20))
    assert series.sessions_mean.tolist() == [[1.0, 1.8], [1.0, 0.0]]
    assert series.sessions_max.tolist() == [2.0, 2.0]
    assert series.gpus_max.tolist() == [[2.0, 1.0]]
    assert series.paid_per_hour == pytest.approx([5.0, 2.5])


def test_demand_ends_at_the_end_of_a_half_open_period() -> None:
    plan, trace = _small()
    row = pl.DataFrame([(2, 10.0, [1.0, 1.0], [1.0])], schema=NEEDED_SCHEMA, orient="row")
    needed = needed_of(schedule_of(plan, trace), row)
    assert needed.gpus is not None
    assert needed.gpus.at(_edges(10)).tolist() == [1.0]  # b ended there


def test_with_several_types_the_bound_is_the_cheapest_way_to_the_wanted_weight() -> None:
    plan, trace = _small({"h100": 1, "l40s": 1})
    row = pl.DataFrame([(0, 0.0, [0.25, 0.5], [1.0, 0.5])], schema=NEEDED_SCHEMA, orient="row")
    needed = needed_of(schedule_of(plan, trace), row)
    assert needed.gpus is None
    assert needed.dollars_per_hour.at(_edges(0)) == pytest.approx([0.75 * min(2.5 / 1.0, 0.85 / 0.5)])


def test_a_type_that_cannot_help_is_not_the_cheapest() -> None:
    plan, trace = _small({"h100": 1, "l40s": 1})
    row = pl.DataFrame([(0, 0.0, [0.25, 0.5], [1.0, 0.0])], schema=NEEDED_SCHEMA, orient="row")
    assert needed_of(schedule_of(plan, trace), row).dollars_per_hour.at(_edges(0)) == pytest.approx([0.75 * 2.5])


def test_a_certificate_without_rows_has_no_line() -> None:
    plan, trace = _small()
    needed = needed_of(schedule_of(plan, trace), pl.DataFrame(schema=NEEDED_SCHEMA))
    assert needed.gpus is None
    assert needed.dollars_per_hour.at(_edges(0, 5)).tolist() == [0.0, 0.0]


def test_parts_of_the_cost_sum_to_what_gpus_cost() -> None:
    schedule = _schedule()
    parts = cost_parts(schedule)
    assert parts.total == pytest.approx([(70 + 75) / 3600 * 2.5])
    assert parts.starting == pytest.approx([120 / 3600 * 2.5])
    assert parts.empty == pytest.approx([5 / 3600 * 2.5])  # g1 from 5 to 10
    # Seats within 500 ms: four of the first profile, one of the second; so g0 is loaded 1.25, g1 0.25 and then 0.5.
    assert parts.used == pytest.approx([(10 * 1.0 + 5 * 0.25 + 5 * 0.5) / 3600 * 2.5])


def test_cost_so_far_ends_at_the_cost_of_gpus_and_migrations() -> None:
    plan, trace = _small()
    schedule = schedule_of(plan, trace)
    series = cost_series(schedule, needed_of(schedule, plan.needed), _edges(-60, 0, 20))
    assert series.paid[-1] == pytest.approx(cost_parts(schedule).total.sum() + schedule.moves.dollars.sum())
    assert series.paid[0] == 0
    assert series.needed == pytest.approx([0.0, 0.0, (5 * 2 + 5 * 1) / 3600 * 2.5])


def test_the_table_says_what_each_gpu_did() -> None:
    dearest, other = gpu_rows(_schedule())
    assert (dearest.gpu_id, dearest.placements, dearest.moves_in, dearest.moves_out) == ("g1", 2, 1, 0)
    assert dearest.serving_share == pytest.approx(10 / 75)
    assert dearest.sessions_mean == pytest.approx(1.5)
    assert (other.gpu_id, other.latency_ms_max, other.moves_out) == ("g0", 590.0, 1)
    assert other.dollars == pytest.approx(70 / 3600 * 2.5)


def test_gpus_are_in_natural_order_within_type_and_node() -> None:
    plan, trace = _small({"h100": 1, "l40s": 1})
    extra = [("g10", "h100", "0/10", 0.0, 5.0), ("g9", "h100", "0/9", 0.0, 5.0), ("g2", "h100", "0/9", 0.0, 5.0)]
    gpus = pl.concat([plan.gpus, pl.DataFrame(extra, schema=GPUS_SCHEMA, orient="row")])
    assert schedule_of(replace(plan, gpus=gpus), trace).gpus.gpu_id == ("g0", "g2", "g9", "g10", "g1")


@given(intervals=INTERVALS, width=st.integers(1, 9))
def test_steps_have_the_mean_and_maximum_of_every_second(intervals: list[tuple[int, int]], width: int) -> None:
    painted = np.zeros(60)
    for start, length in intervals:
        painted[start : start + length] += 1
    starts = np.array([start for start, _ in intervals], np.int64) * 1_000_000
    lengths = np.array([length for _, length in intervals], np.int64) * 1_000_000
    steps = steps_of(starts, starts + lengths)
    edges = np.arange(0, 60 // width * width + 1, width)
    bins = painted[: edges[-1]].reshape(-1, width)
    assert steps.mean_in(edges * 1_000_000) == pytest.approx(bins.mean(axis=1))
    assert steps.max_in(edges * 1_000_000).tolist() == bins.max(axis=1).tolist()


@given(intervals=INTERVALS, width=st.integers(1, 9))
def test_overlaps_cut_intervals_at_bin_edges(intervals: list[tuple[int, int]], width: int) -> None:
    starts = np.array([start for start, _ in intervals], np.int64) * 1_000_000
    lengths = np.array([length for _, length in intervals], np.int64) * 1_000_000
    edges = np.arange(3, 60, width, dtype=np.int64) * 1_000_000
    cut = overlaps(starts, starts + lengths, edges)
    found = np.zeros((len(intervals), len(edges) - 1))
    np.add.at(found, (cut.row, cut.bin), cut.seconds)
    low = np.maximum(starts[:, None], edges[:-1])
    expected = np.maximum(np.minimum((starts + lengths)[:, None], edges[1:]) - low, 0) / 1e6
    assert found == pytest.approx(expected)
    assert (cut.seconds > 0).all()


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50), st.integers(1, 9)), min_size=1, max_size=40),
    quantile=st.sampled_from([0.5, 0.9, 0.99, 1.0]),
)
def test_weighted_quantile_is_that_of_repeated_values(rows: list[tuple[int, int, int]], quantile: float) -> None:
    bins, values, weights = (np.array(column) for column in zip(*rows, strict=True))
    found = weighted_quantile_in(values.astype(float), weights.astype(float), bins, 4, quantile)
    for index in range(4):
        inside = bins == index
        if not inside.any():
            assert np.isnan(found[index])
            continue
        repeated = np.repeat(values[inside], weights[inside])
        assert found[index] == np.quantile(repeated, quantile, method="inverted_cdf")


@given(start_s=st.integers(-600, 0), length_s=st.integers(1, 20 * 86_400), bins_max=st.integers(10, 1000))
def test_bins_cover_the_time_with_zero_on_the_grid(start_s: int, length_s: int, bins_max: int) -> None:
    start, end = start_s * 1_000_000, (start_s + length_s) * 1_000_000
    edges = bin_edges_us(start, end, bins_max)
    width = edges[1] - edges[0]
    assert edges[0] <= start < end <= edges[-1]
    assert (np.diff(edges) == width).all()
    assert len(edges) - 1 <= bins_max + 1
    assert edges[0] % width == 0
