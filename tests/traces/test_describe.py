"""Statistics and pictures of a trace whose numbers are known by hand."""

from __future__ import annotations

import json
import sys

import numpy as np
import polars as pl
import pytest

from tests.traces.builders import a_trace
from traces.assemble import trace_from_periods
from traces.describe import describe, dispersion
from traces.errors import BadInputError
from traces.plot import plot_html, plot_png

SMALL = "a 0-10 b 5-15 a 30-40 c 90-100"


def test_every_statistic_of_a_small_trace() -> None:
    found = describe(a_trace(SMALL))
    assert (found.sessions, found.periods, found.horizon_s) == (3, 4, 100.0)
    assert (found.duration_s.max, found.duration_s.p50, found.duration_s.mean) == (40.0, 10.0, 20.0)
    assert (found.idle_s.count, found.idle_s.p50) == (1, 20.0)
    assert (found.active_s.p50, found.periods_per_session.max) == (10.0, 2.0)
    assert found.duty == pytest.approx(40 / 60)
    assert found.duty_median == 1.0
    assert (found.active.mean, found.active.peak, found.active.peak_to_mean) == (0.4, 2, 5.0)
    assert (found.open.mean, found.open.peak) == (0.6, 2)
    assert found.arrivals.interarrival_cv == pytest.approx(np.std([5, 85]) / 45)


def test_profiles_are_counted_apart_and_the_default_is_none() -> None:
    rows = pl.DataFrame(
        {"session_id": ["a", "b", "b"], "start_s": [0, 0, 5], "end_s": [3600, 1, 6], "profile": [None, "p", "p"]}
    )
    parts = [(part.profile, part.sessions, part.periods) for part in describe(trace_from_periods(rows)).profiles]
    assert sorted(parts, key=str) == [("p", 1, 2), (None, 1, 1)]


def test_a_description_is_ready_for_json() -> None:
    assert json.loads(json.dumps(describe(a_trace(SMALL)).to_dict()))["active"]["peak"] == 2


def test_one_period_has_a_description() -> None:
    found = describe(a_trace("a 0-1"))
    assert (found.idle_s.count, found.arrivals.interarrival_cv, found.arrivals.dispersion_60s) == (0, 0.0, 0.0)


def test_dispersion_is_one_for_a_poisson_process_and_zero_for_a_clock() -> None:
    hour = 3_600_000_000
    random = np.sort(np.random.default_rng(0).integers(0, 24 * hour, 100_000))
    assert dispersion(random, 24 * hour, 60) == pytest.approx(1.0, abs=0.1)
    assert dispersion(np.arange(0, hour, 1_000_000), hour, 60) == 0.0


def test_html_is_one_file_without_a_network() -> None:
    page = plot_html(a_trace(SMALL))
    assert "Plotly.newPlot" in page
    assert "src=" not in page[:2000]
    assert 'script src="http' not in page


def test_png_is_drawn() -> None:
    pytest.importorskip("matplotlib")
    assert plot_png(a_trace(SMALL)).startswith(b"\x89PNG")


def test_png_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BadInputError, match=r"epochal\[png\]"):
        plot_png(a_trace(SMALL))
