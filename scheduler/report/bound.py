"""What the certificate's rows say of each epoch: GPUs that any schedule needs, and dollars per hour it must pay.

Decides how `needed` is read; must never know how its rows were found, or a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scheduler.report.schedule import US_PER_S, Float, Int, Periods, Schedule, microseconds
from scheduler.report.steps import Steps, steps_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """The lower bound over time, as far as single rows of the certificate tell it."""

    gpus: Steps | None  # with one GPU type: GPUs on, rounded up; None with several types, or without rows
    dollars_per_hour: Steps


def needed_of(schedule: Schedule, needed: pl.DataFrame) -> Needed:
    """The largest claim of any row, epoch by epoch; 0 where an epoch has no row.

    A row claims sum_t type_weights[t] * gpus_on[t] >= weights . demand(at_s). With one GPU type the right side over the
    type weight may be rounded up. With several it costs at least its right side times the least price per type weight,
    whichever types are chosen. Start-up times are not in a row, so the sum over time is below the certificate's bound.
    """
    demand = demand_at(schedule.periods, microseconds(needed["at_s"]), len(schedule.fleet.profiles))
    wanted = (_matrix(needed["weights"], demand.shape[1]) * demand).sum(axis=1)
    prices = schedule.prices_per_hour()
    type_weights = _matrix(needed["type_weights"], len(prices))
    epoch = needed["epoch"].to_numpy()
    epoch_us = round(schedule.fleet.epoch_s * US_PER_S)
    if len(prices) == 1 and len(epoch):
        gpus = np.ceil(wanted / type_weights[:, 0] - 1e-9)
        steps = _by_epoch(epoch, gpus, epoch_us)
        return Needed(gpus=steps, dollars_per_hour=Steps(at_us=steps.at_us, value=steps.value * prices[0]))
    price_of_weight = np.divide(prices, type_weights, out=np.full(type_weights.shape, np.inf), where=type_weights > 0)
    cheapest = price_of_weight.min(axis=1, initial=np.inf)
    dollars = np.multiply(wanted, cheapest, out=np.zeros(len(wanted)), where=wanted > 0)
    return Needed(gpus=None, dollars_per_hour=_by_epoch(epoch, dollars, epoch_us))


def demand_at(periods: Periods, at_us: Int, profile_count: int) -> Float:
    """[instants, profiles]: active sessions at each instant; periods are half-open."""
    demand = np.zeros((len(at_us), profile_count))
    for index in range(profile_count):
        of_profile = periods.profile_index == index
        started = np.searchsorted(np.sort(periods.start_us[of_profile]), at_us, side="right")
        ended = np.searchsorted(np.sort(periods.end_us[of_profile]), at_us, side="right")
        demand[:, index] = started - ended
    return demand


def _by_epoch(epoch: NDArray[np.integer], value: Float, epoch_us: int) -> Steps:
    epochs, row_epoch = np.unique(epoch, return_inverse=True)
    highest = np.zeros(len(epochs))
    np.maximum.at(highest, row_epoch, value)
    return steps_of(epochs * epoch_us, (epochs + 1) * epoch_us, highest)


def _matrix(column: pl.Series, width: int) -> Float:
    flat = column.explode().to_numpy() if len(column) else np.zeros(0)
    return flat.reshape(len(column), width)
