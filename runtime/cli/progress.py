"""Progress on a terminal while a plan is being made, runs are simulated, or a device is measured.

Decides what one line says about the search or the run; must never write to stdout, nor anywhere but a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from scheduler.compare import Cell
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


@contextmanager
def shown_virtual_time(name: str, horizon_s: float, *, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A function that hears the virtual time of a run and moves a bar on stderr, if that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with _bar(console) as bar:
        row = bar.add_task(name, total=horizon_s, at="00:00:00")
        yield lambda now_s: bar.update(row, completed=now_s, at=_clock(now_s))


@contextmanager
def shown_runs(
    cells: Sequence[Cell], horizons_s: Sequence[float], *, quiet: bool
) -> Iterator[tuple[Callable[[Cell], Callable[[float], None]], Callable[[Cell], None]]]:
    """What hears that a run begins (and gives what hears its virtual time), and what hears that one has ended.

    One bar on stderr over the virtual time of all runs, if stderr is a terminal; `horizons_s` are the traces'.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield (lambda _: lambda _: None), (lambda _: None)
        return
    done_s, ended_count = 0.0, 0
    with _bar(console) as bar:
        row = bar.add_task("runs", total=sum(horizons_s[cell.trace] for cell in cells), at="")

        def started(cell: Cell) -> Callable[[float], None]:
            name = f"run {ended_count + 1}/{len(cells)}: {cell.policy}, seed {cell.seed}"
            return lambda now_s: bar.update(row, description=name, completed=done_s + now_s, at=_clock(now_s))

        def ended(cell: Cell) -> None:
            nonlocal done_s, ended_count
            done_s, ended_count = done_s + horizons_s[cell.trace], ended_count + 1
            bar.update(row, description=f"run {ended_count}/{len(cells)} done", completed=done_s, at="")

        yield started, ended


@contextmanager
def shown_rounds(total: int, *, quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """A function that hears of each round of chunks by profile and batch, and moves a bar on stderr, if a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _profile, _batch: None
        return
    with _bar(console) as bar:
        row = bar.add_task("measuring", total=total, at="")
        yield lambda profile, batch: bar.update(row, advance=1, description=f"{profile}, batch of {batch}")


def _bar(console: Console) -> Bar:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[at]}"),
    )
    return Bar(*columns, TimeRemainingColumn(), console=console, transient=True)


def _clock(now_s: float) -> str:
    whole = int(now_s)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


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
