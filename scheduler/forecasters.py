"""Points of the epochs ahead, from forecasters that are mixed by how well each did so far.

Decides the mean that is expected at every recent origin; must never know quantiles or who asks. A forecaster is a line:
what is usual, and the share that is left, step by step, of how far demand is from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SHORT_WINDOWS = (1, 4)  # epochs whose mean is demand at present
LONG_WINDOWS = (12, 60, 240, 720)  # epochs whose mean demand returns to; which ones count is decided by errors
FOLLOWED = 8.0  # epochs' worth of evidence that demand stays where it is, before it is seen to return
TREND_WINDOW = 6  # epochs on each side of the difference that is the trend
TREND_ORIGINS = 24  # forecasts that were judged before a trend is believed: a ramp that is just over looks like one
DAMPING = 0.8  # of the trend, per epoch
SEASONS_MAX = 3  # past seasons whose mean is the season's shape
SMOOTH_SHARE = 1 / 96  # of a season: half the window that smooths its shape; a quarter of an hour of a day
RECENT_EPOCHS = 720  # origins older than this are forgotten
JUDGED_FROM = 12  # epochs that a forecast must have seen for its errors to tell anything about later ones
SAMPLED = 200  # origins that tell how well a forecaster did
PREFERENCE = 8.0  # a forecaster counts as the inverse of its mean absolute error, to this power
LOSS_MIN = 1e-6  # sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecaster:
    """Points usual + left (present - usual), and the season on top of them where there is one."""

    usual: FloatArray  # [origins, profiles]
    apart: FloatArray  # [origins, profiles]: present - usual
    left: FloatArray  # [horizon, profiles]
    season: FloatArray | None = None  # [origins, horizon, profiles]

    def points(self, origins: slice) -> FloatArray:
        """[origins, horizon, profiles]"""
        found = self.usual[origins, None, :] + self.left * self.apart[origins, None, :]
        return found if self.season is None else found + self.season[origins]


def mixed_points(series: FloatArray, horizon: int, season_epochs: int) -> FloatArray:
    """Points [origins, horizon, profiles] of all forecasters together, weighted by how well each did, by profile.

    The last origin is the present. Weights are the same for all steps, so that headroom grows with the distance. Many
    that are about equally good err less together than the best of them, and do not jump when another becomes the best.
    """
    forecasters = list(_forecasters(series, horizon, season_epochs))
    losses = [_recent_loss(series, one) for one in forecasters]
    known = [(one, loss) for one, loss in zip(forecasters, losses, strict=True) if loss is not None]
    if not known:
        return forecasters[0].points(slice(None))
    loss = np.maximum(np.stack([loss for _, loss in known]), LOSS_MIN)
    weights = (loss.min(axis=0) / loss) ** PREFERENCE
    weights /= weights.sum(axis=0)
    shorter = min(len(one.usual) for one, _ in known)
    usual = sum(share * one.usual[-shorter:] for (one, _), share in zip(known, weights, strict=True))
    apart = np.stack([one.apart[-shorter:] for one, _ in known])
    left = np.stack([share * one.left for (one, _), share in zip(known, weights, strict=True)])
    moving = np.matmul(apart.transpose(2, 1, 0), left.transpose(2, 0, 1)).transpose(1, 2, 0)
    mixed = np.asarray(usual)[:, None, :] + moving
    seasonal = [(one.season, share) for (one, _), share in zip(known, weights, strict=True) if one.season is not None]
    if seasonal:  # one and the same
        mixed += seasonal[0][0][-shorter:] * sum(share for _, share in seasonal)
    return np.asarray(mixed, dtype=np.float64)


def windows(rows: FloatArray, length: int) -> FloatArray:
    """Every run of `length` rows, [runs, length, profiles]."""
    return np.swapaxes(np.lib.stride_tricks.sliding_window_view(rows, length, axis=0), 1, 2)


def judged(epochs: int, origins: int, horizon: int) -> slice:
    """Those origins, of the latest, of which all steps are known by now and enough of the past was known then."""
    first = epochs - origins + 1  # epochs known at the first of them
    return slice(max(0, JUDGED_FROM - first), max(0, origins - horizon))


def demand_of(series: FloatArray, origins: int, horizon: int) -> FloatArray:
    """What came [judged origins, horizon, profiles]."""
    chosen = judged(len(series), origins, horizon)
    if chosen.start >= chosen.stop:
        return np.zeros((0, horizon, series.shape[1]))
    return windows(series[len(series) - origins + 1 :], horizon)[chosen]


def _recent_loss(series: FloatArray, forecaster: Forecaster) -> FloatArray | None:
    """Mean absolute error per profile; None where no origin can be judged. A sample of them tells enough."""
    origins, horizon = len(forecaster.usual), len(forecaster.left)
    demand = demand_of(series, origins, horizon)
    if not len(demand):
        return None
    every = 1 + len(demand) // SAMPLED
    chosen = judged(len(series), origins, horizon)
    expected = np.maximum(forecaster.points(slice(chosen.start, chosen.stop, every)), 0.0)
    return np.asarray(np.abs(demand[::every] - expected).mean(axis=(0, 1)), dtype=np.float64)


def _forecasters(series: FloatArray, horizon: int, season_epochs: int) -> Iterator[Forecaster]:
    """All that the past is long enough for, at recent origins; the plainest first."""
    epochs, profiles = series.shape
    origins = min(epochs, RECENT_EPOCHS + horizon)
    yield from _without_season(series, horizon, origins)
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
    season_part = windows(shape[-(origins + horizon - 1) :], horizon)
    for one in _without_season(series[first:] - shape[: epochs - first], horizon, origins):
        yield replace(one, season=season_part)


def _without_season(series: FloatArray, horizon: int, origins: int) -> Iterator[Forecaster]:
    """Each pair of windows, and a level with a damped trend."""
    epochs, profiles = series.shape
    sums = np.concatenate([np.zeros((1, profiles)), series.cumsum(axis=0)])
    ends = np.arange(epochs - origins + 1, epochs + 1)

    def mean_before(last: npt.NDArray[np.int64], window: int) -> FloatArray:
        begin = np.maximum(last - window, 0)
        length = np.maximum(last - begin, 1)
        return np.asarray((sums[last] - sums[begin]) / length[:, None], dtype=np.float64)

    present = [mean_before(ends, window) for window in SHORT_WINDOWS]
    later = windows(series[epochs - origins + 1 :], horizon) if origins > horizon else None
    for index, window in enumerate(LONG_WINDOWS):
        if index == 0 or epochs > LONG_WINDOWS[index - 1]:
            usual = mean_before(ends, window)
            for short in present:
                yield _returning(later, short, usual, horizon)
    if epochs > 2 * TREND_WINDOW + horizon + TREND_ORIGINS:
        newer, older = mean_before(ends, TREND_WINDOW), mean_before(np.maximum(ends - TREND_WINDOW, 0), TREND_WINDOW)
        slope = np.where((ends >= 2 * TREND_WINDOW)[:, None], (newer - older) / TREND_WINDOW, 0.0)
        damped = np.repeat(np.cumsum(DAMPING ** np.arange(1, horizon + 1))[:, None], profiles, axis=1)
        yield Forecaster(usual=present[-1], apart=slope, left=damped)


def _returning(later: FloatArray | None, present: FloatArray, usual: FloatArray, horizon: int) -> Forecaster:
    """Demand returns to what is usual as sessions come and go.

    `left` is the least-squares share that was left after h steps, over all origins of which `later` [origins, horizon,
    profiles] is known; `present` and `usual` are [origins, profiles].
    """
    apart = present - usual
    evidence = FOLLOWED * np.maximum(usual[-1], 1.0)
    followed, spread = np.tile(evidence, (horizon, 1)), evidence
    if later is not None:
        known = len(present) - horizon
        seen = apart[:known]
        followed = followed + np.einsum("ohp,op->hp", later[:known], seen) - (usual[:known] * seen).sum(axis=0)
        spread = spread + (seen**2).sum(axis=0)
    return Forecaster(usual=usual, apart=apart, left=np.clip(followed / spread, 0.0, 1.0))
