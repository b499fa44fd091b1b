"""Costs that are tables of whole counts, in a linear program that presses them down.

Decides with which columns and rows a table is exact: a line, tangents, or one binary per count; must never know what is
counted or what it costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from solvers.placement.linear_program import ABSENT, FloatArray, Sheet
from solvers.placement.problem import BoolArray, IntArray
from solvers.placement.solution import Placement

Fill = Callable[[FloatArray, Placement], None]  # writes the values of its columns for a placement

SAME = 1e-9  # slopes this close are equal


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Whole numbers from `low` to `high`, each constant + signs . columns; their costs are taken off rows."""

    row: IntArray  # [items]: gets minus the cost; items may share one
    low: IntArray
    high: IntArray
    constant: IntArray
    columns: IntArray  # [items, terms]
    signs: FloatArray  # [terms]
    of: Callable[[Placement], IntArray]  # their values in a placement

    def some(self, items: IntArray) -> Counts:
        """A part of them."""
        return Counts(
            row=self.row[items],
            low=self.low[items],
            high=self.high[items],
            constant=self.constant[items],
            columns=self.columns[items],
            signs=self.signs,
            of=lambda placement: self.of(placement)[items],
        )


def add_costs(
    sheet: Sheet, counts: Counts, tables: FloatArray, presence: Callable[[IntArray], IntArray]
) -> tuple[FloatArray, list[Fill]]:
    """What the tables [items, counts] cost, as entries of `counts.row`, the constants [items] apart.

    Where a table is convex from 1 on only, its tangents are multiplied with `presence(items)`: binaries that are 1
    wherever the count is not 0. Exact only from below: columns may cost more than the table, never less.
    """
    span = int((counts.high - counts.low).max(initial=0)) + 1
    offered = np.minimum(counts.low[:, None] + np.arange(span)[None, :], counts.high[:, None])
    cost = np.take_along_axis(tables, np.minimum(offered, tables.shape[1] - 1), axis=1)  # [items, above the lowest]
    within = counts.low[:, None] + np.arange(1, span)[None, :] <= counts.high[:, None]
    bend = np.diff(cost, n=2, axis=1)
    rises = (bend >= -SAME) | ~within[:, 1:]
    straight = ((np.abs(bend) <= SAME) | ~within[:, 1:]).all(axis=1)
    convex = rises.all(axis=1) & ~straight
    from_one = rises[:, 1:].all(axis=1) & (counts.low == 0) & ~straight & ~convex

    constants = np.zeros(len(cost))
    fills: list[Fill] = []
    lines, by_count = np.flatnonzero(straight), np.flatnonzero(~(straight | convex | from_one))
    constants[lines] = _add_lines(sheet, counts.some(lines), cost[lines])
    for items, multiplied in ((np.flatnonzero(convex), False), (np.flatnonzero(from_one), True)):
        if len(items):
            present = presence(items) if multiplied else None
            fills.append(_add_tangents(sheet, counts.some(items), cost[items], within[items], present))
    if len(by_count):
        fills.append(_add_by_count(sheet, counts.some(by_count), cost[by_count], within[by_count]))
        constants[by_count] = cost[by_count, 0]
    return constants, fills


def _add_lines(sheet: Sheet, counts: Counts, cost: FloatArray) -> FloatArray:
    """Returns the constants."""
    slope = cost[:, 1] - cost[:, 0] if cost.shape[1] > 1 else np.zeros(len(cost))
    sheet.put(counts.row[:, None], counts.columns, -slope[:, None] * counts.signs[None, :])
    return np.asarray(cost[:, 0] + slope * (counts.constant - counts.low), dtype=np.float64)


def _add_tangents(sheet: Sheet, counts: Counts, cost: FloatArray, within: BoolArray, present: IntArray | None) -> Fill:
    """One column per item, at least every tangent; with `present`, of those from 1 on, and 0 where nobody is."""
    taken = sheet.add_columns(len(cost))
    sheet.put(counts.row, taken, -1.0)
    slope = np.diff(cost, axis=1)
    first = 0 if present is None else 1
    for step in range(first, slope.shape[1]):
        used = within[:, step].copy()
        if step > first:
            used &= np.abs(slope[:, step] - slope[:, step - 1]) > SAME
        items = np.flatnonzero(used)
        steep = slope[items, step]
        start = cost[items, step] - steep * (counts.low[items] + step)
        rows = sheet.add_rows(len(items), steep * counts.constant[items] + (start if present is None else 0.0))
        sheet.put(rows, taken[items], 1.0)
        sheet.put(rows[:, None], counts.columns[items], -steep[:, None] * counts.signs[None, :])
        if present is not None:
            sheet.put(rows, present[items], -start)

    def fill(values: FloatArray, placement: Placement) -> None:
        step = np.minimum(counts.of(placement) - counts.low, cost.shape[1] - 1)
        values[taken] = np.take_along_axis(cost, step[:, None], axis=1)[:, 0]

    return fill


def _add_by_count(sheet: Sheet, counts: Counts, cost: FloatArray, within: BoolArray) -> Fill:
    """One binary per count above the lowest, at most one of them 1."""
    one = sheet.add_where(within, 1.0, whole=True)  # [items, above the lowest]
    above = np.arange(1, one.shape[1] + 1)
    sheet.put(counts.row[:, None], one, -(cost[:, 1:] - cost[:, :1]))
    side = counts.constant - counts.low
    rows = sheet.add_rows(len(one), side, side)
    sheet.put(rows[:, None], one, above[None, :])
    sheet.put(rows[:, None], counts.columns, -counts.signs[None, :])
    sheet.put(sheet.add_rows(len(one), 0.0, 1.0)[:, None], one, 1.0)

    def fill(values: FloatArray, placement: Placement) -> None:
        values[one] = (counts.of(placement) - counts.low)[:, None] == above[None, :]
        values[ABSENT] = 0.0

    return fill
