"""What figures of several pages have in common: rows above each other over one time axis, targets, held values.

Decides how curves share axes and legends; must never compute what they show.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from scheduler.fleet import Fleet
from scheduler.report import theme
from scheduler.report.steps import Float, Int

__all__ = ["Float", "Int", "held", "readable_on", "stack_rows", "targets", "times", "type_colours"]

LEGEND_PX = 50  # between two rows of a figure


def stack_rows(
    figure: go.Figure, titles: list[str], edges_us: Int, first_share: float | None = None, ticks_max: int = 12
) -> None:
    """Put y, y2, ... above each other over one time axis, the legend of each at its top left."""
    count = len(titles)
    shares = [1 / count] * count
    if first_share is not None and count > 1:
        shares = [first_share] + [(1 - first_share) / (count - 1)] * (count - 1)
    top, space = 1.0, LEGEND_PX / (figure.layout.height - 70)
    for index, (title, share) in enumerate(zip(titles, shares, strict=True)):
        key = f"y{index + 1}" if index else "y"
        bottom = max(top - share, 0.0)
        domain = [bottom, top - (space if index else 0.0)]
        axis = theme.value_axis(title, domain=domain)
        figure.update_layout({f"yaxis{index + 1 if index else ''}": axis})
        legend = {**theme.layout(height=0)["legend"], "y": domain[1] + 0.01}
        name = f"legend{index + 1 if index else ''}"
        figure.update_layout({name: legend})
        figure.for_each_trace(
            lambda trace, key=key, name=name: trace.update(legend=name) if (trace.yaxis or "y") == key else None
        )
        top = bottom
    last = f"y{count}" if count > 1 else "y"
    axis = theme.time_axis(int(edges_us[-1]), int(edges_us[0]), ticks_max, anchor=last)
    figure.update_layout(xaxis=axis)


def targets(fleet: Fleet) -> dict[float, str]:
    """Target -> which profiles have it, named only where targets differ."""
    by_target: dict[float, list[str]] = {}
    for profile in fleet.profiles:
        by_target.setdefault(fleet.target_ms(profile), []).append(escape(profile))
    if len(by_target) == 1:
        return dict.fromkeys(by_target, "")
    return {target: f" ({', '.join(names)})" for target, names in by_target.items()}


def type_colours(fleet: Fleet) -> list[str]:
    return [theme.TYPES[index % len(theme.TYPES)] for index in range(len(fleet.gpu_types))]


def times(edges_us: Int) -> Float:
    milliseconds: Float = theme.clock_ms(edges_us)
    return milliseconds


def held(values: Float) -> Any:
    """The last value again, so that the last bin has a width; compact in the page."""
    return np.round(np.append(values, values[-1]), 3).astype(np.float32)


def readable_on(colour: str) -> str:
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return theme.INK if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else "#ffffff"
