"""How many sessions will be active: means and quantiles per epoch ahead, from the most active ones of past epochs.

Decides the demand that capacity must hold at a service level, and how well such forecasts did; must never know GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LEVEL_WINDOWS = (1, 4, 12)  # epochs whose mean is the level; which one is used is decided by its errors
TREND_WINDOW = 6  # epochs on each side of the difference that is the trend
TREND_ORIGINS = 24  # forecasts that were judged before a trend is believed: a ramp that is just over looks like one
DAMPING = 0.8  # of the trend, per epoch
SEASONS_MAX = 3  # past seasons whose mean is the season's shape
SMOOTH_SHARE = 1 / 96  # of a season: half the window that smooths its shape; a quarter of an hour of a day
RECENT_EPOCHS = 720  # errors older than this are forgotten
NEWEST_ERRORS = 120
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
    errors: FloatArray = field(repr=False)  # [origins, horizon, profiles]: past errors, scaled to the present level
    floor: FloatArray = field(repr=False)  # [horizon, profiles]: least headroom while errors are too few to tell

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
        own = _upper_quantile(sums, self.service_level) if len(sums) else np.zeros(sums.shape[1:])
        least = np.sqrt(np.einsum("hp,rp->rh", self.floor**2, weights**2))
        headroom = np.maximum(own, least)
        if len(sums) and len(weights) > 1:  # several rows must hold together: raise them alike until they do
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
    """Level, damped trend and season, whichever did best so far, and the empirical quantile of its errors.

    `series` is [epochs, profiles], oldest first, with at least one epoch. A season is used once two have passed.
    """
    assert len(series) >= 1, "a forecast needs the present"
    assert 0.5 <= service_level < 1.0, "a quantile above the median"
    points = _best_points(series, horizon, season_epochs)
    mean = np.maximum(points[-1], 0.0)
    scaled = _scaled_errors(series, points)
    now_scale = _scale(mean)
    floor = _least_headroom(series, mean, len(scaled), service_level)
    headroom = (_upper_quantile(scaled, service_level) if len(scaled) else np.zeros_like(mean)) * now_scale
    return Forecast(
        service_level=service_level,
        mean=mean,
        quantile=np.maximum(mean + np.maximum(headroom, floor), 0.0),
        accuracy=_accuracy(series, points, scaled, service_level),
        errors=scaled * now_scale,
        floor=floor,
    )


def _best_points(series: FloatArray, horizon: int, season_epochs: int) -> FloatArray:
    """Points [origins, horizon, profiles] of the candidate with the least recent error, profile by profile.

    The last origin is the present. The choice is one for all steps, so that headroom grows with the distance.
    """
    best: FloatArray | None = None
    least = np.zeros(series.shape[1])
    for points in _candidates(series, horizon, season_epochs):
        loss = _recent_loss(series, points)
        if best is None:
            best, least = points, loss
            continue
        better = loss < least
        if better.any():
            shorter = min(len(best), len(points))
            best = np.where(better, points[-shorter:], best[-shorter:])
            least = np.where(better, loss, least)
    assert best is not None
    return best


def _candidates(series: FloatArray, horizon: int, season_epochs: int) -> Iterator[FloatArray]:
    """Points of every forecaster that the past is long enough for, at recent origins; the plainest first."""
    epochs, profiles = series.shape
    origins = min(epochs, RECENT_EPOCHS + horizon)
    yield from _level_and_trend(series, horizon, origins)
    seasons = min(epochs // season_epochs - 1, SEASONS_MAX) if season_epochs > horizon else 0
    if seasons < 1:
        return
    half = min(max(1, round(season_epochs * SMOOTH_SHARE)), season_epochs - horizon)
    first = seasons * season_epochs + half  # the first epoch that has all of these seasons before it
    if first >= epochs - horizon:
        return
    sums = np.concatenate([np.zeros((1, profiles)), series.cumsum(axis=0)])
    smooth = np.full((epochs, profiles), np.nan)
    smooth[half : epochs - half] = (sums[2 * half + 1 :] - sums[: epochs - 2 * half]) / (2 * half + 1)
    ahead = np.arange(first, epochs + horizon)
    shape = np.stack([smooth[ahead - season * season_epochs] for season in range(1, seasons + 1)]).mean(axis=0)
    origins = min(origins, epochs - first)
    season_part = _windows(shape[-(origins + horizon - 1) :], horizon)
    for points in _level_and_trend(series[first:] - shape[: epochs - first], horizon, origins):
        yield points + season_part


def _level_and_trend(series: FloatArray, horizon: int, origins: int) -> Iterator[FloatArray]:
    """Points [origins, horizon, profiles] of each level, and of the middle one with a damped trend."""
    epochs, profiles = series.shape
    sums = np.concatenate([np.zeros((1, profiles)), series.cumsum(axis=0)])
    ends = np.arange(epochs - origins + 1, epochs + 1)
    shape = (origins, horizon, profiles)

    def mean_before(last: npt.NDArray[np.int64], window: int) -> FloatArray:
        begin = np.maximum(last - window, 0)
        length = np.maximum(last - begin, 1)
        return np.asarray((sums[last] - sums[begin]) / length[:, None], dtype=np.float64)

    for window in LEVEL_WINDOWS:
        yield np.broadcast_to(mean_before(ends, window)[:, None, :], shape)
    if epochs > 2 * TREND_WINDOW + horizon + TREND_ORIGINS:
        newer, older = mean_before(ends, TREND_WINDOW), mean_before(np.maximum(ends - TREND_WINDOW, 0), TREND_WINDOW)
        slope = np.where((ends >= 2 * TREND_WINDOW)[:, None], (newer - older) / TREND_WINDOW, 0.0)
        damped = np.cumsum(DAMPING ** np.arange(1, horizon + 1))
        yield mean_before(ends, LEVEL_WINDOWS[1])[:, None, :] + damped[None, :, None] * slope[:, None, :]


def _windows(rows: FloatArray, length: int) -> FloatArray:
    """Every run of `length` rows, [runs, length, profiles]."""
    return np.swapaxes(np.lib.stride_tricks.sliding_window_view(rows, length, axis=0), 1, 2)


def _errors(series: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Demand and points [origins, horizon, profiles] where all steps are known by now."""
    horizon = points.shape[1]
    origins = len(points) - horizon
    if origins < 1:
        return np.zeros((0, *points.shape[1:])), np.zeros((0, *points.shape[1:]))
    return _windows(series[len(series) - len(points) + 1 :], horizon)[:origins], np.maximum(points[:origins], 0.0)


def _recent_loss(series: FloatArray, points: FloatArray) -> FloatArray:
    """Mean absolute error per profile; infinity where no origin can be judged. A sample of them tells enough."""
    demand, expected = _errors(series, points)
    if not len(demand):
        return np.full(series.shape[1], np.inf)
    sample = slice(None, None, 1 + len(demand) // 200)
    return np.asarray(np.abs(demand[sample] - expected[sample]).mean(axis=(0, 1)), dtype=np.float64)


def _scale(points: FloatArray) -> FloatArray:
    """Counts of independent sessions vary with the root of their mean; errors are compared on that scale."""
    return np.sqrt(np.maximum(points, 1.0))


def _scaled_errors(series: FloatArray, points: FloatArray) -> FloatArray:
    demand, expected = _errors(series, points)
    return np.asarray((demand - expected) / _scale(expected), dtype=np.float64)


def _upper_quantile(values: FloatArray, level: float) -> FloatArray:
    """The least value that a share `level` of the past and of one more draw does not exceed; along the first axis.

    Oldest first. Demand is calm for hours and then is not, so the newest errors must be covered for themselves, too.
    """
    newest = values[-NEWEST_ERRORS:]
    found = _ranked(values, level)
    return found if len(newest) == len(values) else np.maximum(found, _ranked(newest, level))


def _ranked(values: FloatArray, level: float) -> FloatArray:
    rank = min(int(np.ceil((len(values) + 1) * level)), len(values)) - 1
    return np.asarray(np.partition(values, rank, axis=0)[rank], dtype=np.float64)


def _least_headroom(series: FloatArray, mean: FloatArray, errors: int, level: float) -> FloatArray:
    """Headroom while there are fewer errors than the quantile needs: a count of sessions that come and go.

    From one epoch to the next it may change as much as it varies; at two instants far apart it differs as two
    independent counts do, whose variance is twice their mean. A profile that nobody ever used is expected to stay so.
    """
    wanted = int(np.ceil(level / (1.0 - level)))
    if errors >= wanted:
        return np.zeros_like(mean)
    deviations = NormalDist().inv_cdf(level)
    steps = np.sqrt(np.minimum(np.arange(1, len(mean) + 1), 2))[:, None]
    seen = series.max(axis=0) > 0
    return np.asarray(np.where(seen, deviations * steps * _scale(mean), 0.0), dtype=np.float64)


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
