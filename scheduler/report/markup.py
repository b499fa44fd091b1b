"""Pieces of HTML: the header, the certificate, the table of GPUs, the notes.

Decides the markup of what is not a picture; must never compute a figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from scheduler.fleet import Fleet
from scheduler.offline_plan import OfflinePlan
from scheduler.report import words
from scheduler.report.gpu_table import GpuRow

ROWS_SHOWN, ROWS_MAX = 10, 1000
_TERMS = (
    ("active", "A session wants chunks now; between its active periods it is idle, occupies no GPU and costs nothing."),
    ("chunk latency", "f_g: the time of one batch round of a GPU, which all active sessions on it share. Transfers and "
     "the wait for a round are not in it."),
    ("late", "Session-seconds on a GPU whose chunk latency is above the session's target."),
    ("unserved", "Session-seconds in which an active session has no GPU."),
    ("migration", "A change of GPU within an active period, at an epoch boundary. It costs its transfer time at the "
     "price of the target GPU."),
    ("lower bound", "A value that no schedule can be better than, whatever method finds it."),
    ("gap", "(value - lower bound) / value of what was minimised: the largest share that could still be gained."),
    ("seat", "1 / (most sessions of one profile alone that a GPU holds and serves on time). Sessions of several "
     "profiles add up; a GPU loaded beyond its seats counts as fully used."),
)  # fmt: skip


def header(plan: OfflinePlan, active_session_s: float) -> str:
    """Name, verdict, what it is a plan of, and the big figures."""
    sessions, periods = words.counted(plan.sessions, "session"), words.counted(plan.periods, "active period")
    facts = (
        ("Trace", f"{sessions}, {periods}, {words.duration(plan.horizon_s)}"),
        ("Fleet", fleet_words(plan.fleet)),
        ("Epoch", words.duration(plan.fleet.epoch_s)),
        ("Minimised", words.minimised(plan)),
    )
    return page_header(
        brand="Epochal offline plan",
        title=plan.trace_name,
        badge=words.verdict(plan),
        facts=facts,
        figures=words.big_figures(plan, active_session_s),
    )


def fleet_words(fleet: Fleet) -> str:
    """ "64 h100 on 8 nodes, grouped batching"."""
    nodes = sum(pool.nodes for pool in fleet.pools)
    capacity: dict[str, int] = {}
    for pool in fleet.pools:
        capacity[pool.gpu_type] = capacity.get(pool.gpu_type, 0) + pool.nodes * pool.gpus_per_node
    held = " + ".join(f"{count:,} {name}" for name, count in capacity.items())
    return f"{held} on {words.counted(nodes, 'node')}, {fleet.batching} batching"


def page_header(
    *,
    brand: str,
    title: str,
    badge: str,
    facts: Iterable[tuple[str, str]],
    figures: Iterable[words.Figure],
    alarming: bool = False,
) -> str:
    """Name, verdict, facts, and the big figures, of any page."""
    listed = "".join(f"<li><b>{name}</b> {escape(text)}</li>" for name, text in facts)
    cards = "".join(_card(figure) for figure in figures)
    shade = "badge alarming" if alarming else "badge"
    return (
        f'<header><div class="inner"><p class="brand">{escape(brand)}</p><div class="title">'
        f'<h1>{escape(title)}</h1><span class="{shade}">{escape(badge)}</span></div>'
        f'<ul class="facts">{listed}</ul><dl class="figures">{cards}</dl></div></header>'
    )


def _card(figure: words.Figure) -> str:
    unit = f"<small>{escape(figure.unit)}</small>" if figure.unit else ""
    return (
        f"<div{' class=alarming' if figure.alarming else ''}><dt>{escape(figure.label)}</dt>"
        f'<dd class="value">{escape(figure.value)}{unit}</dd><dd class="note">{escape(figure.note)}</dd></div>'
    )


def certificate(plan: OfflinePlan, active_session_s: float, comparison: Mapping[str, float]) -> str:
    """Sentences for a manager, and one for an expert."""
    sentences = words.manager_sentences(plan, active_session_s, comparison)
    said = "".join(f"<li>{escape(text)}</li>" for text in sentences)
    return (
        f'<section class="certificate" id="certificate"><h2>What is proven</h2><ul>{said}</ul><p class="expert">'
        f"<strong>For the expert</strong>{escape(words.expert_sentence(plan))} "
        "<code>epochal plan --verify FOLDER</code>.</p></section>"
    )


def gpu_table(rows: list[GpuRow]) -> str:
    """The dearest GPUs, the others folded away, and what was left out."""
    head = (
        "<thead><tr><th>GPU</th><th>Type</th><th>Node</th><th class=n>Switched on</th><th class=n>Paid (h)</th>"
        "<th class=n>Cost ($)</th><th class=n>Placements</th><th class=n>Serving (% of paid)</th>"
        "<th class=n>Sessions, mean</th><th class=n>Worst chunk (ms)</th><th class=n>Moves in / out</th></tr></thead>"
    )
    body = [_row(row) for row in rows[:ROWS_MAX]]

    def table(lines: list[str]) -> str:
        return f'<div class="table"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'

    more, hidden = "", len(rows) - len(body)
    if body[ROWS_SHOWN:]:
        left_out = f"<p>{hidden:,} more are in gpus.parquet.</p>" if hidden else ""
        label = f"Show the other {len(body) - ROWS_SHOWN:,} GPUs"
        more = f"<details><summary>{label}</summary>{table(body[ROWS_SHOWN:])}{left_out}</details>"
    return f'<section id="gpus"><h2>GPUs</h2><p>The dearest first.</p>{table(body[:ROWS_SHOWN])}{more}</section>'


def _row(row: GpuRow) -> str:
    cells = (
        f"{row.switched_on}x", f"{row.paid_hours:,.2f}", f"{row.dollars:,.2f}", f"{row.placements:,}",
        f"{100 * row.serving_share:.1f}", f"{row.sessions_mean:.2f}", f"{row.latency_ms_max:,.0f}",
        f"{row.moves_in} / {row.moves_out}",
    )  # fmt: skip
    names = "".join(f"<td>{escape(name)}</td>" for name in (row.gpu_id, row.gpu_type, row.node))
    return f"<tr>{names}{''.join(f'<td class=n>{cell}</td>' for cell in cells)}</tr>"


def notes(plan: OfflinePlan) -> str:
    """Definitions, provenance, versions."""
    overrides = "; ".join(f"{key}: {why}" for key, why in plan.overrides.items()) or "none"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(plan.solver.versions.items())) or "not given"
    facts = (
        ("overrides", overrides),
        ("trace", f"sha256 {plan.trace_sha256}"),
        ("versions", f"{versions}; seed {plan.solver.seed}"),
    )
    return terms((*_TERMS, *facts))


def terms(entries: Iterable[tuple[str, str]]) -> str:
    """A section of words and what they mean."""
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in entries)
    return f'<section id="notes"><h2>Terms and origin</h2><dl class="terms">{listed}</dl></section>'
