"""The numbers behind the pictures of a run, on tables that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from scheduler.report.lanes import windows_of
from scheduler.report.run_lanes import run_window
from scheduler.report.run_schedule import kinds_of, run_schedule
from scheduler.report.run_series import (
    BINS_MAX,
    CDF_POINTS_MAX,
    first_chunk_cdf,
    latency_cdf,
    latency_over_time,
    planning_by_size,
    stall_cdf,
)
from scheduler.simulation.outcome import DECISIONS, EPOCHS, GPUS, LATENCIES, PERIODS, Tables
from tests.scheduler.outcomes import an_outcome
from tests.scheduler.report_plans import Shape


@pytest.fixture(scope="module")
def tables() -> Tables:
    return an_outcome(Shape(horizon_s=600.0, moves=4))[0].tables


def epochs(*rows: tuple[int, int, float | None]) -> pl.DataFrame:
    """(chunks, late, latency) of epochs of 5 s."""
    return pl.DataFrame(
        [
            (5.0 * index, 1, index, 0, 0, 1, 1, chunks, late, ms, ms, ms)
            for index, (chunks, late, ms) in enumerate(rows)
        ],
        schema=EPOCHS,
        orient="row",
    )


def test_latency_over_time_is_that_of_epochs_where_they_fit(tables: Tables) -> None:
    series = latency_over_time(replace(tables, epochs=epochs((4, 1, 400.0), (0, 0, None), (6, 0, 500.0))), 13.0)
    assert series.edges_us.tolist() == [0, 5_000_000, 10_000_000, 13_000_000]
    np.testing.assert_array_equal(series.worst_ms, [400, np.nan, 500])
    np.testing.assert_array_equal(series.late_ratio, [0.25, 0, 0])
    np.testing.assert_array_equal(series.waiting_max, [0, 1, 2])


def test_a_run_that_was_cut_before_an_epoch_ended_has_no_latency(tables: Tables) -> None:
    series = latency_over_time(replace(tables, epochs=epochs()), 2.5)
    assert series.edges_us.tolist() == [0, 2_500_000]
    assert np.isnan(series.worst_ms).all()
    assert not series.late_ratio.any()


def test_many_epochs_are_put_together_and_peaks_stay(tables: Tables) -> None:
    rows = [(10, 0, 300.0)] * (3 * BINS_MAX)
    rows[1234] = (30, 3, 900.0)
    series = latency_over_time(replace(tables, epochs=epochs(*rows)), 15.0 * BINS_MAX)
    assert len(series.worst_ms) <= BINS_MAX
    assert series.epochs_per_bin == 3
    assert series.worst_ms.max() == series.p99_ms.max() == 900
    assert series.p50_ms.max() == pytest.approx((30 * 900 + 20 * 300) / 50)
    assert series.late_ratio.max() == pytest.approx(3 / 50)


def test_a_distribution_ends_at_all_and_keeps_its_tail(tables: Tables) -> None:
    values = np.arange(1, 100_001, dtype=float)
    many = pl.DataFrame({"latency_ms": values, "chunks": np.ones(100_000, int)}, schema=LATENCIES)
    cdf = latency_cdf(replace(tables, latencies=many))
    assert len(cdf.value) <= CDF_POINTS_MAX + 2
    assert (cdf.value[-1], cdf.share[-1]) == (100_000, 1)
    assert (cdf.share > 0.9999).sum() > 5
    np.testing.assert_allclose(cdf.share[1:], cdf.value[1:] / 100_000)


def test_periods_without_a_chunk_have_no_first_chunk_and_no_stall(tables: Tables) -> None:
    periods = pl.DataFrame(
        [
            ("a", "p", 0.0, 9.0, 500.0, 9, 0, 0.0, 0.0),
            ("b", "p", 0.0, 9.0, 700.0, 9, 0, 2.0, 0.0),
            ("c", "p", 0.0, 9.0, None, 0, 0, 0.0, 9.0),
        ],
        schema=PERIODS,
        orient="row",
    )
    mine = replace(tables, periods=periods)
    assert first_chunk_cdf(mine).value.tolist() == [500, 500, 700]
    assert (stall_cdf(mine).value.tolist(), stall_cdf(mine).share.tolist()) == ([0, 0, 2], [0, 0.5, 1])


def test_steps_are_grouped_by_gpus_that_were_paid(tables: Tables) -> None:
    gpus = pl.DataFrame(
        [("g0", "h100", "0/0", -20.0, 0.0, 100.0, "horizon"), ("g1", "h100", "0/0", 50.0, None, 100.0, "horizon")],
        schema=GPUS,
        orient="row",
    )
    decisions = pl.DataFrame(
        [
            (at_s, False, planning_ms, "s", gap, None, 0, 0, 0)
            for at_s, planning_ms, gap in [(0.0, 10.0, 0.0), (25.0, 30.0, None), (60.0, None, 0.1)]
        ],
        schema=DECISIONS,
        orient="row",
    )
    found = planning_by_size(replace(tables, gpus=gpus, decisions=decisions))
    assert (found.gpus.tolist(), found.steps.tolist()) == ([1, 2], [2, 1])
    np.testing.assert_array_equal(found.planning_ms_p99, [30, np.nan])
    np.testing.assert_array_equal(found.gap_p99, [0, 0.1])


def test_bars_are_of_their_kind_and_nobody_is_lost() -> None:
    outcome, fleet, _, _ = an_outcome(Shape(horizon_s=600.0, moves=4))
    run = run_schedule(outcome.tables, fleet)
    kinds = kinds_of(fleet)
    bars = [kinds[kind].split(", ")[-1] for kind in run.schedule.placed.profile_index]
    bars += [kinds[below.kind] for below in run.below for _ in below.start_us]
    assert sorted(bars) == sorted(outcome.tables.stays["status"])
    window = run_window(run, windows_of(run.schedule)[0])
    assert len(window["bars"]["session"]) == outcome.tables.stays.height
    assert [name for name in window["gpus"] if name][-2:] == ["suspended", "waiting"]
    assert len(window["slots"]) == len(window["gpus"])


def test_a_run_without_a_stay_on_no_gpu_has_no_rows_below() -> None:
    outcome, fleet, _, _ = an_outcome(Shape(horizon_s=600.0, moves=4))
    tables = replace(outcome.tables, stays=outcome.tables.stays.filter(pl.col("gpu_id").is_not_null()))
    run = run_schedule(tables, fleet)
    assert set(run_window(run, windows_of(run.schedule)[0])["gpus"]) <= set(run.schedule.gpus.gpu_id)
