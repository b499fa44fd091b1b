"""Plotly figures of runs: one curve for each policy, or the curves of one run.

Decides how curves are drawn; must never compute what they show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from scheduler.fleet import Fleet
from scheduler.report import theme
from scheduler.report.plotting import held, stack_rows, targets, times
from scheduler.report.run_series import Cdf, LatencyOverTime, Planning
from scheduler.report.steps import Float, Int

_DASHES = ("solid", "6px,3px", "2px,2px")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a run is told from the others of a picture."""

    name: str
    colour: str
    dash: str = "solid"

    def line(self, width: float = 1.8, shape: str = "linear") -> dict[str, Any]:
        return {"width": width, "color": self.colour, "dash": self.dash, "shape": shape}


def looks(names: Sequence[str]) -> tuple[Look, ...]:
    """A colour for each, and another dash where colours repeat."""
    colours = theme.profile_colours(len(names))
    distinct = len(dict.fromkeys(colours))
    return tuple(
        Look(name=escape(name), colour=colour, dash=_DASHES[(index // distinct) % len(_DASHES)])
        for index, (name, colour) in enumerate(zip(names, colours, strict=True))
    )


def add_optimum(figure: go.Figure, edges_us: Int, gpus: Float, *, yaxis: str, legend: str) -> None:
    """The line of the offline optimum, the same in every picture of GPUs over time."""
    line = {"width": 1.6, "color": theme.ALARM, "shape": "hv", "dash": "2px,2px"}
    figure.add_scatter(
        x=times(edges_us), y=held(gpus), name="GPUs on in the offline optimum", yaxis=yaxis, legend=legend, line=line,
        hovertemplate="%{y:,.0f}",
    )  # fmt: skip


def gpus_figure(
    edges_us: Int, active: Float, runs: Sequence[tuple[Look, Float]], optimum: Float | None, left: int
) -> go.Figure:
    """Active sessions above the GPUs that each policy pays for."""
    figure = go.Figure(layout=theme.layout(height=480, left=left, hovermode="x unified"))
    at = times(edges_us)
    area = {"fill": "tozeroy", "fillcolor": theme.PAID, "line": {"width": 1, "color": theme.INK, "shape": "hv"}}
    figure.add_scatter(x=at, y=held(active), name="active sessions (peak)", hovertemplate="%{y:,.0f}", **area)
    for look, gpus in runs:
        figure.add_scatter(
            x=at, y=held(gpus), name=look.name, yaxis="y2", line=look.line(1.6, "hv"), hovertemplate="%{y:,.0f}"
        )
    if optimum is not None:
        add_optimum(figure, edges_us, optimum, yaxis="y2", legend="legend2")
    stack_rows(figure, ["active sessions", "GPUs on"], edges_us, first_share=0.42)
    return figure


def latency_figure(series: LatencyOverTime, fleet: Fleet, left: int) -> go.Figure:
    """Worst, p99 and p50 of one run against the targets; late chunks and waiting sessions below where there are any."""
    below = [("late chunks (%)", 100 * series.late_ratio, theme.ALARM), ("waiting", series.waiting_max, theme.UNSERVED)]
    below = [row for row in below if row[1].any()]
    figure = go.Figure(layout=theme.layout(height=340 + 150 * len(below), left=left, hovermode="x unified"))
    at = times(series.edges_us)
    for name, values, colour, width in (
        ("worst", series.worst_ms, theme.WORST, 2.6),
        ("p99", series.p99_ms, theme.ACCENT, 1.5),
        ("p50", series.p50_ms, "#56B4E9", 1.8),
    ):
        line = {"width": width, "color": colour, "shape": "hv"}
        figure.add_scatter(x=at, y=held(values), name=name, line=line, hovertemplate="%{y:,.0f} ms")
    for row, (name, values, colour) in enumerate(below, start=2):
        line = {"width": 1, "color": colour, "shape": "hv"}
        figure.add_scatter(
            x=at, y=held(values), name=name, yaxis=f"y{row}", line=line, fill="tozeroy", hovertemplate="%{y:,.3~g}"
        )
    highest = float(np.nanmax(series.worst_ms, initial=0))
    _finish(figure, series.edges_us, fleet, highest, [name for name, _, _ in below])
    return figure


def latencies_figure(runs: Sequence[tuple[Look, LatencyOverTime]], fleet: Fleet, left: int) -> go.Figure:
    """p99 of each policy against the targets, and the share of late chunks below."""
    figure = go.Figure(layout=theme.layout(height=500, left=left, hovermode="x unified"))
    for look, series in runs:
        at = times(series.edges_us)
        figure.add_scatter(
            x=at, y=held(series.p99_ms), name=look.name, line=look.line(1.5, "hv"), hovertemplate="%{y:,.0f} ms"
        )
        figure.add_scatter(
            x=at, y=held(100 * series.late_ratio), name=look.name, yaxis="y2", line=look.line(1.2, "hv"),
            hovertemplate="%{y:,.3~g} %",
        )  # fmt: skip
    highest = max(float(np.nanmax(series.p99_ms, initial=0)) for _, series in runs)
    _finish(figure, runs[0][1].edges_us, fleet, highest, ["late chunks (%)"])
    figure.update_layout(legend2={"visible": False})
    return figure


def _finish(figure: go.Figure, edges_us: Int, fleet: Fleet, highest: float, below: Sequence[str]) -> None:
    for target_ms, profiles in targets(fleet).items():
        figure.add_hline(
            y=target_ms, line={"color": theme.ALARM, "width": 1.5, "dash": "6px,4px"}, layer="above",
            annotation={
                "text": f"target {target_ms:,.0f} ms{profiles}", "font": {"color": theme.ALARM},
                "bgcolor": "rgba(255,255,255,0.8)",
            },
            annotation_position="top right", yref="y",
        )  # fmt: skip
    first = {0: None, 1: 0.68}.get(len(below), 0.5)
    stack_rows(figure, ["chunk latency (ms)", *below], edges_us, first_share=first)
    figure.update_layout(yaxis={"range": [0, 1.12 * max(highest, *targets(fleet))]})


def cdf_figure(
    runs: Sequence[tuple[Look, Cdf]], title: str, unit: str, of: str, marks: Sequence[tuple[float, str]] = ()
) -> go.Figure:
    """Cumulative distributions; `marks` are vertical lines."""
    figure = go.Figure(layout=theme.layout(height=340, hovermode="closest"))
    for look, cdf in runs:
        figure.add_scatter(
            x=cdf.value, y=100 * cdf.share, name=look.name, mode="lines", line=look.line(1.9, "hv"),
            hovertemplate=f"%{{y:.4~f}} % of {of} in %{{x:,.4~g}} {unit} or less",
        )  # fmt: skip
    for index, (value, text) in enumerate(marks):
        figure.add_vline(
            x=value, line={"color": theme.ALARM, "width": 1.5, "dash": "6px,4px"},
            annotation={
                "text": text, "font": {"color": theme.ALARM}, "bgcolor": "rgba(255,255,255,0.8)", "yshift": 16 * index,
            },
            annotation_position="bottom right",
        )  # fmt: skip
    figure.update_xaxes(**theme.value_axis(f"{title} ({unit})"), ticks="outside", tickcolor="#cfd8e0")
    lowest = min((float(100 * cdf.share[1]) for _, cdf in runs if len(cdf.share) > 1), default=0.0)
    start = 0.0 if lowest < 50 else max(2 * lowest - 100 - 2, 0)
    figure.update_yaxes(**theme.value_axis(f"% of {of}"), range=[start, 100 + 0.02 * (100 - start)])
    figure.update_layout(margin={"b": 52}, showlegend=False)
    return figure


def planning_figure(runs: Sequence[tuple[Look, Planning]]) -> go.Figure | None:
    """Planning time against GPUs on: p99 as a line with dots, p50 thinner; None where nothing was measured."""
    return _by_size(runs, "planning time (ms)", "%{y:,.3~g} ms", "planning_ms_p50", "planning_ms_p99", 1.0)


def gap_figure(runs: Sequence[tuple[Look, Planning]]) -> go.Figure | None:
    """Gap of the headline tier against GPUs on; None where no step proved a bound."""
    return _by_size(runs, "gap (%)", "%{y:,.3~g} %", "gap_p50", "gap_p99", 100.0)


def _by_size(
    runs: Sequence[tuple[Look, Planning]], title: str, hover: str, middle: str, high: str, scale: float
) -> go.Figure | None:
    runs = [(look, steps) for look, steps in runs if np.isfinite(getattr(steps, high)).any()]
    if not runs:
        return None
    figure = go.Figure(layout=theme.layout(height=340, hovermode="closest"))
    alone = len(runs) == 1
    for look, steps in runs:
        name = "p99" if alone else look.name
        custom = np.column_stack([steps.steps])
        figure.add_scatter(
            x=steps.gpus, y=scale * getattr(steps, high), name=name, mode="lines+markers", line=look.line(1.4),
            marker={"size": 5}, legendgroup=look.name, customdata=custom,
            hovertemplate=f"{look.name}, %{{x}} GPUs on: p99 {hover} of %{{customdata[0]:,}} steps<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=steps.gpus, y=scale * getattr(steps, middle), name="p50", mode="lines", legendgroup=look.name,
            line={"width": 1, "color": look.colour, "dash": "2px,2px"}, showlegend=alone,
            hovertemplate=f"{look.name}, %{{x}} GPUs on: p50 {hover}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="GPUs on at the step", gridcolor=theme.GRID, zeroline=False, ticks="outside")
    if max(int(steps.gpus.max()) for _, steps in runs) <= 12:
        figure.update_xaxes(dtick=1)
    figure.update_yaxes(**theme.value_axis(title))
    figure.update_layout(margin={"b": 52})
    return figure
