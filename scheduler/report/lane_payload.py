"""Swim-lanes as the page's script wants them: compact typed arrays, labels, and the layout of the plot.

Decides what is sent to the browser and in how many bytes; must never know how the browser draws it.
"""

from __future__ import annotations

import base64
from html import escape
from itertools import groupby
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from scheduler.report import theme
from scheduler.report.lanes import HeatMap, Lanes
from scheduler.report.schedule import Int, Schedule
from scheduler.report.theme import clock_ms, clock_text
from scheduler.report.words import duration

LANE_PX_MIN, LANE_PX_MAX = 12, 34
_PLOT_PX = 660  # all lanes together, where they can be that low
_BAR_PX = 1.4  # where lanes need not be that low
_LABEL_PX = 6.6  # a character of the axis


def packed(values: Any, dtype: str) -> dict[str, str]:
    """A typed array in the notation that plotly.js has for them."""
    return {
        "dtype": dtype[1:],
        "bdata": base64.b64encode(np.asarray(values).astype(f"<{dtype[1:]}").tobytes()).decode(),
    }


_DTYPES = {
    "bars": {"lane": "<u2", "slot": "<u2", "high": "<u1", "profile": "<u1", "start": "<f8", "end": "<f8"},
    "on": {"lane": "<u2", "on": "<f8", "usable": "<f8", "off": "<f8"},
    "moves": {"from": "<f8", "at": "<f8", "source": "<u2", "target": "<u2", "host": "<u1"},
}


def window_payload(schedule: Schedule, lanes: Lanes, session_ids: pl.Series) -> dict[str, Any]:
    """One window: bars, GPUs on, migrations and labels; times are milliseconds since the trace's start."""
    return packed_window(window_arrays(schedule, lanes, session_ids, schedule.moves.at_us))


def window_arrays(schedule: Schedule, lanes: Lanes, session_ids: pl.Series, moved_from_us: Int) -> dict[str, Any]:
    """The same, before it is packed; `moved_from_us` [migrations]: when each began."""
    placed, on, moves, gpus = schedule.placed, schedule.on, schedule.moves, schedule.gpus
    lane_of = np.full(len(gpus.gpu_id), -1, np.int64)
    lane_of[lanes.gpu_index] = np.arange(len(lanes.gpu_index))
    bars, moved = lanes.placed_index, lanes.move_index
    return {
        "title": lanes.title,
        "start": clock_ms(lanes.start_us),
        "end": clock_ms(lanes.end_us),
        "slots": [lanes.slots] * len(lanes.gpu_index),
        "px": lane_px(len(lanes.gpu_index), lanes.slots),
        "gpus": [gpus.gpu_id[index] for index in lanes.gpu_index],
        "groups": _groups(schedule, lanes),
        "bars": {
            "lane": lanes.lane,
            "slot": lanes.slot,
            "high": np.ones(len(bars)),  # slots that the bar takes
            "profile": placed.profile_index[bars],
            "start": clock_ms(placed.start_us[bars]),
            "end": clock_ms(placed.end_us[bars]),
            "session": session_ids.gather(placed.session_index[bars]).to_list(),
        },
        "on": {
            "lane": lanes.on_lane,
            "on": clock_ms(on.on_us[lanes.on_index]),
            "usable": clock_ms(on.usable_us[lanes.on_index]),
            "off": clock_ms(on.off_us[lanes.on_index]),
        },
        "moves": {
            "from": clock_ms(moved_from_us[moved]),
            "at": clock_ms(moves.at_us[moved]),
            "source": lane_of[moves.source_index[moved]],
            "target": lane_of[moves.target_index[moved]],
            "host": np.zeros(len(moved)),
        },
    }


def packed_window(arrays: dict[str, Any]) -> dict[str, Any]:
    """Its arrays in the notation that plotly.js has for them."""
    parts = {
        part: {
            name: packed(values, dtypes[name]) if name in dtypes else values for name, values in arrays[part].items()
        }
        for part, dtypes in _DTYPES.items()
    }
    return arrays | parts


def lane_px(lanes: int, slots: int = 1) -> int:
    """Height of a lane on the screen, in which so many bars lie above each other."""
    lowest = np.clip(_BAR_PX * slots, LANE_PX_MIN, LANE_PX_MAX)
    return int(np.clip(_PLOT_PX // max(lanes, 1), lowest, LANE_PX_MAX))


def left_margin(schedule: Schedule) -> int:
    """Room for the longest GPU id."""
    return int(np.clip(22 + _LABEL_PX * max(map(len, schedule.gpus.gpu_id), default=0), 64, 190))


def _groups(schedule: Schedule, lanes: Lanes) -> list[dict[str, Any]]:
    """Neighbouring lanes of one node: where they begin, how many they are, and what they are called."""
    types, gpus, found, first = list(schedule.fleet.gpu_types), schedule.gpus, [], 0
    keys = [(types[gpus.type_index[index]], gpus.node[index]) for index in lanes.gpu_index]
    for (gpu_type, node), members in groupby(keys):
        count = len(list(members))
        found.append({"first": first, "count": count, "type": gpu_type, "node": node})
        first += count
    return found


def heat_figure(schedule: Schedule, heat: HeatMap, windows: tuple[Lanes, ...]) -> go.Figure:
    """All GPUs and all times: how full each GPU is, with the windows marked."""
    rows = len(heat.percent)
    figure = go.Figure(layout=theme.layout(height=int(np.clip(90 + 3 * rows, 240, 520)), left=left_margin(schedule)))
    edges = clock_ms(heat.edges_us)
    figure.add_heatmap(
        z=heat.percent, x=edges, y0=0, dy=1, zmin=0, zmax=100, colorscale=theme.HEAT, hoverongaps=False,
        showscale=False,
        hovertemplate="%{x|%H:%M} %{y}: %{z} % of seats used<extra></extra>",
    )  # fmt: skip
    marks = [(clock_ms(window.start_us), clock_ms(window.end_us), escape(window.title)) for window in windows]
    span_ms = (heat.edges_us[-1] - heat.edges_us[0]) / 1e3
    for start, end, title in marks:
        middle, half = (start + end) / 2, max((end - start) / 2, span_ms / 1500)
        figure.add_shape(
            type="rect", x0=middle - half, x1=middle + half, y0=0, y1=1, yref="paper",
            line={"color": theme.ALARM, "width": 1}, fillcolor="rgba(213,94,0,0.10)",
        )  # fmt: skip
        figure.add_annotation(
            x=middle, y=1, yref="paper", yanchor="bottom", text=title, showarrow=False,
            font={"size": 11, "color": theme.ALARM},
        )  # fmt: skip
    tick_rows, tick_text = _heat_ticks(schedule, heat)
    figure.update_xaxes(**theme.time_axis(int(heat.edges_us[-1]), int(heat.edges_us[0]), showgrid=False))
    figure.update_yaxes(
        range=[rows - 0.5, -0.5], tickvals=tick_rows, ticktext=tick_text, showgrid=False, zeroline=False,
        tickfont={"size": 11},
    )  # fmt: skip
    figure.update_layout(margin={"t": 26})
    return figure


def _heat_ticks(schedule: Schedule, heat: HeatMap) -> tuple[list[int], list[str]]:
    """The first GPU of about every twelfth of the rows, with its type where there are several."""
    rows, gpus, types = len(heat.percent), schedule.gpus, list(schedule.fleet.gpu_types)
    chosen = list(range(0, rows, max(1, -(-rows // 12))))
    firsts = [row * heat.gpus_per_row for row in chosen]
    suffix = [f" ({escape(types[gpus.type_index[index]])})" if len(types) > 1 else "" for index in firsts]
    return chosen, [escape(gpus.gpu_id[index]) + end for index, end in zip(firsts, suffix, strict=True)]


def window_label(lanes: Lanes) -> str:
    """ "Busiest: 1 h from 13:00"."""
    return f"{lanes.title}: {duration((lanes.end_us - lanes.start_us) / 1e6)} from {clock_text(lanes.start_us)}"
