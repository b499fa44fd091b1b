"""How everything looks: colours that colour-blind people tell apart, fonts, and the layout that all pictures share.

Decides which profile has which colour; must never know a number.
"""

from __future__ import annotations

from typing import Any

# Okabe & Ito (2008), without the red that means "late" here; beyond five, Paul Tol's muted scheme (2021).
_FEW = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
_MANY = ("#332288", "#DDCC77", "#117733", "#AA4499", "#88CCEE", "#999933", "#882255", "#44AA99", "#CC6677")

INK = "#1b2733"
MUTED = "#5d6b7a"
GRID = "#e9edf2"
PAPER = "#ffffff"
PAID = "#dfe6ed"  # a GPU that is on
STARTING = "#b7c3d0"
BOUND = "#111827"
ACCENT = "#0072B2"
WORST = "#98a5b3"
ALARM = "#D55E00"  # targets, and what misses them
UNSERVED = "#7a1f5c"
PARTS = ("#2f6d8f", "#8fb8cd", "#c9d3dc", "#e3d5b8")  # seats used, seats free, empty, starting up
TYPES = ("#44566b", "#8a9bae", "#c3cdd8", "#6f7f5f", "#b5a27c")
HEAT = ((0.0, "#eef2f5"), (0.25, "#c2d9e6"), (0.5, "#7fb0cb"), (0.75, "#3a7ea6"), (1.0, "#0b4a73"))
DOLLAR_TICKS = {"tickprefix": "$", "tickformat": ",.4~f"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def profile_colours(count: int) -> tuple[str, ...]:
    """One colour per profile, the same in every picture; beyond nine they repeat."""
    colours = _FEW if count <= len(_FEW) else _MANY
    return tuple(colours[index % len(colours)] for index in range(count))


def layout(*, height: int, left: int = 64, **more: Any) -> dict[str, Any]:
    """What all plotly figures have in common."""
    return {
        "height": height,
        "margin": {"l": left, "r": 42, "t": 26, "b": 44},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "font": {"family": FONT, "size": 12, "color": MUTED},
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": "#cfd8e0", "font": {"family": FONT, "size": 12, "color": INK}},
        "legend": {
            "orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "font": {"color": INK},
            "traceorder": "normal",
        },
        **more,
    }  # fmt: skip


def time_axis(end_us: int, start_us: int = 0, **more: Any) -> dict[str, Any]:
    """An axis of milliseconds since the trace's start, shown as hours and minutes, and days if several."""
    day = "\nday %-j" if end_us > 86_400e6 * 1.05 else ""
    return {
        "type": "date",
        "range": [start_us / 1e3, end_us / 1e3],
        "gridcolor": GRID,
        "linecolor": "#cfd8e0",
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#cfd8e0",
        "tickformatstops": [
            {"dtickrange": [None, 1000], "value": "%H:%M:%S.%L"},
            {"dtickrange": [1000, 60_000], "value": "%H:%M:%S" + day},
            {"dtickrange": [60_000, 86_400_000], "value": "%H:%M" + day},
            {"dtickrange": [86_400_000, None], "value": "day %-j"},
        ],
        "hoverformat": ("day %-j, " if day else "") + "%H:%M:%S",
        **more,
    }


def value_axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis of amounts from 0."""
    return {
        "title": {"text": title, "standoff": 10},
        "gridcolor": GRID,
        "zerolinecolor": "#cfd8e0",
        "rangemode": "tozero",
        "fixedrange": True,
        "automargin": False,
        **more,
    }
