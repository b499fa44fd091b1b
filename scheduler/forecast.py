"""How many sessions will be active: means and quantiles per epoch ahead, from the most active ones of past epochs.

Decides the demand that capacity must hold at a service level, and how well such forecasts did; must never know GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from scheduler.forecasters import demand_of, judged, mixed_points

FloatArray = npt.NDArray[np.float64]

MADE_UP_ERRORS = 50  # normal ones that stand beside those seen while these are few
SEEN_PER_MADE_UP = 3  # so many seen ones replace one that is made up; neighbours tell almost the same
JUDGED_SHARE = 1 / 3  # the newest errors judge quantiles that were made from the older ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How the same forecaster did at its latest origins, with quantiles from before them."""

    origins: int  # how many forecasts were judged; the figures are NaN where there are none
    coverage: FloatArray  # [horizon, profiles]: share of epochs whose demand was at most the quantile
    pinball: FloatArray  # [horizon, profiles]: mean of max(q (y - x), (q - 1) (y - x)) for quantile x, in sessions
    mae: FloatArray  # [horizon, profiles]: of the mean, in sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Demand in the epochs ahead; step 0 is the epoch that begins now."""

    service_level: float
    mean: FloatArray  # [horizon, profiles], >= 0
    quantile: FloatArray  # [horizon, profiles]: each profile for itself
    accuracy: Accuracy
    errors: FloatArray = field(repr=False)  # [cases, horizon, profiles]: past and made-up, scaled to the present level

    @property
    def horizon(self) -> int:
        return int(self.mean.shape[0])

    def weighted(self, weights: FloatArray) -> FloatArray:
        """Sides [rows, horizon] such that all `weights` [rows, profiles] . demand stay below them at once.

        Errors of profiles that come together count together: the quantile of a sum is less than the sum of quantiles.
        """
        if not len(weights):
            return np.zeros((0, self.horizon))
        sums = np.einsum("ohp,rp->orh", self.errors, weights)
        headroom = np.maximum(_upper_quantile(sums, self.service_level), 0.0)
        if len(weights) > 1:  # several rows must hold together: raise them alike until they do
            unit = np.maximum(headroom, 1e-3)
            together = _upper_quantile((sums / unit).max(axis=1), self.service_level)
            headroom = np.maximum(headroom, unit * np.maximum(together, 0.0))
        return np.asarray(np.maximum(weights @ self.mean.T + headroom, 0.0), dtype=np.float64)


def demand_series(
    active_max: Mapping[str, Sequence[int]], now: Mapping[str, int], profiles: Sequence[str]
) -> FloatArray:
    """Past epochs as [epochs, profiles], at least one; the newest row is no less than what is active `now`.

    A shorter past of one profile is one of no demand: it had not been seen yet.
    """
    epochs = max([len(active_max.get(profile, ())) for profile in profiles] + [1])
    series = np.zeros((epochs, len(profiles)))
    for index, profile in enumerate(profiles):
        past = active_max.get(profile, ())
        series[epochs - len(past) :, index] = past
        series[-1, index] = max(series[-1, index], now.get(profile, 0))
    return series


def forecast(series: FloatArray, *, horizon: int, service_level: float, season_epochs: int) -> Forecast:
    """Level, damped trend and season, by how well they did so far, and the quantile of the errors of their mixture.

    `series` is [epochs, profiles], oldest first, with at least one epoch. A season is used once two have passed.
    """
    assert len(series) >= 1, "a forecast needs the present"
    assert 0.5 <= service_level < 1.0, "a quantile above the median"
    points = mixed_points(series, horizon, season_epochs)
    mean = np.maximum(points[-1], 0.0)
    seen = _scaled_errors(series, points)
    errors = np.concatenate([_made_up_errors(series, horizon, len(seen)), seen]) * _scale(mean)
    return Forecast(
        service_level=service_level,
        mean=mean,
        quantile=mean + np.maximum(_upper_quantile(errors, service_level), 0.0),
        accuracy=_accuracy(series, points, seen, service_level),
        errors=errors,
    )


def _errors(series: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Demand and points [origins, horizon, profiles] where that can be judged."""
    origins, horizon = points.shape[:2]
    demand = demand_of(series, origins, horizon)
    return demand, np.maximum(points[judged(len(series), origins, horizon)][: len(demand)], 0.0)


def _scale(points: FloatArray) -> FloatArray:
    """Counts of independent sessions vary with the root of their mean; errors are compared on that scale."""
    return np.sqrt(np.maximum(points, 1.0))


def _scaled_errors(series: FloatArray, points: FloatArray) -> FloatArray:
    demand, expected = _errors(series, points)
    return np.asarray((demand - expected) / _scale(expected), dtype=np.float64)


def _made_up_errors(series: FloatArray, horizon: int, seen_errors: int) -> FloatArray:
    """Errors [cases, horizon, profiles] as if sessions came and went independently, on the common scale.

    A count far away differs from the mean of n past ones as independent counts do: by 1 + 1/n of their variance, which
    is their mean. A profile that nobody ever used is expected to stay so.
    """
    normal = NormalDist()
    cases = max(0, MADE_UP_ERRORS - seen_errors // SEEN_PER_MADE_UP)
    scores = np.array([normal.inv_cdf((index + 0.5) / cases) for index in range(cases)])
    profiles = series.shape[1]
    drawn = np.stack([np.random.default_rng(index).permutation(scores) for index in range(profiles)], axis=1)
    deviation = np.sqrt(np.minimum(np.arange(1, horizon + 1), 2) / 2 + 1 / len(series))
    seen = series.max(axis=0) > 0
    return np.asarray(drawn[:, None, :] * deviation[None, :, None] * seen, dtype=np.float64)


def _upper_quantile(values: FloatArray, level: float) -> FloatArray:
    """The least value that a share `level` does not exceed, along the first axis."""
    rank = max(int(np.ceil(len(values) * level - 1e-9)), 1) - 1
    return np.asarray(np.partition(values, rank, axis=0)[rank], dtype=np.float64)


def _accuracy(series: FloatArray, points: FloatArray, scaled: FloatArray, level: float) -> Accuracy:
    """Quantiles from the older errors, judged at the newer origins; those in between overlap and are left out."""
    horizon, profiles = points.shape[1:]
    judged = int(len(scaled) * JUDGED_SHARE)
    older = scaled[: len(scaled) - judged - horizon] if len(scaled) > judged + horizon else scaled[:0]
    if not judged or not len(older):
        nothing = np.full((horizon, profiles), np.nan)
        return Accuracy(origins=0, coverage=nothing, pinball=nothing, mae=nothing)
    demand, expected = (part[-judged:] for part in _errors(series, points))
    quantile = np.maximum(expected + _upper_quantile(older, level) * _scale(expected), 0.0)
    excess = demand - quantile
    return Accuracy(
        origins=judged,
        coverage=np.asarray((excess <= 1e-9).mean(axis=0), dtype=np.float64),
        pinball=np.asarray(np.maximum(level * excess, (level - 1.0) * excess).mean(axis=0), dtype=np.float64),
        mae=np.asarray(np.abs(demand - expected).mean(axis=0), dtype=np.float64),
    )
