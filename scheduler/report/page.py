"""The report as one HTML text: sections in their order, figures as data, style and script inlined.

Decides what stands where on the page; must never compute what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from scheduler.offline_plan import OfflinePlan
from scheduler.report import figures, lane_payload, markup, theme
from scheduler.report.bound import needed_of
from scheduler.report.document import Page, document
from scheduler.report.gpu_table import gpu_rows
from scheduler.report.lanes import BARS_MAX, Lanes, heat_map, is_crowded, windows_of
from scheduler.report.schedule import US_PER_S, Schedule, schedule_of
from scheduler.report.series import cost_parts, cost_series, demand_series, edges_of, latency_series
from scheduler.report.words import duration
from traces.trace import Trace


def render_report(plan: OfflinePlan, trace: Trace, comparison: Mapping[str, float] | None = None) -> str:
    """One self-contained HTML text that needs no network.

    `trace` is the one that the plan was made for. `comparison` says what else one might do costs, by name, in dollars:
    {"Blanket headroom: ceil(active / (0.9 x capacity))": 1234.5}.
    """
    compared = {} if comparison is None else comparison
    schedule = schedule_of(plan, trace)
    active_s = float((schedule.periods.end_us - schedule.periods.start_us).sum()) / US_PER_S
    page = Page(figures={}, payload={})
    body = [
        markup.header(plan, active_s),
        "<main>",
        markup.certificate(plan, active_s, compared),
        _demand(page, schedule, plan),
        _lanes(page, schedule, trace),
        _latency(page, schedule),
        _cost(page, schedule, plan, compared),
    ]
    if plan.frontier is not None:
        body.append(_frontier(page, schedule, plan))
    body += [markup.gpu_table(gpu_rows(schedule)), markup.notes(plan), "<footer>Written by Epochal.</footer></main>"]
    return document(f"{plan.trace_name} - Epochal plan", "".join(body), page)


def _demand(page: Page, schedule: Schedule, plan: OfflinePlan) -> str:
    edges_us = edges_of(schedule)
    needed = needed_of(schedule, plan.needed)
    series = demand_series(schedule, needed, edges_us)
    width = duration(float(edges_us[1] - edges_us[0]) / US_PER_S)
    if plan.needed.is_empty():
        line = "The certificate has no rows per epoch, so no bound is drawn over time."
    elif needed.gpus is None:
        line = (
            "With several GPU types no single number of GPUs is needed, so the bound is in dollars per hour: "
            "what any choice of types must pay at least."
        )
    else:
        line = (
            "The dotted line is how many GPUs any schedule that serves everybody on time needs at that moment; "
            "what lies above it is start-up, GPUs kept on, and what the bound does not see."
        )
    drawn = page.plot("demand", figures.demand_figure(schedule, series, lane_payload.left_margin(schedule)), timed=1)
    how = f"Sessions are means and GPUs are peaks of each {width}."
    return f'<section id="demand"><h2>Demand and GPUs</h2><p>{line} {how}</p>{drawn}</section>'


def _lanes(page: Page, schedule: Schedule, trace: Trace) -> str:
    windows = windows_of(schedule)
    session_ids = trace.sessions["session_id"]
    page.payload.update(_lane_look(schedule))
    page.payload["windows"] = [lane_payload.window_payload(schedule, window, session_ids) for window in windows]
    parts = ['<section id="swim-lanes"><h2>Who runs where</h2>']
    crowded = is_crowded(schedule)
    if crowded:
        heat = heat_map(schedule)
        rows = "GPU" if heat.gpus_per_row == 1 else f"group of {heat.gpus_per_row} neighbouring GPUs"
        parts.append(
            f"<p>{len(schedule.placed.gpu_index):,} placements are too many for one picture. This is how full each "
            f"{rows} is; white is off. Below are the placements themselves, in a few windows of time.</p>"
        )
        figure = lane_payload.heat_figure(schedule, heat, windows)
        shades = ",".join(colour for _, colour in theme.HEAT)
        scale = f'<i class="scale" style="background:linear-gradient(90deg,{shades})"></i>'
        parts.append(f'<ul class="key"><li>{scale}0 to 100 % of seats used while on</li></ul>')
        parts.append(page.plot("heat", figure, timed=1, gaps=heat.percent.shape[1]))
        keys = "".join(
            f'<button type="button" data-window="{index}" aria-pressed="false">'
            f"{escape(lane_payload.window_label(window))}</button>"
            for index, window in enumerate(windows)
        )
        parts.append(f'<div class="choose">{keys}</div>')
    else:
        parts.append(
            "<p>A row is a GPU, a bar is a session while it is active there. Drag to zoom, double-click to reset.</p>"
        )
    parts.append(_left_out(windows))
    parts.append(_key(schedule))
    linked = "" if crowded else ' data-timed="1"'
    parts.append(
        f'<div class="scroll"><div class="plot" id="lanes"{linked}></div></div><div class="plot" id="lanes-axis"></div>'
        '<div class="tip" id="lanes-tip" hidden></div></section>'
    )
    return "".join(parts)


def _left_out(windows: tuple[Lanes, ...]) -> str:
    if any(len(window.lane) >= BARS_MAX for window in windows):
        return f"<p>In a window with more than {BARS_MAX:,} placements the shortest ones are left out.</p>"
    return ""


def _lane_look(schedule: Schedule) -> dict[str, Any]:
    colours = theme.profile_colours(len(schedule.fleet.profiles))
    pairs = zip(schedule.fleet.profiles, colours, strict=True)
    return {
        "zero": theme.ZERO_MS,
        "profiles": [{"name": name, "colour": colour} for name, colour in pairs],
        "look": {
            "paid": theme.PAID,
            "starting": theme.STARTING,
            "hatch": theme.HATCH,
            "move": theme.INK,
            "left": lane_payload.left_margin(schedule),
            "font": {"family": theme.FONT, "size": 12, "color": theme.MUTED},
            "xaxis": theme.time_axis(schedule.end_us, schedule.start_us),
        },
    }


def _key(schedule: Schedule) -> str:
    colours = theme.profile_colours(len(schedule.fleet.profiles))
    hatched = f"repeating-linear-gradient(135deg,{theme.HATCH} 0 2px,{theme.PAID} 2px 5px)"
    entries = [(name, colour) for name, colour in zip(schedule.fleet.profiles, colours, strict=True)]
    entries += [("GPU on (paid)", theme.PAID), ("GPU starting up (paid, not usable)", hatched)]
    listed = "".join(f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for name, colour in entries)
    moves = len(schedule.moves.at_us)
    arrow = f"<li>▲▼ migration, at its target ({moves:,} in all)</li>" if moves else "<li>no migrations</li>"
    return f'<ul class="key">{listed}{arrow}</ul>'


def _latency(page: Page, schedule: Schedule) -> str:
    series = latency_series(schedule, edges_of(schedule))
    drawn = page.plot("latency", figures.latency_figure(schedule, series, lane_payload.left_margin(schedule)), timed=1)
    width = duration(float(series.edges_us[1] - series.edges_us[0]) / US_PER_S)
    text = (
        f"The time of one batch round on each GPU. Worst of all GPUs, p99 and mean over session time, in each {width}; "
        "peaks are kept, however short."
    )
    return f'<section id="latency"><h2>Chunk latency</h2><p>{text}</p>{drawn}</section>'


def _cost(page: Page, schedule: Schedule, plan: OfflinePlan, comparison: Mapping[str, float]) -> str:
    parts = cost_parts(schedule)
    gpu_dollars = float(parts.total.sum())
    share = float(parts.used.sum()) / gpu_dollars if gpu_dollars else 0.0
    edges_us = edges_of(schedule, 400)
    cumulative = cost_series(schedule, needed_of(schedule, plan.needed), edges_us)
    left = page.plot("parts", figures.parts_figure(schedule, parts, plan.objective.move_dollars))
    bound = plan.certificate.bound_dollars
    right = page.plot("cumulative", figures.cumulative_figure(cumulative, bound), timed=1)
    compared = ""
    if comparison:
        figure = figures.comparison_figure(plan.objective.total_dollars, bound, comparison)
        compared = page.plot("comparison", figure)
    text = (
        f"{100 * share:.1f} % of the GPU dollars pay for seats in use; the rest is free seats, empty GPUs and start-up."
    )
    return (
        f'<section id="cost"><h2>Where the money goes</h2><p>{text}</p><div class="pair">{left}{right}</div>'
        f"{compared}</section>"
    )


def _frontier(page: Page, schedule: Schedule, plan: OfflinePlan) -> str:
    assert plan.frontier is not None
    target_ms = schedule.fleet.target.chunk_latency_ms
    figure = figures.frontier_figure(plan.frontier, target_ms, plan.objective.total_dollars)
    text = "What other latency targets would cost. The shaded band is not proven; the labels are its share, the gap."
    return f'<section id="frontier"><h2>Cost against latency</h2><p>{text}</p>{page.plot("frontier", figure)}</section>'
