"""The placement benchmark as pictures: planning time, gap and worst latency against fleet size.

Decides how matplotlib draws what the table says; must never compute what the table does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.solve_scaling_cases import CASES
from bench.solve_scaling_table import GAP_WANTED, Group, compared, references_of
from scheduler.report import theme
from solvers.placement.problem import Batching

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 150
_BATCHINGS: tuple[Batching, ...] = ("turboserve", "grouped", "packed")
_CLASSES = (1, 4, 12)
_SPREAD = 0.12  # opacity of the band from least to most


def write_charts(groups: Sequence[Group], folder: Path) -> None:
    """`planning_time.png`, `gap.png` and `against_reference.png`, at the longest deadline that was run."""
    folder.mkdir(parents=True, exist_ok=True)
    longest_s = max(group.deadline_s for group in groups)
    shown = [group for group in groups if group.deadline_s == longest_s]
    for name, figure in (
        ("planning_time.png", _planning_time(shown, longest_s)),
        ("gap.png", _gap(shown)),
        ("against_reference.png", _against_reference(shown)),
    ):
        _save(figure, folder / name)


def _planning_time(groups: Sequence[Group], deadline_s: float) -> Figure:
    """Median and 95th percentile; the reference beside it."""
    figure, axes = _figure("planning time, ms: median (line) to 95th percentile (band)")
    for axis, batching in zip(axes, _BATCHINGS, strict=True):
        for label, colour, style, mine in _series(groups, batching):
            _band(
                axis, mine, lambda group: [1000 * second for second in group.seconds], label, colour, style, (0.5, 0.95)
            )
        of_this = [group for group in groups if CASES[group.measured.case].batching == batching]
        if of_this:
            _reference_times(axis, of_this)
        axis.axhline(1000 * deadline_s, color=theme.ALARM, linewidth=0.8)
        axis.set_yscale("log")
        _finish(axis, batching, of_this)
    return _with_legend(figure, axes)


def _reference_times(axis: Axes, groups: Sequence[Group]) -> None:
    """The median of all its runs here, a line each for the two writings."""
    for plainly, style in ((False, "--"), (True, ":")):
        points: dict[int, list[float]] = {}
        for group in groups:
            for run in references_of(group, equal_budget=False):
                seconds = run.plain_s if plainly else run.seconds
                if seconds is not None:
                    points.setdefault(group.measured.gpus, []).append(1000 * seconds)
        label = "reference, written " + ("plainly" if plainly else "incrementally")
        sizes = sorted(points)
        medians = [float(np.median(points[size])) for size in sizes]
        axis.plot(sizes, medians, linestyle=style, color=theme.MUTED, label=label, linewidth=1.2)


def _gap(groups: Sequence[Group]) -> Figure:
    figure, axes = _figure("certified gap, %: mean (line) to largest (band)")
    for axis, batching in zip(axes, _BATCHINGS, strict=True):
        for label, colour, style, mine in _series(groups, batching):
            _band(axis, mine, lambda group: [100 * gap for gap in group.gaps], label, colour, style, (None, 1.0))
        axis.axhline(100 * GAP_WANTED, color=theme.ALARM, linewidth=0.8)
        axis.set_yscale("symlog", linthresh=0.1)
        _finish(axis, batching, [group for group in groups if CASES[group.measured.case].batching == batching])
    worst = max(100 * gap for group in groups for gap in group.gaps)
    axes[0].set_ylim(0, max(1.0, 1.2 * worst))
    return _with_legend(figure, axes)


def _against_reference(groups: Sequence[Group]) -> Figure:
    def shares(group: Group) -> list[float]:
        return [100 * share for share in compared(group.runs, references_of(group, equal_budget=False), group.mode)]

    figure, axes = _figure("worst latency against the reference, %: mean (line) to best (band)")
    for axis, batching in zip(axes, _BATCHINGS, strict=True):
        for label, colour, style, mine in _series(groups, batching):
            _band(axis, mine, shares, label, colour, style, (None, 0.0))
        axis.axhline(0, color=theme.WORST, linewidth=0.8)
        _finish(axis, batching, [group for group in groups if CASES[group.measured.case].batching == batching])
    return _with_legend(figure, axes)


def _series(groups: Sequence[Group], batching: Batching) -> list[tuple[str, str, str, list[Group]]]:
    """Label, colour, line and groups of each line: classes by colour, closed loops and one-shot problems together."""
    found: list[tuple[str, str, str, list[Group]]] = []
    for types, style in ((1, "-"), (3, "-.")):
        for classes, colour in zip(_CLASSES, theme.profile_colours(len(_CLASSES)), strict=True):
            mine = [
                group
                for group in groups
                if (CASES[group.measured.case].batching, CASES[group.measured.case].classes) == (batching, classes)
                and CASES[group.measured.case].types == types
            ]
            if mine:
                name = f"{classes} class" + ("es" if classes > 1 else "")
                found.append((name + (f", {types} GPU types" if types > 1 else ""), colour, style, mine))
    return found


def _band(
    axis: Axes,
    groups: Sequence[Group],
    values: Callable[[Group], list[float]],
    label: str,
    colour: str,
    style: str,
    quantiles: tuple[float | None, float],
) -> None:
    """A line of one quantile (None: the mean) and a band to another, over fleet size."""
    sizes = sorted({group.measured.gpus for group in groups})
    at = [[value for group in groups if group.measured.gpus == size for value in values(group)] for size in sizes]
    middle, edge = quantiles
    line = [float(np.mean(some) if middle is None else np.quantile(some, middle)) for some in at]
    axis.plot(sizes, line, style, color=colour, label=label, marker="o", markersize=3, linewidth=1.4)
    axis.fill_between(sizes, line, [float(np.quantile(some, edge)) for some in at], color=colour, alpha=_SPREAD)


def _figure(title: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained", facecolor=theme.PAPER)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=theme.INK)
    axes = figure.subplots(1, len(_BATCHINGS), sharey=True)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(theme.WORST)
        axis.tick_params(colors=theme.MUTED, labelsize=9)
        axis.grid(color=theme.GRID, linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes


def _finish(axis: Axes, batching: Batching, groups: Sequence[Group]) -> None:
    axis.set_title(batching, fontsize=10, color=theme.INK)
    axis.set_xscale("log", base=4)
    sizes = sorted({group.measured.gpus for group in groups})
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set_xlabel("GPUs", color=theme.MUTED)


def _with_legend(figure: Figure, axes: Any) -> Figure:
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _save(figure: Figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})
