"""The report in a real browser: it draws everything, asks nobody, complains of nothing, and fits the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from scheduler.offline_plan import OfflinePlan
from scheduler.report import render_report
from tests.scheduler.browser import FITS, Opened, needs_chromium, running_browser
from tests.scheduler.report_plans import (
    PROFILE_MS,
    Shape,
    a_fleet,
    a_plan,
    minimizing_latency,
    one_session_plan,
    with_frontier,
)
from traces.trace import Trace

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_chromium
PROFILES = tuple(PROFILE_MS)
Cases = dict[str, Callable[[], tuple[OfflinePlan, Trace]]]


def _frontier() -> tuple[OfflinePlan, Trace]:
    plan, trace = a_plan(a_fleet(PROFILES[:2], pools={"h100": 8}), Shape(horizon_s=14_400.0, moves=20))
    return with_frontier(plan), trace


def _latency() -> tuple[OfflinePlan, Trace]:
    plan, trace = a_plan(a_fleet(PROFILES, pools={"h100": 8}), Shape(horizon_s=3600.0, moves=0))
    return minimizing_latency(plan), trace


CASES: Cases = {
    "one session": one_session_plan,
    "frontier": _frontier,
    "latency": _latency,
    "two types, late and unserved": lambda: a_plan(
        a_fleet(PROFILES[:3], pools={"h100": 16, "l40s": 8}), Shape(horizon_s=43_200.0, unserved_share=0.05)
    ),
    "crowded fortnight": lambda: a_plan(
        a_fleet(PROFILES[:2], pools={"h100": 24}), Shape(horizon_s=14 * 86_400.0, active_s_mean=2000, slots={"h100": 4})
    ),
}
# The swim-lanes' time axis is a plot of its own, and holds nothing.
PLOTS = {"one session": 7, "frontier": 8, "latency": 7, "two types, late and unserved": 7, "crowded fortnight": 8}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.mark.parametrize("name", CASES)
def test_the_page_draws_every_plot_asks_nobody_and_fits(name: str, browser: Browser, tmp_path: Path) -> None:
    plan, trace = CASES[name]()
    compared = {"Blanket headroom": plan.objective.total_dollars * 1.12}
    opened = Opened(browser, render_report(plan, trace, compared), tmp_path)
    with opened.page as page:
        assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        assert len(page.query_selector_all(".js-plotly-plot")) == PLOTS[name]
        assert opened.drawn() >= PLOTS[name] - 1
        text = page.inner_text("header")
        for figure in ("Certified gap", "GPU-hours", "Migrations", f"{plan.objective.migrations:,}", "session-s"):
            assert figure in text
        assert "epochal plan --verify FOLDER" in page.inner_text("#certificate")
        for width in (1440, 1100):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(FITS, timeout=10_000)  # plotly.js redraws a moment after the window has changed
            assert opened.overflow_px() <= 0
        assert opened.complaints == []


@pytest.mark.parametrize("name", ["one session", "frontier"])
def test_time_runs_from_left_to_right_in_every_curve(name: str, browser: Browser, tmp_path: Path) -> None:
    """plotly.js reads some small numbers on a date axis as years, which throws those points to the far left."""
    opened = Opened(browser, render_report(*CASES[name]()), tmp_path)
    with opened.page as page:
        backwards = page.evaluate(
            """['demand', 'latency', 'cumulative'].map((name) => document.querySelector(`[data-figure=${name}]`))
            .flatMap((plot) => plot.calcdata).map((points) => points.map((p) => p.x).filter((x) => x !== undefined))
            .filter((xs) => xs.length < 2 || xs.some((x, i) => i && x < xs[i - 1])).length"""
        )
        assert backwards == 0


def test_pointing_at_a_bar_tells_session_and_gpu(browser: Browser, tmp_path: Path) -> None:
    opened = Opened(browser, render_report(*one_session_plan()), tmp_path)
    with opened.page as page:
        box = page.locator("#lanes").bounding_box()
        assert box is not None
        page.locator("#lanes").hover(position={"x": box["width"] * 0.8, "y": box["height"] / 2})
        told = page.inner_text("#lanes-tip")
        assert "Session only" in told
        assert "GPU 0/0/0, h100, node 0/0" in told
        assert "00:00:00 to 00:01:35 (1 min 35 s)" in told
        page.locator("#lanes").hover(position={"x": box["width"] * 0.2, "y": box["height"] / 2})
        assert "starting up until 00:00:00" in page.inner_text("#lanes-tip")


def test_zooming_one_picture_zooms_the_others(browser: Browser, tmp_path: Path) -> None:
    opened = Opened(browser, render_report(*_latency()), tmp_path)
    with opened.page as page:
        page.evaluate(
            """() => Plotly.relayout(document.querySelector('[data-figure=demand]'),
            {'xaxis.range[0]': 978307800000, 'xaxis.range[1]': 978308400000})"""
        )
        same = """() => ['[data-figure=latency]', '#lanes', '#lanes-axis'].every((name) => {
            const axis = document.querySelector(name)._fullLayout.xaxis;
            return axis.r2c(axis.range[0]) === 978307800000 && axis.r2c(axis.range[1]) === 978308400000; })"""
        page.wait_for_function(same, timeout=10_000)
        assert opened.complaints == []


def test_choosing_a_window_shows_its_bars(browser: Browser, tmp_path: Path) -> None:
    opened = Opened(browser, render_report(*CASES["crowded fortnight"]()), tmp_path)
    with opened.page as page:
        start = "document.getElementById('lanes').dataset.range"
        before = page.evaluate(start)
        assert page.get_attribute("[data-window='0']", "aria-pressed") == "true"
        page.click("[data-window='1']")
        page.wait_for_function(f"before => {start} !== before", arg=before, timeout=10_000)
        assert page.get_attribute("[data-window='1']", "aria-pressed") == "true"
        assert opened.complaints == []


def test_names_from_the_input_are_text_and_never_markup(browser: Browser, tmp_path: Path) -> None:
    plan, trace = one_session_plan()
    evil = "</script><img src=x onerror=alert(1)>"
    trace = replace(trace, sessions=trace.sessions.with_columns(session_id=pl.lit(evil)))
    placements = plan.placements.with_columns(session_id=pl.lit(evil))
    gpus = plan.gpus.with_columns(gpu_id=pl.lit(evil))
    placements = placements.with_columns(gpu_id=pl.lit(evil))
    plan = replace(plan, trace_name=evil, gpus=gpus, placements=placements)
    opened = Opened(browser, render_report(plan, trace, {evil: 1.0}), tmp_path)
    with opened.page as page:
        assert opened.complaints == []
        assert page.query_selector_all("img") == []
        assert page.inner_text("h1") == evil
