"""Plotly figures of the series: demand and GPUs, latency, money, frontier.

Decides how curves are drawn; must never compute what they show.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import plotly.graph_objects as go
import polars as pl

from scheduler.report import theme
from scheduler.report.plotting import held, readable_on, stack_rows, targets, times, type_colours
from scheduler.report.schedule import Float, Schedule
from scheduler.report.series import CostParts, CostSeries, DemandSeries, LatencySeries
from scheduler.report.words import dollars, per_cent


def demand_figure(schedule: Schedule, series: DemandSeries, left: int) -> go.Figure:
    """Active sessions per profile above GPUs on over time; a third row of dollars per hour with several GPU types."""
    rows = 2 if len(schedule.fleet.gpu_types) == 1 else 3
    figure = go.Figure(layout=theme.layout(height=250 + 190 * (rows - 1), left=left, hovermode="x unified"))
    at = times(series.edges_us)
    colours = theme.profile_colours(len(schedule.fleet.profiles))
    for name, colour, sessions in zip(schedule.fleet.profiles, colours, series.sessions_mean, strict=True):
        area = {"stackgroup": "sessions", "fillcolor": colour, "line": {"width": 0, "shape": "hv", "color": colour}}
        figure.add_scatter(x=at, y=held(sessions), name=escape(name), yaxis="y", hovertemplate="%{y:,.1f}", **area)
    peak = {"width": 1, "color": theme.INK, "shape": "hv"}
    figure.add_scatter(
        x=at, y=held(series.sessions_max), name="peak of all", yaxis="y", line=peak, hovertemplate="%{y:,.0f}"
    )
    _add_gpus(figure, schedule, series, at)
    if rows == 3:
        _add_rate(figure, series, at)
    stack_rows(figure, ["active sessions", "GPUs", "$ per hour"][:rows], series.edges_us)
    for axis, highest in (("yaxis", series.sessions_max.max()), ("yaxis2", series.gpus_max.sum(axis=0).max())):
        if highest <= 5:
            figure.update_layout({axis: {"dtick": 1}})
    return figure


def _add_gpus(figure: go.Figure, schedule: Schedule, series: DemandSeries, at: Float) -> None:
    single = len(schedule.fleet.gpu_types) == 1
    for name, colour, gpus in zip(schedule.fleet.gpu_types, type_colours(schedule.fleet), series.gpus_max, strict=True):
        label = "GPUs on" if single else f"{escape(name)} on"
        line = {"width": 1.5 if single else 0, "shape": "hv", "color": colour}
        figure.add_scatter(
            x=at, y=held(gpus), name=label, yaxis="y2", stackgroup="gpus", line=line,
            fillcolor=theme.PAID if single else colour, hovertemplate="%{y:,.0f}",
        )  # fmt: skip
    if series.needed_max is not None:
        line = {"width": 1.5, "color": theme.ALARM, "shape": "hv", "dash": "2px,2px"}
        figure.add_scatter(
            x=at, y=held(series.needed_max), name="GPUs needed (lower bound)", yaxis="y2", line=line,
            hovertemplate="%{y:,.0f}",
        )  # fmt: skip


def _add_rate(figure: go.Figure, series: DemandSeries, at: Float) -> None:
    figure.add_scatter(
        x=at, y=held(series.paid_per_hour), name="paid per hour", yaxis="y3", fill="tozeroy", fillcolor=theme.PAID,
        line={"width": 1.5, "color": theme.TYPES[0], "shape": "hv"}, hovertemplate="$%{y:,.2f}",
    )  # fmt: skip
    if not series.needed_per_hour.any():
        return
    figure.add_scatter(
        x=at, y=held(series.needed_per_hour), name="needed per hour (lower bound)", yaxis="y3",
        line={"width": 1.5, "color": theme.ALARM, "shape": "hv", "dash": "2px,2px"}, hovertemplate="$%{y:,.2f}",
    )  # fmt: skip


def latency_figure(schedule: Schedule, series: LatencySeries, left: int) -> go.Figure:
    """Worst, p99 and mean chunk latency against the targets; late and unserved sessions below where there are any."""
    shortfalls = [("late", series.late_mean, theme.ALARM), ("unserved", series.unserved_mean, theme.UNSERVED)]
    shortfalls = [row for row in shortfalls if row[1].any()]
    figure = go.Figure(layout=theme.layout(height=470 if shortfalls else 320, left=left, hovermode="x unified"))
    at = times(series.edges_us)
    for name, values, colour, width in (
        ("worst", series.worst_ms, theme.WORST, 3.2),
        ("p99 of session time", series.p99_ms, theme.ACCENT, 1.3),
        ("mean of session time", series.mean_ms, "#56B4E9", 1.8),
    ):
        line = {"width": width, "color": colour, "shape": "hv"}
        figure.add_scatter(x=at, y=held(values), name=name, yaxis="y", line=line, hovertemplate="%{y:,.0f} ms")
    for target_ms, profiles in targets(schedule.fleet).items():
        figure.add_hline(
            y=target_ms, line={"color": theme.ALARM, "width": 1.5, "dash": "6px,4px"}, layer="above",
            annotation={
                "text": f"target {target_ms:,.0f} ms{profiles}", "font": {"color": theme.ALARM},
                "bgcolor": "rgba(255,255,255,0.8)",
            },
            annotation_position="top right", yref="y",
        )  # fmt: skip
    titles = ["chunk latency (ms)"]
    titles += ["sessions"] if shortfalls else []
    for name, values, colour in shortfalls:
        line = {"width": 1, "color": colour, "shape": "hv"}
        figure.add_scatter(
            x=at, y=held(values), name=name, yaxis="y2", line=line, fill="tozeroy", hovertemplate="%{y:,.2f}"
        )
    stack_rows(figure, titles, series.edges_us, first_share=0.7)
    highest = max(float(np.nanmax(series.worst_ms, initial=0)), *targets(schedule.fleet))
    figure.update_layout(yaxis={"range": [0, highest * 1.12]})
    return figure


def parts_figure(schedule: Schedule, parts: CostParts, move_dollars: float) -> go.Figure:
    """Where the money goes: one bar per GPU type, and one for migrations."""
    names = [escape(name) for name in schedule.fleet.gpu_types]
    height = max(300, 112 + 44 * (len(names) + 1))
    figure = go.Figure(layout=theme.layout(height=height, left=88, barmode="stack"))
    total = float(parts.total.sum()) + move_dollars
    for label, values, colour in zip(
        ("seats in use", "free seats, GPU serving", "on but empty", "starting up"),
        (parts.used, parts.free, parts.empty, parts.starting),
        theme.PARTS,
        strict=True,
    ):
        text = [per_cent(v / total) if total and v / total > 0.06 else "" for v in values]
        figure.add_bar(
            x=values, y=names, name=label, orientation="h", marker={"color": colour}, text=text,
            textposition="inside", insidetextanchor="middle", textangle=0,
            textfont={"color": readable_on(colour)}, hovertemplate=f"{label}: $%{{x:,.2f}}<extra>%{{y}}</extra>",
        )  # fmt: skip
    figure.add_bar(
        x=[move_dollars], y=["migrations"], orientation="h", marker={"color": theme.INK}, showlegend=False,
        text=[dollars(move_dollars)], textposition="outside", cliponaxis=False,
        hovertemplate="migrations: $%{x:,.4f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(**theme.value_axis("dollars"), **theme.DOLLAR_TICKS)
    figure.update_yaxes(autorange="reversed", fixedrange=True, tickfont={"color": theme.INK})
    figure.update_layout(bargap=0.35)
    return figure


def cumulative_figure(series: CostSeries, bound_dollars: float | None) -> go.Figure:
    """Dollars so far, against what any schedule has paid by then and the certified bound of the whole."""
    figure = go.Figure(layout=theme.layout(height=300, hovermode="x unified"))
    at = times(series.edges_us)
    figure.add_scatter(
        x=at, y=series.paid, name="paid so far", line={"width": 2, "color": theme.TYPES[0]}, fill="tozeroy",
        fillcolor=theme.PAID, hovertemplate="$%{y:,.2f}",
    )  # fmt: skip
    if series.needed.any():
        figure.add_scatter(
            x=at, y=series.needed, name="needed so far (start-up not counted)",
            line={"width": 1.5, "color": theme.ALARM, "dash": "2px,2px"}, hovertemplate="$%{y:,.2f}",
        )  # fmt: skip
    if bound_dollars is not None:
        figure.add_hline(
            y=bound_dollars, line={"color": theme.BOUND, "width": 1, "dash": "6px,4px"},
            annotation={"text": f"certified bound {dollars(bound_dollars)}", "font": {"color": theme.INK}},
            annotation_position="top left",
        )  # fmt: skip
    stack_rows(figure, ["dollars"], series.edges_us, ticks_max=6)
    figure.update_layout(yaxis={**theme.DOLLAR_TICKS, "title": None})
    return figure


def comparison_figure(total: float, bound: float | None, others: Mapping[str, float]) -> go.Figure:
    """Total dollars: the bound, this plan, and what else one might do."""
    rows = [] if bound is None else [("lower bound", bound, theme.STARTING)]
    rows.append(("this plan", total, theme.ACCENT))
    rows.extend((escape(name), amount, theme.TYPES[1]) for name, amount in others.items())
    text = [dollars(a) + ("" if n == "this plan" else f" ({100 * (a / total - 1):+.2f} %)") for n, a, _ in rows]
    left = min(360, 30 + 7 * max(len(name) for name, _, _ in rows))
    figure = go.Figure(layout=theme.layout(height=90 + 40 * len(rows), left=left, showlegend=False))
    figure.add_bar(
        x=[a for _, a, _ in rows], y=[n for n, _, _ in rows], orientation="h",
        marker={"color": [c for _, _, c in rows]}, text=text, textposition="outside",
        textfont={"color": theme.INK}, hoverinfo="skip", cliponaxis=False,
    )  # fmt: skip
    figure.update_xaxes(
        **theme.value_axis("dollars"), **theme.DOLLAR_TICKS, range=[0, 1.25 * max(amount for _, amount, _ in rows)]
    )
    figure.update_yaxes(autorange="reversed", fixedrange=True, tickfont={"color": theme.INK})
    figure.update_layout(bargap=0.4, margin={"t": 12})
    return figure


def frontier_figure(
    frontier: pl.DataFrame, target_ms: float, total_dollars: float, name: str = "this plan"
) -> go.Figure:
    """Cost against latency target: the best plan found and the bound below it, with the gap of each point."""
    rows = frontier.sort("target_ms")
    figure = go.Figure(layout=theme.layout(height=380, hovermode="closest"))
    at_ms = rows["target_ms"].to_numpy()
    figure.add_scatter(
        x=at_ms, y=rows["bound_dollars"].to_numpy(), name="lower bound", mode="lines+markers",
        line={"color": theme.ALARM, "width": 1.5, "dash": "2px,2px"}, marker={"size": 5},
        hovertemplate="target %{x:,.0f} ms: at least $%{y:,.2f}<extra></extra>",
    )  # fmt: skip
    labels = [f"{per_cent(gap)} ({status})" for gap, status in rows.select("gap", "status").rows()]
    figure.add_scatter(
        x=at_ms, y=rows["total_dollars"].to_numpy(), name="best schedule found", mode="lines+markers+text",
        line={"color": theme.ACCENT, "width": 2}, marker={"size": 8}, fill="tonexty", fillcolor="rgba(0,114,178,0.10)",
        text=[per_cent(gap) for gap in rows["gap"]], textposition="top right", customdata=labels,
        textfont={"color": theme.MUTED, "size": 11},
        hovertemplate="target %{x:,.0f} ms: $%{y:,.2f}, gap %{customdata}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[target_ms], y=[total_dollars], name=name, mode="markers",
        marker={"size": 15, "symbol": "circle-open", "color": theme.INK, "line": {"width": 2}},
        hovertemplate=f"{name}: $%{{y:,.2f}}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title="chunk latency target (ms)", gridcolor=theme.GRID, zeroline=False)
    figure.update_yaxes(**theme.value_axis(""), **theme.DOLLAR_TICKS)
    return figure
