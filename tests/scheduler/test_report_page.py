"""The page and the PNGs without a browser: what is in them, how large they are, and what their absence says."""

from __future__ import annotations

import sys
from dataclasses import replace
from io import BytesIO

import polars as pl
import pytest

from scheduler.offline_plan import NEEDED_SCHEMA
from scheduler.report import render_pngs, render_report
from tests.scheduler.report_plans import Shape, a_fleet, a_plan, one_session_plan, with_frontier
from traces.errors import BadInputError

PLOTLY_BYTES_MAX = 5_000_000
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def test_sections_stand_in_their_order() -> None:
    plan, trace = a_plan(a_fleet(pools={"h100": 8}), Shape(horizon_s=3600.0, moves=5))
    page = render_report(with_frontier(plan), trace)
    names = ["certificate", "demand", "swim-lanes", "latency", "cost", "frontier", "gpus", "notes"]
    places = [page.index(f'id="{name}"') for name in names]
    assert places == sorted(places)


def test_the_same_plan_gives_the_same_page() -> None:
    plan, trace = a_plan(a_fleet(pools={"h100": 8}), Shape(horizon_s=3600.0, moves=5))
    assert render_report(plan, trace) == render_report(plan, trace)


def test_without_a_frontier_or_comparison_there_is_no_empty_place_for_them() -> None:
    page = render_report(*one_session_plan())
    assert 'id="frontier"' not in page
    assert 'data-figure="comparison"' not in page


def test_a_certificate_without_rows_says_so() -> None:
    plan, trace = one_session_plan()
    assert "no bound is drawn over time" in render_report(
        replace(plan, needed=pl.DataFrame(schema=NEEDED_SCHEMA)), trace
    )


def test_a_crowded_schedule_adds_little_to_the_page() -> None:
    shape = Shape(horizon_s=43_200.0, active_s_mean=60, idle_s_mean=5, slots={"h100": 4}, base_share=1.0)
    plan, trace = a_plan(a_fleet(pools={"h100": 64}), shape)
    assert plan.placements.height > 100_000
    assert len(render_report(plan, trace).encode()) < PLOTLY_BYTES_MAX + 1_500_000


def test_every_picture_is_a_png_of_some_size() -> None:
    from matplotlib.image import imread

    plan, trace = a_plan(a_fleet(pools={"h100": 8, "l40s": 8}), Shape(horizon_s=3600.0, moves=5))
    pictures = render_pngs(with_frontier(plan), trace)
    assert list(pictures) == ["demand.png", "swim_lanes.png", "chunk_latency.png", "cost.png", "frontier.png"]
    for data in pictures.values():
        assert data.startswith(PNG_HEAD)
        pixels = imread(BytesIO(data))
        assert pixels.shape[1] == 1800
        assert pixels[..., :3].std() > 0.02  # not a blank sheet


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # what an import then meets is an absent package
    with pytest.raises(BadInputError, match=r"pip install 'epochal\[png\]'"):
        render_pngs(*one_session_plan())
