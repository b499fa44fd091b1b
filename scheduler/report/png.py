"""The report's pictures as PNG, for slides and chats.

Decides how matplotlib draws what the page shows; must never compute a figure.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from scheduler.offline_plan import OfflinePlan
from scheduler.report import theme, words
from scheduler.report.bound import needed_of
from scheduler.report.lanes import Lanes, windows_of
from scheduler.report.schedule import Float, Int, Schedule, schedule_of
from scheduler.report.series import cost_series, demand_series, edges_of, latency_series
from traces.errors import BadInputError
from traces.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 150
_HOUR_US = 3_600e6


def render_pngs(plan: OfflinePlan, trace: Trace) -> dict[str, bytes]:
    """File name -> PNG: demand, swim-lanes (whole or busiest window), chunk latency, cost, and frontier if any.

    Raises `BadInputError` where matplotlib, the extra `png`, is not installed.
    """
    try:
        import matplotlib as _  # noqa: F401
    except ImportError:
        message = "matplotlib is not installed and must be; install it with: pip install 'epochal[png]'"
        raise BadInputError.of("png pictures", message) from None
    schedule = schedule_of(plan, trace)
    pictures = {
        "demand.png": _demand(plan, schedule),
        "swim_lanes.png": _lanes(schedule),
        "chunk_latency.png": _latency(schedule),
        "cost.png": _cost(plan, schedule),
    }
    if plan.frontier is not None:
        pictures["frontier.png"] = _frontier(plan)
    return {name: _bytes(figure) for name, figure in pictures.items()}


def _figure(height: float, rows: int = 1, **more: Any) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, height), layout="constrained", facecolor=theme.PAPER)
    axes = figure.subplots(rows, squeeze=False, **more)[:, 0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(theme.WORST)
        axis.tick_params(colors=theme.MUTED, labelsize=9)
        axis.grid(color=theme.GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.yaxis.label.set_color(theme.MUTED)
        axis.xaxis.label.set_color(theme.MUTED)
    return figure, axes


def _bytes(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _demand(plan: OfflinePlan, schedule: Schedule) -> Figure:
    series = demand_series(schedule, needed_of(schedule, plan.needed), edges_of(schedule))
    figure, (top, below) = _figure(6.0, 2, sharex=True, height_ratios=[1.3, 1])
    colours = theme.profile_colours(len(schedule.fleet.profiles))
    bottom = np.zeros(len(series.edges_us) - 1)
    for name, colour, sessions in zip(schedule.fleet.profiles, colours, series.sessions_mean, strict=True):
        _area(top, series.edges_us, bottom, bottom + sessions, colour, name)
        bottom = bottom + sessions
    _line(top, series.edges_us, series.sessions_max, theme.INK, "peak of all", linewidth=0.8)
    top.set_ylabel("active sessions")
    bottom = np.zeros(len(series.edges_us) - 1)
    single = len(schedule.fleet.gpu_types) == 1
    for index, (name, gpus) in enumerate(zip(schedule.fleet.gpu_types, series.gpus_max, strict=True)):
        colour = theme.STARTING if single else theme.TYPES[index % len(theme.TYPES)]
        _area(below, series.edges_us, bottom, bottom + gpus, colour, "GPUs on" if single else f"{name} on")
        bottom = bottom + gpus
    if series.needed_max is not None:
        _line(below, series.edges_us, series.needed_max, theme.ALARM, "GPUs needed (lower bound)", linestyle=":")
    below.set_ylabel("GPUs")
    _finish_time(below, series.edges_us)
    for axis in (top, below):
        _legend(axis)
    return figure


def _latency(schedule: Schedule) -> Figure:
    series = latency_series(schedule, edges_of(schedule))
    figure, (axis,) = _figure(4.2)
    _line(axis, series.edges_us, series.worst_ms, theme.WORST, "worst", linewidth=2.4)
    _line(axis, series.edges_us, series.p99_ms, theme.ACCENT, "p99 of session time", linewidth=1.0)
    _line(axis, series.edges_us, series.mean_ms, "#56B4E9", "mean of session time", linewidth=1.4)
    targets = sorted({schedule.fleet.target_ms(profile) for profile in schedule.fleet.profiles})
    for target in targets:
        axis.axhline(target, color=theme.ALARM, linewidth=1.2, linestyle="--", label=f"target {target:,.0f} ms")
    axis.set_ylim(bottom=0)
    axis.set_ylabel("chunk latency (ms)")
    _finish_time(axis, series.edges_us)
    _legend(axis)
    return figure


def _cost(plan: OfflinePlan, schedule: Schedule) -> Figure:
    series = cost_series(schedule, needed_of(schedule, plan.needed), edges_of(schedule, 400))
    figure, (axis,) = _figure(4.2)
    hours = series.edges_us / _HOUR_US
    axis.fill_between(hours, series.paid, color=theme.PAID)
    axis.plot(hours, series.paid, color=theme.TYPES[0], label=f"paid so far ({words.dollars(float(series.paid[-1]))})")
    axis.plot(hours, series.needed, color=theme.ALARM, linestyle=":", label="needed so far (start-up not counted)")
    bound = plan.certificate.bound_dollars
    if bound is not None:
        axis.axhline(
            bound, color=theme.INK, linewidth=1, linestyle="--", label=f"certified bound {words.dollars(bound)}"
        )
    axis.set_ylabel("dollars")
    axis.set_ylim(bottom=0)
    _finish_time(axis, series.edges_us)
    _legend(axis)
    return figure


def _frontier(plan: OfflinePlan) -> Figure:
    assert plan.frontier is not None
    rows = plan.frontier.sort("target_ms")
    figure, (axis,) = _figure(4.6)
    target, total, bound = (rows[name].to_numpy() for name in ("target_ms", "total_dollars", "bound_dollars"))
    axis.fill_between(target, bound, total, color=theme.ACCENT, alpha=0.1)
    axis.plot(target, total, color=theme.ACCENT, marker="o", label="best schedule found")
    axis.plot(target, bound, color=theme.ALARM, linestyle=":", marker=".", label="lower bound")
    for x, y, gap in zip(target, total, rows["gap"], strict=True):
        axis.annotate(words.per_cent(gap), (x, y), (6, 6), textcoords="offset points", color=theme.MUTED, fontsize=9)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("chunk latency target (ms)")
    axis.set_ylabel("dollars")
    _legend(axis)
    return figure


def _lanes(schedule: Schedule) -> Figure:
    """The first window: all of the schedule, or its busiest part."""
    from matplotlib.patches import Patch

    window = windows_of(schedule)[0]
    figure, (axis,) = _figure(float(np.clip(1.2 + 0.14 * len(window.gpu_index), 2.4, 24.0)))
    on, index = schedule.on, window.on_index
    _boxes(axis, on.on_us[index], on.off_us[index], window.lane[:0], window.on_lane, 1, theme.PAID)
    _boxes(axis, on.on_us[index], on.usable_us[index], window.lane[:0], window.on_lane, 1, theme.STARTING)
    colours = theme.profile_colours(len(schedule.fleet.profiles))
    placed = schedule.placed
    for profile, colour in enumerate(colours):
        mine = np.flatnonzero(placed.profile_index[window.placed_index] == profile)
        bars = window.placed_index[mine]
        slot, lane = window.slot[mine], window.lane[mine]
        _boxes(axis, placed.start_us[bars], placed.end_us[bars], slot, lane, window.slots, colour)
    _draw_moves(axis, schedule, window)
    axis.grid(visible=False)
    axis.set_ylim(len(window.gpu_index) - 0.5, -0.5)
    axis.set_yticks(range(len(window.gpu_index)), [schedule.gpus.gpu_id[gpu] for gpu in window.gpu_index], fontsize=6)
    _finish_time(axis, np.array([window.start_us, window.end_us]))
    entries = [
        *zip(schedule.fleet.profiles, colours, strict=True),
        ("on (paid)", theme.PAID),
        ("starting", theme.STARTING),
    ]
    handles = [Patch(color=colour, label=name) for name, colour in entries]
    figure.legend(handles=handles, loc="outside upper left", ncols=6, frameon=False, fontsize=9)
    return figure


def _boxes(axis: Axes, start_us: Int, end_us: Int, slot: Int, lane: Int, slots: int, colour: str) -> None:
    from matplotlib.collections import PolyCollection

    left, right = start_us / _HOUR_US, end_us / _HOUR_US
    height = 0.84 / slots
    top = lane - 0.42 + (slot * height if len(slot) else 0.0)
    corners = np.stack([left, top, right, top, right, top + height * 0.92, left, top + height * 0.92], axis=1)
    boxes = PolyCollection(corners.reshape(-1, 4, 2).tolist(), facecolors=colour, linewidths=0)
    axis.add_collection(boxes, autolim=False)


def _draw_moves(axis: Axes, schedule: Schedule, window: Lanes) -> None:
    lane_of = np.full(len(schedule.gpus.gpu_id), -1, np.int64)
    lane_of[window.gpu_index] = np.arange(len(window.gpu_index))
    moves, index = schedule.moves, window.move_index
    hours = moves.at_us[index] / _HOUR_US
    source, target = lane_of[moves.source_index[index]], lane_of[moves.target_index[index]]
    axis.vlines(hours, source, target, color=theme.INK, linewidth=0.5)
    for down, marker in ((True, "v"), (False, "^")):
        mine = (target > source) == down
        axis.plot(hours[mine], target[mine], marker, color=theme.INK, markersize=3)


def _area(axis: Axes, edges_us: Int, low: Float, high: Float, colour: str, name: str) -> None:
    hours = edges_us / _HOUR_US
    axis.fill_between(
        hours, np.append(low, low[-1]), np.append(high, high[-1]), step="post", color=colour, label=name, linewidth=0
    )


def _line(axis: Axes, edges_us: Int, values: Float, colour: str, name: str, **more: Any) -> None:
    axis.step(edges_us / _HOUR_US, np.append(values, values[-1]), where="post", color=colour, label=name, **more)


def _finish_time(axis: Axes, edges_us: Int) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step_us = theme.tick_step_us(int(edges_us[-1] - edges_us[0]), 12)

    def text(hours: float, _: int) -> str:
        return theme.clock_text(round(hours * 3600) * 1_000_000, seconds=step_us % 60_000_000 > 0)

    axis.set_xlim(edges_us[0] / _HOUR_US, edges_us[-1] / _HOUR_US)
    axis.xaxis.set_major_locator(MultipleLocator(step_us / _HOUR_US))
    axis.xaxis.set_major_formatter(FuncFormatter(text))
    axis.set_xlabel("time since the start of the trace (hh:mm)")


def _legend(axis: Axes) -> None:
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6, frameon=False, fontsize=9)
