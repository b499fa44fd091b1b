"""Pages of runs and comparisons in a real browser: every plot drawn, nothing fetched, nothing complained of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from scheduler.compare import Cell, Run, compare
from scheduler.report.compare_page import render_comparison
from scheduler.report.run_page import render_run
from scheduler.simulation.outcome import Outcome
from tests.scheduler.browser import FITS, Opened, needs_chromium, running_browser
from tests.scheduler.outcomes import an_outcome, seeded
from tests.scheduler.report_plans import Shape, with_frontier

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_chromium
PLOTLY_BYTES_MAX = 5_000_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


def a_comparison_page(policies: dict[str, float], seeds: int = 2, traces: tuple[str, ...] = ("a.csv", "b.csv")) -> str:
    """`policies` name -> how much slower than the target they are."""
    runs, plans = [], []
    for index, trace in enumerate(traces):
        for number, (policy, slower) in enumerate(policies.items()):
            shape = Shape(horizon_s=1800.0, moves=5, seed=number + 1)
            outcome, fleet, _, plan = an_outcome(shape, policy=policy, slower=slower)
            outcome = replace(outcome, summary=replace(outcome.summary, trace=trace))
            for seed in range(seeds):
                one = seeded(outcome, seed, 1 + 0.02 * seed)
                kept = one if seed == 0 else None
                cell = Cell(trace=index, policy=policy, seed=seed)
                runs.append(Run(cell=cell, summary=one.summary, outcome=kept))
        plans.append(with_frontier(replace(plan, trace_name=trace)))
    return render_comparison(compare(runs, plans, traces), fleet, traces)


def check(opened: Opened, plots: int) -> None:
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len(opened.page.query_selector_all(".js-plotly-plot")) == plots
    assert opened.drawn() >= plots - 1  # the swim-lanes' time axis holds nothing
    for width in (1440, 1100):
        opened.page.set_viewport_size({"width": width, "height": 900})
        opened.page.wait_for_function(FITS, timeout=10_000)
        assert opened.overflow_px() <= 0
    assert opened.complaints == []


def test_the_page_of_a_run_draws_every_plot(browser: Browser, tmp_path: Path) -> None:
    outcome, fleet, _, plan = an_outcome(slower=1.5)
    opened = Opened(browser, render_run(outcome, fleet, plan), tmp_path)
    with opened.page as page:
        check(opened, plots=9)
        header = page.inner_text("header")
        for text in ("epochal on evening-peak.parquet", "above the bound of", "Late chunks", "session-s"):
            assert text in header
        lines = page.evaluate("document.querySelector('[data-figure=demand]').data.map((trace) => trace.name)")
        assert "GPUs on in the offline optimum" in lines


def test_a_run_without_optimum_clock_or_moves_draws_the_rest(browser: Browser, tmp_path: Path) -> None:
    outcome, fleet, _, _ = an_outcome(Shape(horizon_s=600.0, moves=0))
    tables = outcome.tables
    bare = replace(
        tables,
        moves=tables.moves.clear(),
        stays=tables.stays.filter(pl.col("status") == "active"),
        decisions=tables.decisions.with_columns(planning_ms=pl.lit(None, pl.Float64), gap=pl.lit(None, pl.Float64)),
    )
    opened = Opened(browser, render_run(Outcome(summary=outcome.summary, tables=bare), fleet), tmp_path)
    with opened.page as page:
        check(opened, plots=7)
        assert page.query_selector_all("#planning") == []


def test_a_long_run_adds_little_to_the_page(browser: Browser, tmp_path: Path) -> None:
    shape = Shape(horizon_s=86_400.0, active_s_mean=120, moves=500)
    outcome, fleet, _, plan = an_outcome(shape, gpus=24)
    assert outcome.tables.stays.height > 100_000
    text = render_run(outcome, fleet, plan)
    assert len(text.encode()) < PLOTLY_BYTES_MAX + 2_500_000
    opened = Opened(browser, text, tmp_path)
    with opened.page:
        check(opened, plots=10)


def test_pointing_at_a_suspended_session_tells_which(browser: Browser, tmp_path: Path) -> None:
    outcome, fleet, _, _ = an_outcome(Shape(horizon_s=600.0, moves=0), gpus=1)
    session = outcome.tables.stays.filter(pl.col("status") == "active").row(0, named=True)["session_id"]
    stay = {"session_id": session, "status": "suspended", "gpu_id": None, "start_s": 0.0, "end_s": 500.0}
    stays = pl.concat(
        [
            outcome.tables.stays.filter(pl.col("gpu_id").is_not_null()),
            pl.DataFrame([stay], schema=outcome.tables.stays.schema),
        ]
    )
    opened = Opened(browser, render_run(replace(outcome, tables=replace(outcome.tables, stays=stays)), fleet), tmp_path)
    with opened.page as page:
        box = page.locator("#lanes").bounding_box()
        assert box is not None
        lanes = outcome.tables.gpus["gpu_id"].n_unique() + 1  # the last one is that of the suspended
        page.locator("#lanes").hover(position={"x": box["width"] * 0.5, "y": box["height"] * (1 - 0.5 / lanes)})
        told = page.inner_text("#lanes-tip")
        assert f"Session {session}" in told
        assert "suspended" in told


def test_a_comparison_shows_one_trace_at_a_time(browser: Browser, tmp_path: Path) -> None:
    opened = Opened(browser, a_comparison_page({"hpa": 1.6, "turboserve": 1.2, "epochal": 1.0}), tmp_path)
    with opened.page as page:
        check(opened, plots=2 * 8 + 4)
        assert page.is_visible("#cost0")
        assert not page.is_visible("#cost1")
        page.click("[data-choose='1']")
        assert page.is_visible("#cost1")
        assert not page.is_visible("#cost0")
        page.wait_for_function(FITS, timeout=10_000)
        assert "±" in page.inner_text("[data-panel='1'] table")
        assert opened.complaints == []


def test_one_policy_and_one_seed_are_a_comparison_too(browser: Browser, tmp_path: Path) -> None:
    opened = Opened(browser, a_comparison_page({"hpa": 9.0}, seeds=1, traces=("a.csv",)), tmp_path)
    with opened.page as page:
        check(opened, plots=8 + 4)
        assert page.query_selector_all("#traces") == []


def test_names_from_the_input_are_text_and_never_markup(browser: Browser, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    opened = Opened(browser, a_comparison_page({evil: 1.2, "hpa": 1.0}, traces=(evil,)), tmp_path)
    with opened.page as page:
        assert opened.complaints == []
        assert page.query_selector_all("img") == []
        assert page.inner_text("h1") == evil
