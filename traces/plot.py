"""Pictures of a trace: load over time, and how long things last.

Decides what is drawn; must never know where it is written.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from traces.demand import SECOND_US, Floats, Ints, arrivals_of
from traces.describe import steps
from traces.errors import BadInputError
from traces.trace import Trace

_POINTS_MAX = 2_000  # of a line
_TITLES = ("sessions at once", "sessions that open, per minute", "share of durations at most this long")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A named line; `hours` or seconds on the x axis."""

    name: str
    x: Floats = field(repr=False)
    y: Floats = field(repr=False)


def plot_html(trace: Trace) -> str:
    """A self-contained page: no network needed to open it."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=3, cols=1, subplot_titles=_TITLES, vertical_spacing=0.09)
    for row, lines in enumerate(_panels(trace), start=1):
        for line in lines:
            figure.add_trace(go.Scatter(x=line.x, y=line.y, name=line.name, mode="lines"), row=row, col=1)
    for row, title in ((1, "hours"), (2, "hours"), (3, "seconds")):
        figure.update_xaxes(title_text=title, row=row, col=1)
    figure.update_xaxes(type="log", row=3, col=1)
    figure.update_layout(title=trace.name, height=1000, template="plotly_white")
    return str(figure.to_html(include_plotlyjs=True, full_html=True, div_id="trace"))


def plot_png(trace: Trace) -> bytes:
    """The same as a picture. Raises `BadInputError` where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = "matplotlib must be installed to draw PNG: pip install 'epochal[png]', or ask for .html"
        raise BadInputError.of("--plot", message) from error
    figure = Figure(figsize=(10, 12), layout="constrained")
    figure.suptitle(trace.name)
    for axes, title, lines, unit in zip(
        figure.subplots(3, 1), _TITLES, _panels(trace), ("hours", "hours", "seconds"), strict=True
    ):
        for line in lines:
            axes.plot(line.x, line.y, label=line.name)
        axes.set(title=title, xlabel=unit)
        axes.legend()
    figure.axes[2].set_xscale("log")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _panels(trace: Trace) -> tuple[list[_Line], list[_Line], list[_Line]]:
    periods = trace.periods.sort("session_index", "start_us")
    session, start, end = (periods[column].cast(pl.Int64).to_numpy() for column in periods.columns)
    opens = np.flatnonzero(np.diff(session, prepend=-1))
    first, last = start[opens], end[np.append(opens[1:], len(session)) - 1]
    load = [
        _level("open (active or idle)", first, last, trace.horizon_us),
        _level("active", start, end, trace.horizon_us),
    ]
    times = arrivals_of(trace).times_us
    minutes = np.bincount(times // (60 * SECOND_US)).astype(np.float64)
    arrivals = [_Line(name="openings", x=np.arange(len(minutes)) / 60, y=minutes)]
    gaps = (start[1:] - end[:-1])[np.diff(session) == 0]
    spread = [
        _cdf("session", last - first),
        _cdf("active period", end - start),
        *([_cdf("idle gap", gaps)] if len(gaps) else []),
    ]
    return load, arrivals, spread


def _level(name: str, start_us: Ints, end_us: Ints, horizon_us: int) -> _Line:
    """The number at evenly spaced times."""
    at, level = steps(start_us, end_us)
    grid = np.linspace(0, horizon_us, _POINTS_MAX, endpoint=False)
    index = np.searchsorted(at, grid, side="right") - 1
    return _Line(name=name, x=grid / SECOND_US / 3600, y=np.where(index < 0, 0, level[index]).astype(np.float64))


def _cdf(name: str, values_us: Ints) -> _Line:
    share = np.linspace(0, 1, 400)
    return _Line(name=name, x=np.quantile(values_us / SECOND_US, share), y=share)
