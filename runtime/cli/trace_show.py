"""How results about traces are shown on a terminal.

Decides tables and their units; must never know how a number came about.
"""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.table import Table

from traces.describe import Description, Quantiles
from traces.trace import Trace


def show_description(found: Description) -> None:
    """The statistics as tables on stdout."""
    console = Console(file=sys.stdout, highlight=False)
    head = Table(title=found.name, show_header=False, title_justify="left")
    for name, value in (
        ("sessions", f"{found.sessions:,}"),
        ("active periods", f"{found.periods:,}"),
        ("horizon", f"{found.horizon_s / 3600:.3f} h"),
        ("tenants", f"{found.tenants:,}"),
        ("duty, overall and median", f"{found.duty:.3f}  {found.duty_median:.3f}"),
        (
            "active at once: mean, peak",
            f"{found.active.mean:.1f}  {found.active.peak} ({found.active.peak_to_mean:.2f}x)",
        ),
        ("open at once: mean, peak", f"{found.open.mean:.1f}  {found.open.peak} ({found.open.peak_to_mean:.2f}x)"),
        ("openings per minute: mean, max", f"{found.arrivals.per_minute_mean:.2f}  {found.arrivals.per_minute_max}"),
        (
            "index of dispersion, 60 s and 1 s",
            f"{found.arrivals.dispersion_60s:.2f}  {found.arrivals.dispersion_1s:.2f}",
        ),
        ("cv of time between openings", f"{found.arrivals.interarrival_cv:.2f}"),
    ):
        head.add_row(name, value)
    console.print(head)
    spread = Table("seconds", "mean", "p10", "p50", "p90", "p99", "max")
    rows: tuple[tuple[str, Quantiles], ...] = (
        ("session", found.duration_s),
        ("active period", found.active_s),
        ("idle gap", found.idle_s),
        ("periods per session (count)", found.periods_per_session),
    )
    for name, of in rows:
        spread.add_row(name, *(f"{value:.1f}" for value in (of.mean, of.p10, of.p50, of.p90, of.p99, of.max)))
    console.print(spread)
    profiles = Table("profile", "sessions", "periods", "active hours")
    for part in found.profiles:
        name = part.profile or "(the fleet's default)"
        profiles.add_row(name, f"{part.sessions:,}", f"{part.periods:,}", f"{part.active_hours:.2f}")
    console.print(profiles)


def summary(trace: Trace, path: str | None = None) -> dict[str, object]:
    """What a command that made or checked a trace reports."""
    of_file = {"path": path} if path else {}
    return {
        **of_file,
        "sha256": trace.sha256,
        "sessions": trace.session_count,
        "periods": trace.period_count,
        "horizon_s": trace.horizon_us / 1e6,
        "warnings": list(trace.warnings),
    }


def show_summary(result: dict[str, object]) -> None:
    """One line per fact on stdout."""
    console = Console(file=sys.stdout, highlight=False)
    table = Table(show_header=False)
    for key, value in result.items():
        table.add_row(key, "; ".join(value) if isinstance(value, list) else str(value))
    console.print(table)


def show_json(result: dict[str, object]) -> None:
    """The same as one JSON object on stdout."""
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
