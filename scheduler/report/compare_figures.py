"""Plotly figures of a comparison: money and lateness of each policy, and all of them beside the optimum's frontier.

Decides how rows become bars and dots; must never compute what they show.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from scheduler.offline_plan import FRONTIER_SCHEMA, OfflinePlan
from scheduler.report import theme
from scheduler.report.figures import frontier_figure
from scheduler.report.run_figures import Look
from scheduler.report.steps import Float
from scheduler.report.words import dollars, per_cent

_ROW_PX = 36


def cost_figure(rows: pl.DataFrame, looks: Mapping[str, Look]) -> go.Figure:
    """GPU dollars of each policy, cheapest first, against the bound and the offline plan; whiskers are over seeds."""
    rows = rows.sort("gpu_dollars", maintain_order=True)
    figure = _bars(rows)
    values = rows["gpu_dollars"].to_numpy()
    above = [
        dollars(value) + ("" if share is None else f" ({share:+.1%})")
        for value, share in rows.select("gpu_dollars", "above_bound_ratio").iter_rows()
    ]
    figure.add_bar(
        x=values, y=_names(rows), orientation="h", showlegend=False, error_x=_whiskers(rows, "gpu_dollars"),
        marker={"color": [looks[policy].colour for policy in rows["policy"]]}, hoverinfo="skip",
    )  # fmt: skip
    highest = float(rows["gpu_dollars_max"].to_numpy().max())
    _add_text(figure, rows, rows["gpu_dollars_max"].to_numpy(), above)
    plan, bound = rows["plan_dollars"][0], rows["bound_dollars"][0]
    for value, name, colour, dash in (
        (plan, "offline plan", theme.BOUND, "6px,4px"),
        (bound, "bound", theme.ALARM, "2px,2px"),
    ):
        if value is not None:
            figure.add_vline(x=value, line={"color": colour, "width": 1.5, "dash": dash})
            figure.add_scatter(
                x=[None], y=[None], name=f"{name} {dollars(value)}", mode="lines", line={"color": colour, "dash": dash}
            )
            highest = max(highest, value)
    figure.update_xaxes(**theme.value_axis("GPU dollars"), **theme.DOLLAR_TICKS, range=[0, 1.45 * highest])
    return figure


def late_figure(rows: pl.DataFrame) -> go.Figure:
    """Share of late chunks and late first chunks of each policy, in the order of the bars of money."""
    rows = rows.sort("gpu_dollars", maintain_order=True)
    figure = _bars(rows)
    highest = 0.0
    for measure, name, colour in (
        ("late_chunk_ratio", "late chunks", theme.ALARM),
        ("late_first_chunk_ratio", "late first chunks", theme.UNSERVED),
    ):
        values = 100 * rows[measure].to_numpy()
        highest = max(highest, float(100 * rows[f"{measure}_max"].to_numpy().max()))
        figure.add_bar(
            x=values, y=_names(rows), orientation="h", name=name, marker={"color": colour},
            customdata=[per_cent(value / 100) for value in values], error_x=_whiskers(rows, measure, 100.0),
            hovertemplate=f"{name}: %{{customdata}}<extra>%{{y}}</extra>",
        )  # fmt: skip
    figure.update_xaxes(**theme.value_axis("% of chunks, % of first chunks"), range=[0, max(1.35 * highest, 1.0)])
    figure.update_layout(barmode="group")
    both = zip(rows["late_chunk_ratio"], rows["late_first_chunk_ratio"], strict=True)
    ends = 100 * rows.select(pl.max_horizontal("late_chunk_ratio_max", "late_first_chunk_ratio_max")).to_series()
    _add_text(figure, rows, ends.to_numpy(), [f"{per_cent(late)}, {per_cent(first)}" for late, first in both])
    return figure


def dots_figure(rows: pl.DataFrame, looks: Mapping[str, Look], plan: OfflinePlan) -> go.Figure:
    """The frontier of the optimum, with each policy at its dollars and its p99 chunk latency."""
    target_ms = plan.fleet.target.chunk_latency_ms
    figure = frontier_figure(_frontier(plan), target_ms, plan.objective.total_dollars, "offline plan at the target")
    figure.update_traces(mode="lines+markers", text=None, selector={"name": "best schedule found"})
    for row in rows.iter_rows(named=True):
        look = looks[row["policy"]]
        late = row["late_chunk_ratio"] > 0 or row["late_first_chunk_ratio"] > 0
        figure.add_scatter(
            x=[row["chunk_latency_ms_p99"]], y=[row["gpu_dollars"]], name=look.name, mode="markers",
            error_x=_whisker(row, "chunk_latency_ms_p99"), error_y=_whisker(row, "gpu_dollars"),
            marker={
                "size": 12, "color": look.colour, "symbol": "diamond-open" if late else "circle",
                "line": {"width": 2.2 if late else 1, "color": look.colour if late else "#fff"},
            },
            hovertemplate=f"{look.name}: p99 %{{x:,.0f}} ms, $%{{y:,.2f}}, "
            f"{per_cent(row['late_chunk_ratio'])} late<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="target of the optimum, p99 chunk latency of a policy (ms)")
    slowest = float(rows["chunk_latency_ms_p99_max"].to_numpy().max())
    if slowest > 3 * float(_frontier(plan)["target_ms"].to_numpy().max()):
        figure.update_xaxes(type="log", dtick="D2")
    figure.update_yaxes(title={"text": "GPU dollars"})
    figure.update_layout(height=460, margin={"t": 62, "l": 84, "b": 52})
    return figure


def _frontier(plan: OfflinePlan) -> pl.DataFrame:
    """Where none was worked out, the plan alone."""
    if plan.frontier is not None and plan.frontier.height:
        return plan.frontier
    total = plan.objective.total_dollars
    bound = plan.certificate.bound_dollars
    row = (plan.fleet.target.chunk_latency_ms, total, total if bound is None else bound, plan.gap, "feasible")
    return pl.DataFrame([row], schema=FRONTIER_SCHEMA, orient="row")


def _bars(rows: pl.DataFrame) -> go.Figure:
    left = min(260, 30 + 7 * max(map(len, rows["policy"])))
    figure = go.Figure(layout=theme.layout(height=140 + _ROW_PX * rows.height, left=left))
    figure.update_yaxes(autorange="reversed", fixedrange=True, tickfont={"color": theme.INK}, title=None)
    figure.update_layout(bargap=0.35, margin={"t": 40, "b": 52})
    return figure


def _add_text(figure: go.Figure, rows: pl.DataFrame, ends: Float, text: list[str]) -> None:
    """To the right of bars and whiskers."""
    figure.add_scatter(
        x=ends, y=_names(rows), mode="text", text=[f"  {one}" for one in text], textposition="middle right",
        textfont={"color": theme.INK}, showlegend=False, hoverinfo="skip", cliponaxis=False,
    )  # fmt: skip


def _names(rows: pl.DataFrame) -> list[str]:
    return [escape(policy) for policy in rows["policy"]]


def _whiskers(rows: pl.DataFrame, measure: str, scale: float = 1.0) -> dict[str, Any]:
    middle, low, high = (scale * rows[f"{measure}{end}"].to_numpy() for end in ("", "_min", "_max"))
    shown = bool(np.any(high > low))
    return {"array": high - middle, "arrayminus": middle - low, "visible": shown, "color": theme.INK, "thickness": 1}


def _whisker(row: Mapping[str, Any], measure: str) -> dict[str, Any]:
    middle, low, high = (row[f"{measure}{end}"] for end in ("", "_min", "_max"))
    return {"array": [high - middle], "arrayminus": [middle - low], "visible": high > low, "thickness": 1, "width": 3}
