"""The report of a comparison: policies side by side, trace by trace, as one HTML text.

Decides what stands where on the page; must never compute what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import polars as pl

from scheduler.compare import Comparison, headings, table_lines
from scheduler.fleet import Fleet
from scheduler.offline_plan import OfflinePlan
from scheduler.report import markup, run_series
from scheduler.report.compare_figures import cost_figure, dots_figure, late_figure
from scheduler.report.document import Page, document
from scheduler.report.run_figures import Look, gpus_figure, latencies_figure, looks
from scheduler.report.run_page import distributions_section, lanes_section, latency_words, planning_section
from scheduler.report.run_schedule import run_schedule
from scheduler.report.run_words import TERMS, demand_words
from scheduler.report.steps import bin_edges_us
from scheduler.report.words import Figure, dollars, duration, milliseconds, per_cent
from scheduler.simulation.outcome import Outcome

LANES_MAX = 12  # runs whose swim-lanes the page holds
_LEFT = 76


def render_comparison(comparison: Comparison, fleet: Fleet, names: Sequence[str]) -> str:
    """One self-contained HTML text that needs no network; `names` are the traces', in the order of their index."""
    policies = list(dict.fromkeys(run.cell.policy for run in comparison.runs))
    look_of = dict(zip(policies, looks(policies), strict=True))
    page = Page(figures={}, payload={})
    panels = [_panel(page, comparison, fleet, index, name, look_of) for index, name in enumerate(names)]
    seeds = len({run.cell.seed for run in comparison.runs})
    first = comparison.runs[0].summary
    body = [
        markup.page_header(
            brand="Epochal comparison",
            title=", ".join(names),
            badge=f"{len(policies)} policies, {seeds} seed{'s' if seeds > 1 else ''}",
            facts=[
                ("Demand", demand_words(first) if len(names) == 1 else f"{len(names)} traces"),
                ("Fleet", markup.fleet_words(fleet)),
                ("Epoch", duration(fleet.epoch_s)),
            ],
            figures=_figures(comparison),
        ),
        "<main>",
        _chooser(names),
        *panels,
        _lanes(page, comparison, fleet, names),
        planning_section(page, _first_runs(comparison, look_of, None)),
        markup.terms(TERMS),
        "<footer>Written by Epochal.</footer></main>",
    ]
    return document(f"{', '.join(names)} - Epochal comparison", "".join(body), page)


def _figures(comparison: Comparison) -> tuple[Figure, ...]:
    """Of the first trace: the optimum, and who is best at what."""
    rows = comparison.rows.filter(pl.col("trace") == comparison.rows["trace"][0])
    found = []
    if rows["bound_dollars"][0] is not None:
        note = f"offline plan {dollars(rows['plan_dollars'][0])}"
        found.append(Figure(label="Bound", value=dollars(rows["bound_dollars"][0]), note=note))
    in_time = rows.filter((pl.col("late_chunk_ratio") == 0) & (pl.col("late_first_chunk_ratio") == 0))
    for label, among in (("Cheapest with nobody late", in_time), ("Cheapest", rows)):
        if among.height:
            best = among.sort("gpu_dollars").row(0, named=True)
            found.append(Figure(label=label, value=dollars(best["gpu_dollars"]), note=best["policy"]))
    least = rows.sort("late_chunk_ratio", "late_first_chunk_ratio", "gpu_dollars").row(0, named=True)
    found.append(Figure(label="Fewest late chunks", value=per_cent(least["late_chunk_ratio"]), note=least["policy"]))
    fast = rows.sort("chunk_latency_ms_p99").row(0, named=True)
    value = milliseconds(fast["chunk_latency_ms_p99"])
    found.append(Figure(label="Least p99 latency", value=value, unit="ms", note=fast["policy"]))
    return tuple(found[:4])


def _chooser(names: Sequence[str]) -> str:
    if len(names) == 1:
        return ""
    keys = "".join(
        f'<button type="button" data-choose="{index}" aria-pressed="{"true" if index == 0 else "false"}">'
        f"{escape(name)}</button>"
        for index, name in enumerate(names)
    )
    return f'<div class="choose" id="traces">{keys}</div>'


def _panel(page: Page, comparison: Comparison, fleet: Fleet, index: int, name: str, look_of: Mapping[str, Look]) -> str:
    """Everything about one trace."""
    rows = comparison.rows.filter(pl.col("trace") == name)
    plan = comparison.plans[index]
    runs = _first_runs(comparison, look_of, index)
    parts = [
        _money(page, rows, look_of, index),
        _table(rows, name),
        "" if plan is None else _frontier(page, rows, look_of, plan, index),
    ]
    if runs:
        parts += [
            _demand(page, runs, plan, index),
            _latency(page, runs, fleet, index),
            distributions_section(page, runs, fleet, str(index)),
        ]
    return f'<div class="panel" data-panel="{index}">{"".join(parts)}</div>'


def _first_runs(comparison: Comparison, look_of: Mapping[str, Look], trace: int | None) -> list[tuple[Look, Outcome]]:
    """The runs whose tables are there, one per policy: the pictures over time are of the first seed."""
    found: dict[str, Outcome] = {}
    for run in comparison.runs:
        if run.outcome is not None and trace in (None, run.cell.trace):
            found.setdefault(run.cell.policy, run.outcome)
    return [(look_of[policy], outcome) for policy, outcome in found.items()]


def _money(page: Page, rows: pl.DataFrame, look_of: Mapping[str, Look], index: int) -> str:
    left = page.plot(f"cost{index}", cost_figure(rows, look_of))
    right = page.plot(f"late{index}", late_figure(rows))
    text = "Means over seeds; whiskers from the least to the largest. In brackets: above the bound of the optimum."
    head = f'<section id="cost{index}"><h2>Cost and lateness</h2><p>{text}</p>'
    return f'{head}<div class="pair">{left}{right}</div></section>'


def _table(rows: pl.DataFrame, name: str) -> str:
    head = "".join(f"<th class=n>{escape(text)}</th>" for text in headings())
    body = "".join(
        f"<tr><td>{escape(line)}</td>{''.join(f'<td class=n>{escape(cell)}</td>' for cell in cells)}</tr>"
        for line, cells in table_lines(rows)[name].items()
    )
    text = "Mean over seeds ± half of the range."
    return (
        f'<section><h2>Figures</h2><p>{text}</p><div class="table"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _frontier(page: Page, rows: pl.DataFrame, look_of: Mapping[str, Look], plan: OfflinePlan, index: int) -> str:
    drawn = page.plot(f"frontier{index}", dots_figure(rows, look_of, plan))
    text = (
        "What the optimum costs for each latency target, and where the policies are. A full dot has nobody late, an "
        "open diamond has somebody late and may therefore lie below the bound."
    )
    return f'<section id="frontier{index}"><h2>Cost against latency</h2><p>{text}</p>{drawn}</section>'


def _demand(page: Page, runs: Sequence[tuple[Look, Outcome]], plan: OfflinePlan | None, index: int) -> str:
    steps = [(look, run_series.gpus_paid(outcome.tables)) for look, outcome in runs]
    end_us = max(round(outcome.summary.horizon_s * 1e6) for _, outcome in runs)
    edges_us = bin_edges_us(min(0, *(int(gpus.at_us[0]) for _, gpus in steps)), end_us, run_series.BINS_MAX)
    figure = gpus_figure(
        edges_us,
        run_series.active_sessions(runs[0][1].tables).max_in(edges_us),
        [(look, gpus.max_in(edges_us)) for look, gpus in steps],
        None if plan is None else run_series.gpus_planned(plan).max_in(edges_us),
        _LEFT,
    )
    width = duration(float(edges_us[1] - edges_us[0]) / 1e6)
    text = f"Peaks of each {width}; click a policy in the legend to hide it, double-click to see it alone."
    drawn = page.plot(f"demand{index}", figure)
    return f'<section id="demand{index}"><h2>Demand and GPUs</h2><p>{text}</p>{drawn}</section>'


def _latency(page: Page, runs: Sequence[tuple[Look, Outcome]], fleet: Fleet, index: int) -> str:
    series = [(look, run_series.latency_over_time(outcome.tables, outcome.summary.horizon_s)) for look, outcome in runs]
    drawn = page.plot(f"latency{index}", latencies_figure(series, fleet, _LEFT))
    text = f"p99 of what users feel for one chunk, by when it was delivered. {latency_words(series[0][1], fleet)}"
    return f'<section id="latency{index}"><h2>Chunk latency</h2><p>{text}</p>{drawn}</section>'


def _lanes(page: Page, comparison: Comparison, fleet: Fleet, names: Sequence[str]) -> str:
    shown = [run for run in comparison.runs if run.outcome is not None and run.outcome.tables.stays.height][:LANES_MAX]
    if not shown:
        return ""
    named = [
        (run.cell.policy if len(names) == 1 else f"{names[run.cell.trace]}, {run.cell.policy}", run) for run in shown
    ]
    lanes = [(name, run_schedule(run.outcome.tables, fleet)) for name, run in named if run.outcome is not None]
    return lanes_section(page, lanes, linked=False)
