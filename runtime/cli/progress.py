"""Progress on a terminal while a plan is being made.

Decides what one line says about the search; must never write to stdout, nor anywhere but a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from scheduler.offline import Progress
from scheduler.offline_plan import Minimize


@contextmanager
def shown_progress(*, quiet: bool, minimize: Minimize) -> Iterator[Callable[[Progress], None]]:
    """A function that shows where the search stands, on stderr if that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("planning") as status:
        yield lambda progress: status.update(progress_line(progress, minimize))


def progress_line(progress: Progress, minimize: Minimize) -> str:
    """`packing 3.2 s, $120.50, bound $119.00, gap 1.24%`."""

    def amount(value: float) -> str:
        return f"${value:,.2f}" if minimize == "cost" else f"{value:,.1f} ms"

    parts = [f"{progress.stage} {progress.elapsed_s:.1f} s"]
    if progress.value is not None:
        parts.append(amount(progress.value))
    if progress.bound is not None:
        parts.append(f"bound {amount(progress.bound)}")
    if progress.gap is not None:
        parts.append(f"gap {progress.gap:.2%}")
    return ", ".join(parts)
