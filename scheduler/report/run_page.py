"""The report of one simulated run, as one HTML text.

Decides what stands where on the page; must never compute what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import polars as pl

from scheduler.fleet import Fleet
from scheduler.offline_plan import NEEDED_SCHEMA, OfflinePlan
from scheduler.report import markup, run_series, theme
from scheduler.report.bound import needed_of
from scheduler.report.document import Page, document
from scheduler.report.figures import demand_figure
from scheduler.report.lane_payload import heat_figure, left_margin, window_label
from scheduler.report.lanes import BARS_MAX, WHOLE, Lanes, heat_map, is_crowded, windows_of
from scheduler.report.run_figures import (
    Look,
    add_optimum,
    cdf_figure,
    gap_figure,
    latency_figure,
    looks,
    planning_figure,
)
from scheduler.report.run_lanes import HOST_MOVES_MAX, kind_colours, run_window
from scheduler.report.run_schedule import RunSchedule, run_schedule
from scheduler.report.run_words import TERMS, demand_words, in_time, run_figures, run_verdict
from scheduler.report.schedule import US_PER_S, Schedule
from scheduler.report.series import demand_series, edges_of
from scheduler.report.words import duration
from scheduler.simulation.outcome import Outcome


def render_run(outcome: Outcome, fleet: Fleet, optimum: OfflinePlan | None = None) -> str:
    """One self-contained HTML text that needs no network.

    `optimum` is the offline plan of the same trace on the same fleet, where there is one.
    """
    run = outcome.summary
    lanes = run_schedule(outcome.tables, fleet)
    page = Page(figures={}, payload={})
    body = [
        markup.page_header(
            brand="Epochal simulated run",
            title=f"{run.policy} on {run.trace}",
            badge=run_verdict(run),
            alarming=not in_time(run),
            facts=[
                ("Demand", demand_words(run)),
                ("Fleet", markup.fleet_words(fleet)),
                ("Epoch", duration(fleet.epoch_s)),
                ("Seed", str(run.seed)),
            ],
            figures=run_figures(run, fleet, optimum),
        ),
        "<main>",
        lanes_section(page, [("", lanes)], linked=True),
        _demand(page, lanes.schedule, optimum),
        _latency(page, outcome, lanes.schedule),
        distributions_section(page, [(looks([run.policy])[0], outcome)], fleet),
        planning_section(page, [(looks([run.policy])[0], outcome)]),
        markup.terms(TERMS),
        "<footer>Written by Epochal.</footer></main>",
    ]
    return document(f"{run.policy} on {run.trace} - Epochal run", "".join(body), page)


def lanes_section(page: Page, runs: Sequence[tuple[str, RunSchedule]], *, linked: bool) -> str:
    """Who runs where: of one run every window, of several the first window of each, chosen by buttons.

    `linked`: the time axis moves with the page's other pictures.
    """
    single = len(runs) == 1
    shown: list[tuple[str, RunSchedule, Lanes]] = []
    for name, run in runs:
        windows = windows_of(run.schedule)
        shown += [(name, run, window) for window in (windows if single else windows[:1])]
    page.payload.update(_look(runs))
    page.payload["windows"] = [run_window(run, window) for _, run, window in shown]
    parts = ['<section id="swim-lanes"><h2>Who runs where</h2>']
    parts.append(
        "<p>A row is a GPU, a bar is a session there; below are those on no GPU. Arrows are moves, at their target. "
        "Drag to zoom, double-click to reset.</p>"
    )
    if single and is_crowded(runs[0][1].schedule):
        parts.append(_heat(page, runs[0][1].schedule, tuple(window for _, _, window in shown)))
    if len(shown) > 1:
        keys = "".join(
            f'<button type="button" data-window="{index}" aria-pressed="false">{escape(_label(name, window))}</button>'
            for index, (name, _, window) in enumerate(shown)
        )
        parts.append(f'<div class="choose">{keys}</div>')
    if any(len(window.lane) >= BARS_MAX for _, _, window in shown):
        parts.append(f"<p>In a window with more than {BARS_MAX:,} stays the shortest ones are left out.</p>")
    parts.append(_key(runs))
    timed = ' data-timed="1"' if linked and len(shown) == 1 else ""
    parts.append(
        f'<div class="scroll"><div class="plot" id="lanes"{timed}></div></div><div class="plot" id="lanes-axis"></div>'
        '<div class="tip" id="lanes-tip" hidden></div></section>'
    )
    return "".join(parts)


def _label(name: str, window: Lanes) -> str:
    if not name:
        return window_label(window)
    return name if window.title == WHOLE else f"{name}: {window_label(window)}"


def _heat(page: Page, schedule: Schedule, windows: tuple[Lanes, ...]) -> str:
    heat = heat_map(schedule)
    rows = "GPU" if heat.gpus_per_row == 1 else f"group of {heat.gpus_per_row} neighbouring GPUs"
    shades = ",".join(colour for _, colour in theme.HEAT)
    scale = f'<i class="scale" style="background:linear-gradient(90deg,{shades})"></i>'
    return (
        f"<p>{len(schedule.placed.gpu_index):,} stays are too many for one picture. This is how full each {rows} is; "
        "white is off. Below are the stays themselves, in a few windows of time.</p>"
        f'<ul class="key"><li>{scale}0 to 100 % of seats used while on</li></ul>'
        + page.plot("heat", heat_figure(schedule, heat, windows), timed=1, gaps=heat.percent.shape[1])
    )


def _look(runs: Sequence[tuple[str, RunSchedule]]) -> dict[str, Any]:
    start_us = min(run.schedule.start_us for _, run in runs)
    end_us = max(run.schedule.end_us for _, run in runs)
    return {
        "zero": theme.ZERO_MS,
        "profiles": kind_colours(runs[0][1]),
        "look": {
            "paid": theme.PAID,
            "starting": theme.STARTING,
            "hatch": theme.HATCH,
            "move": theme.INK,
            "left": max(left_margin(run.schedule) for _, run in runs),
            "font": {"family": theme.FONT, "size": 12, "color": theme.MUTED},
            "xaxis": theme.time_axis(end_us, start_us),
        },
    }


def _key(runs: Sequence[tuple[str, RunSchedule]]) -> str:
    hatched = f"repeating-linear-gradient(135deg,{theme.HATCH} 0 2px,{theme.PAID} 2px 5px)"
    entries = [(kind["name"], kind["colour"]) for kind in kind_colours(runs[0][1])]
    entries += [("GPU on (paid)", theme.PAID), ("GPU starting up (paid, not usable)", hatched)]
    listed = "".join(f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for name, colour in entries)
    if len(runs) == 1:
        moves, host = len(runs[0][1].schedule.moves.at_us), len(runs[0][1].host_moves.gpu_index)
        small = f"{host:,} moves to or from host memory"
        small = f"grey: {small}" if host <= HOST_MOVES_MAX else f"{small}, drawn only where they are few"
        listed += f"<li>▲▼ migration ({moves:,})</li><li>{small}</li>"
    else:
        listed += "<li>▲▼ migration; grey: to or from host memory, where they are few</li>"
    return f'<ul class="key">{listed}</ul>'


def _demand(page: Page, schedule: Schedule, optimum: OfflinePlan | None) -> str:
    edges_us = edges_of(schedule)
    none = needed_of(schedule, pl.DataFrame(schema=NEEDED_SCHEMA))
    figure = demand_figure(schedule, demand_series(schedule, none, edges_us), left_margin(schedule))
    text = "Active sessions, and the GPUs that are paid for."
    if optimum is not None:
        add_optimum(figure, edges_us, run_series.gpus_planned(optimum).max_in(edges_us), yaxis="y2", legend="legend2")
        text += " The dotted line is the offline optimum, which knows the whole trace in advance."
    width = duration(float(edges_us[1] - edges_us[0]) / US_PER_S)
    how = f"Sessions are means and GPUs are peaks of each {width}."
    drawn = page.plot("demand", figure, timed=1)
    return f'<section id="demand"><h2>Demand and GPUs</h2><p>{text} {how}</p>{drawn}</section>'


def _latency(page: Page, outcome: Outcome, schedule: Schedule) -> str:
    fleet, left = schedule.fleet, left_margin(schedule)
    series = run_series.latency_over_time(outcome.tables, outcome.summary.horizon_s)
    figure = latency_figure(series, fleet, left)
    figure.update_layout(xaxis=theme.time_axis(schedule.end_us, schedule.start_us))  # as the pictures above
    drawn = page.plot("latency", figure, timed=1)
    text = f"What users feel for one chunk, by when it was delivered. {latency_words(series, fleet)}"
    return f'<section id="latency"><h2>Chunk latency</h2><p>{text}</p>{drawn}</section>'


def latency_words(series: run_series.LatencyOverTime, fleet: Fleet) -> str:
    """How epochs were put together."""
    if series.epochs_per_bin == 1:
        return f"One value per epoch of {duration(fleet.epoch_s)}."
    width = duration(series.epochs_per_bin * fleet.epoch_s)
    return f"Of the epochs in each {width}: the largest worst and p99, the mean p50, so that every peak is kept."


def distributions_section(page: Page, runs: Sequence[tuple[Look, Outcome]], fleet: Fleet, suffix: str = "") -> str:
    """Latency, first chunks and stalls as distributions, side by side."""
    tables = [(look, outcome.tables) for look, outcome in runs]
    marks = [(target, f"target {target:,.0f} ms") for target in sorted({fleet.target_ms(p) for p in fleet.profiles})]
    first_ms = fleet.target.first_chunk_ms
    chunk = cdf_figure(
        [(look, run_series.latency_cdf(t)) for look, t in tables], "chunk latency", "ms", "chunks", marks
    )
    first = cdf_figure(
        [(look, run_series.first_chunk_cdf(t)) for look, t in tables],
        "first chunk", "ms", "active periods", [(first_ms, f"target {first_ms:,.0f} ms")],
    )  # fmt: skip
    stall = cdf_figure([(look, run_series.stall_cdf(t)) for look, t in tables], "stall", "s", "active periods")
    plots = "".join(
        page.plot(f"{name}{suffix}", figure) for name, figure in (("cdf", chunk), ("first", first), ("stall", stall))
    )
    text = (
        "How many chunks came within a latency, and how many periods had their first chunk, or stalled, within a time."
    )
    head = f'<section id="distributions{suffix}"><h2>Distributions</h2><p>{text}</p>'
    key = ""
    if len(runs) > 1:
        entries = "".join(f'<li><i style="background:{look.colour}"></i>{look.name}</li>' for look, _ in runs)
        key = f'<ul class="key">{entries}</ul>'
    return f'{head}{key}<div class="trio">{plots}</div></section>'


def planning_section(page: Page, runs: Sequence[tuple[Look, Outcome]]) -> str:
    """Planning time and gap against fleet size; empty where neither is known."""
    steps = [(look, run_series.planning_by_size(outcome.tables)) for look, outcome in runs]
    found = [("planning", planning_figure(steps)), ("gap", gap_figure(steps))]
    plots = "".join(page.plot(name, figure) for name, figure in found if figure is not None)
    if not plots:
        return ""
    text = "Each step of the policy by the GPUs that were on at its time. Solid: p99, dotted: p50."
    return f'<section id="planning"><h2>Planning</h2><p>{text}</p><div class="pair">{plots}</div></section>'
