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

SHORT_WINDOWS = (1, 4)  # epochs whose mean is demand at present
LONG_WINDOWS = (12, 60, 240, 720)  # epochs whose mean demand returns to; which ones count is decided by errors
FOLLOWED = 8.0  # epochs' worth of evidence that demand stays where it is, before it is seen to return
TREND_WINDOW = 6  # epochs on each side of the difference that is the trend
TREND_ORIGINS = 24  # forecasts that were judged before a trend is believed: a ramp that is just over looks like one
DAMPING = 0.8  # of the trend, per epoch
PREFERENCE = 8.0  # a forecaster counts as the inverse of its mean absolute error, to this power
LOSS_MIN = 1e-6  # sessions
SEASONS_MAX = 3  # past seasons whose mean is the season's shape
SMOOTH_SHARE = 1 / 96  # of a season: half the window that smooths its shape; a quarter of an hour of a day
RECENT_EPOCHS = 720  # errors older than this are forgotten
MADE_UP_ERRORS = 50  # normal ones that stand beside those seen while these are few
SEEN_PER_MADE_UP = 3  # so many seen ones replace one that is made up; neighbours tell almost the same
JUDGED_FROM = 12  # epochs that a forecast must have seen for its errors to tell anything about later ones
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
    points = _mixed_points(series, horizon, season_epochs)
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


def _mixed_points(series: FloatArray, horizon: int, season_epochs: int) -> FloatArray:
    """Points [origins, horizon, profiles] of all candidates together, weighted by how well each did, by profile.

    The last origin is the present. Weights are the same for all steps, so that headroom grows with the distance. Many
    that are about equally good err less together than the best of them, and do not jump when another becomes the best.
    """
    candidates = list(_candidates(series, horizon, season_epochs))
    loss = np.stack([_recent_loss(series, points) for points in candidates])
    judged = [bool(known.all()) for known in np.isfinite(loss)]
    if not any(judged):
        return candidates[0]
    chosen = [points for points, known in zip(candidates, judged, strict=True) if known]
    loss = np.maximum(loss[judged], LOSS_MIN)
    weights = (loss.min(axis=0) / loss) ** PREFERENCE
    shorter = min(len(points) for points in chosen)
    mixed = np.zeros((shorter, horizon, series.shape[1]))
    for points, share in zip(chosen, weights / weights.sum(axis=0), strict=True):
        mixed += share * points[-shorter:]
    return mixed


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
    """Points [origins, horizon, profiles] of each pair of windows, and of a middle one with a damped trend."""
    epochs, profiles = series.shape
    sums = np.concatenate([np.zeros((1, profiles)), series.cumsum(axis=0)])
    ends = np.arange(epochs - origins + 1, epochs + 1)

    def mean_before(last: npt.NDArray[np.int64], window: int) -> FloatArray:
        begin = np.maximum(last - window, 0)
        length = np.maximum(last - begin, 1)
        return np.asarray((sums[last] - sums[begin]) / length[:, None], dtype=np.float64)

    for short in SHORT_WINDOWS:
        present = mean_before(ends, short)
        for index, long in enumerate(LONG_WINDOWS):
            if index == 0 or epochs > LONG_WINDOWS[index - 1]:
                yield _returning(series, present, mean_before(ends, long), horizon)
    if epochs > 2 * TREND_WINDOW + horizon + TREND_ORIGINS:
        newer, older = mean_before(ends, TREND_WINDOW), mean_before(np.maximum(ends - TREND_WINDOW, 0), TREND_WINDOW)
        slope = np.where((ends >= 2 * TREND_WINDOW)[:, None], (newer - older) / TREND_WINDOW, 0.0)
        damped = np.cumsum(DAMPING ** np.arange(1, horizon + 1))
        yield mean_before(ends, SHORT_WINDOWS[-1])[:, None, :] + damped[None, :, None] * slope[:, None, :]


def _returning(series: FloatArray, present: FloatArray, usual: FloatArray, horizon: int) -> FloatArray:
    """Points usual + b_h (present - usual): demand returns to what is usual as sessions come and go.

    b_h is the least-squares share that was left after h steps, at each origin from what was known there; `present` and
    `usual` are [origins, profiles].
    """
    origins = len(present)
    apart = present - usual
    left = np.full((origins, horizon, series.shape[1]), np.nan)
    known = origins - horizon
    prior = FOLLOWED * np.maximum(usual, 1.0)[:, None, :]
    above, below = np.zeros_like(left), np.zeros_like(left)
    if known > 0:
        later = _windows(series[len(series) - origins + 1 :], horizon)[:known] - usual[:known, None, :]
        products = np.cumsum(later * apart[:known, None, :], axis=0)
        squares = np.cumsum(apart[:known] ** 2, axis=0)
        for step in range(horizon):  # the demand of this step is known so many origins later
            above[step + 1 : step + 1 + known, step] = products[:, step]
            below[step + 1 : step + 1 + known, step] = squares
            above[step + 1 + known :, step], below[step + 1 + known :, step] = products[-1, step], squares[-1]
    left = np.clip((above + prior) / (below + prior), 0.0, 1.0)
    return np.asarray(usual[:, None, :] + left * apart[:, None, :], dtype=np.float64)


def _windows(rows: FloatArray, length: int) -> FloatArray:
    """Every run of `length` rows, [runs, length, profiles]."""
    return np.swapaxes(np.lib.stride_tricks.sliding_window_view(rows, length, axis=0), 1, 2)


def _errors(series: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Demand and points [origins, horizon, profiles] where all steps are known by now and some past was known then."""
    horizon = points.shape[1]
    first = len(series) - len(points) + 1  # epochs known at the first origin
    judged = slice(max(0, min(JUDGED_FROM, len(points) - horizon) - first), max(0, len(points) - horizon))
    if judged.start >= judged.stop:
        return np.zeros((0, *points.shape[1:])), np.zeros((0, *points.shape[1:]))
    return _windows(series[first:], horizon)[judged], np.maximum(points[judged], 0.0)


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
