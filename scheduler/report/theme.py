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
ZERO_MS = 978_307_200_000
WORST = "#98a5b3"
ALARM = "#D55E00"  # targets, and what misses them
UNSERVED = "#7a1f5c"
HATCH = "#8fa0b2"  # of a GPU that starts up
SUSPENDED = "#8d99a6"
PARTS = ("#2f6d8f", "#8fb8cd", "#c9d3dc", "#e3d5b8")  # seats used, seats free, empty, starting up
TYPES = ("#44566b", "#8a9bae", "#c3cdd8", "#6f7f5f", "#b5a27c")
HEAT = ((0.0, "#eef2f5"), (0.25, "#c2d9e6"), (0.5, "#7fb0cb"), (0.75, "#3a7ea6"), (1.0, "#0b4a73"))
DOLLAR_TICKS = {"tickprefix": "$", "tickformat": ",.4~f"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def profile_colours(count: int) -> tuple[str, ...]:
    """One colour per profile, the same in every picture; beyond nine they repeat."""
    colours = _FEW if count <= len(_FEW) else _MANY
    return tuple(colours[index % len(colours)] for index in range(count))


def tint(colour: str) -> str:
    """The same hue, much lighter: a session that is there and wants nothing."""
    parts = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return "#" + "".join(f"{round(0.38 * part + 0.62 * 255):02x}" for part in parts)


def clock_ms(since_start_us: Any) -> Any:
    """A time of the trace as plotly's dates want it: milliseconds, with the trace starting on 2001-01-01.

    Near 1970 plotly.js would read some numbers of milliseconds as years.
    """
    return ZERO_MS + since_start_us / 1e3


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


def time_axis(end_us: int, start_us: int = 0, ticks_max: int = 12, **more: Any) -> dict[str, Any]:
    """An axis of `clock_ms`, shown as hours and minutes since the trace's start, and days where there are several."""
    day = "\nday %-j" if end_us > 86_400e6 * 1.05 else ""
    ticks = {
        "tickformatstops": [
            {"dtickrange": [None, 1000], "value": "%H:%M:%S.%L"},
            {"dtickrange": [1000, 60_000], "value": "%H:%M:%S" + day},
            {"dtickrange": [60_000, 86_400_000], "value": "%H:%M" + day},
            {"dtickrange": [86_400_000, None], "value": "day %-j"},
        ]
    }
    if -start_us > 0.02 * (end_us - start_us):
        ticks = _signed_ticks(start_us, end_us, ticks_max)
    return {
        "type": "date",
        "range": [clock_ms(start_us), clock_ms(end_us)],
        "gridcolor": GRID,
        "linecolor": "#cfd8e0",
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#cfd8e0",
        "hoverformat": ("day %-j, " if day else "") + "%H:%M:%S",
        **ticks,
        **more,
    }


def _signed_ticks(start_us: int, end_us: int, ticks_max: int) -> dict[str, Any]:
    """Ticks with a minus before the trace's start, where the start-up is long enough to be seen."""
    step_us = tick_step_us(end_us - start_us, ticks_max)
    at_us = range(-(-start_us // step_us) * step_us, end_us + 1, step_us)
    return {
        "tickmode": "array",
        "tickvals": [clock_ms(us) for us in at_us],
        "ticktext": [clock_text(us, seconds=step_us % 60_000_000 > 0) for us in at_us],
    }


def tick_step_us(span_us: int, ticks_max: int) -> int:
    """The least round step with at most about `ticks_max` ticks."""
    steps_s = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800)
    return next((s for s in steps_s if span_us <= s * ticks_max * 1e6), 604_800) * 1_000_000


def clock_text(since_start_us: int, *, seconds: bool = False) -> str:
    """ "01:30" or "-00:00:30", with "day 3, " before it from the second day on; seconds also where they are not 0."""
    whole_s = abs(since_start_us) // 1_000_000
    days, rest = divmod(whole_s, 86_400)
    text = f"{rest // 3600:02d}:{rest // 60 % 60:02d}" + (f":{rest % 60:02d}" if rest % 60 or seconds else "")
    return (f"day {days + 1}, " if days else "") + ("-" if since_start_us < 0 else "") + text


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
