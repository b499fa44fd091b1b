"""Demand over time: how many sessions of each class are active at each instant that matters.

Decides at which instants demand must be looked at; must never know GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from solvers.offline_problem import OfflineProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Active sessions per class at ascending instants; constant from one instant to the next where `complete`."""

    at_us: npt.NDArray[np.int64] = field(repr=False)  # [instants]
    counts: npt.NDArray[np.int32] = field(repr=False)  # [instants, classes]
    first: npt.NDArray[np.int64] = field(repr=False)  # [epochs]: the instant at which an epoch starts

    def peak_per_epoch(self, weights: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Largest weights . demand in each epoch, and the first instant index where it is reached."""
        weighted = self.counts @ weights
        peaks = np.maximum.reduceat(weighted, self.first)
        reached = np.flatnonzero(weighted >= np.repeat(peaks, np.diff([*self.first, len(weighted)])))
        at = reached[np.searchsorted(reached, self.first)]
        return peaks, at


def demand_of(problem: OfflineProblem, *, complete: bool, chosen: npt.NDArray[np.bool_] | None = None) -> Demand:
    """Demand at every start and epoch boundary, which is where it can peak; `complete` adds the ends.

    `chosen` restricts it to some periods.
    """
    start_us, end_us, class_index = problem.start_us, problem.end_us, problem.class_index
    if chosen is not None:
        start_us, end_us, class_index = start_us[chosen], end_us[chosen], class_index[chosen]
    boundaries = np.arange(problem.epochs, dtype=np.int64) * problem.epoch_us
    parts = [start_us, boundaries, end_us] if complete else [start_us, boundaries]
    at_us = np.unique(np.concatenate(parts))
    at_us = at_us[at_us < problem.epochs * problem.epoch_us]
    counts = np.empty((len(at_us), problem.classes), dtype=np.int32)
    for k in range(problem.classes):
        mine = class_index == k
        counts[:, k] = np.searchsorted(start_us[mine], at_us, side="right")
        counts[:, k] -= np.searchsorted(np.sort(end_us[mine]), at_us, side="right").astype(np.int32)
    return Demand(at_us=at_us, counts=counts, first=np.searchsorted(at_us, boundaries))
