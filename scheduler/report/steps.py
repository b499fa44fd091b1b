"""Step functions of time, and their exact means and maxima within bins.

Decides how a million events become at most a few hundred points; must never know what is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Float = NDArray[np.float64]

_NICE_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_US_PER_S = 1_000_000


def bin_edges_us(start_us: int, end_us: int, bins_max: int) -> Int:
    """Edges of at most `bins_max` + 1 equal bins of a round width that cover [start_us, end_us); 0 is on their grid."""
    width_us = next(
        (s * _US_PER_S for s in _NICE_S if (end_us - start_us) <= s * _US_PER_S * bins_max),
        -(-(end_us - start_us) // bins_max),
    )
    return np.arange(start_us // width_us, -(-end_us // width_us) + 1, dtype=np.int64) * width_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """value[i] holds during [at_us[i], at_us[i + 1]), the last one for ever, and 0 before the first."""

    at_us: Int  # strictly increasing, at least one
    value: Float

    def at(self, when_us: Int) -> Float:
        """The value at each instant."""
        index = np.searchsorted(self.at_us, when_us, side="right") - 1
        return np.where(index < 0, 0.0, self.value[np.maximum(index, 0)])

    def integral(self, until_us: Int) -> Float:
        """Value-seconds from the beginning of time until each instant."""
        area = np.concatenate([[0.0], np.cumsum(self.value[:-1] * np.diff(self.at_us) / _US_PER_S)])
        index = np.maximum(np.searchsorted(self.at_us, until_us, side="right") - 1, 0)
        return area[index] + self.at(until_us) * (until_us - self.at_us[index]) / _US_PER_S

    def mean_in(self, edges_us: Int) -> Float:
        """Time-weighted mean in each bin."""
        mean: Float = np.diff(self.integral(edges_us)) / (np.diff(edges_us) / _US_PER_S)
        return mean

    def max_in(self, edges_us: Int) -> Float:
        """The largest value that holds at some instant of each bin."""
        inner = np.clip(np.searchsorted(self.at_us, edges_us, side="left"), 0, len(self.at_us))
        found = self.at(edges_us[:-1])
        held = np.flatnonzero(np.diff(inner) > 0)
        if len(held):
            starts = inner[:-1][held]
            stop = inner[1:][held[-1]]
            # The bins without a change lie between others of which the maxima are the same, so they may be left out.
            found[held] = np.maximum(found[held], np.maximum.reduceat(self.value[:stop], starts))
        return found


def steps_of(start_us: Int, end_us: Int, weight: Float | float = 1.0) -> Steps:
    """The sum of the weights of the intervals [start_us, end_us) that hold at each time."""
    weights = np.broadcast_to(np.asarray(weight, float), start_us.shape)
    at_us = np.concatenate([start_us, end_us])
    if not len(at_us):
        return Steps(at_us=np.zeros(1, np.int64), value=np.zeros(1))
    change = np.concatenate([weights, -weights])
    order = np.argsort(at_us, kind="stable")
    unique_us, first = np.unique(at_us[order], return_index=True)
    value = np.cumsum(np.add.reduceat(change[order], first))
    return Steps(at_us=unique_us, value=np.where(np.abs(value) < 1e-9, 0.0, value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaps:
    """Intervals cut at bin edges, [n] each."""

    row: Int  # of the interval
    bin: Int
    seconds: Float


def overlaps(start_us: Int, end_us: Int, edges_us: Int) -> Overlaps:
    """Which intervals lie in which bins, and for how long; what lies outside of all bins is left out."""
    start, end = np.clip(start_us, edges_us[0], edges_us[-1]), np.clip(end_us, edges_us[0], edges_us[-1])
    first = np.searchsorted(edges_us, start, side="right") - 1
    last = np.searchsorted(edges_us, end, side="left") - 1
    count = np.where(start < end, last - first + 1, 0)
    row = np.repeat(np.arange(len(start)), count)
    bin_index = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    length_us = np.minimum(end[row], edges_us[bin_index + 1]) - np.maximum(start[row], edges_us[bin_index])
    return Overlaps(row=row, bin=bin_index, seconds=length_us / _US_PER_S)


def weighted_quantile_in(value: Float, weight: Float, bin_index: Int, bins: int, quantile: float) -> Float:
    """[bins]: the least value that at least `quantile` of the bin's weight does not exceed; NaN for an empty bin."""
    assert 0 < quantile <= 1
    order = np.lexsort((value, bin_index))
    value, weight, bin_index = value[order], weight[order], bin_index[order]
    edges = np.searchsorted(bin_index, np.arange(bins + 1))
    below = np.concatenate([[0.0], np.cumsum(weight)])
    found = np.full(bins, np.nan)
    for index, (first, stop) in enumerate(pairwise(edges.tolist())):
        if first < stop:
            wanted = below[first] + quantile * (below[stop] - below[first]) * (1 - 1e-12)
            found[index] = value[min(first + int(np.searchsorted(below[first + 1 : stop + 1], wanted)), stop - 1)]
    return found
