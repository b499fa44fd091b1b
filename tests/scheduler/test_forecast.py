"""Forecasts of demand: coverage out of sample, steps, silence, short pasts.

Decides what a forecast promises; must never know how it is made.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from scheduler.forecast import Forecast, demand_series, forecast

HORIZON = 6
LEVEL = 0.95


def a_forecast(series: npt.NDArray[np.float64], season_epochs: int = 10_000, level: float = LEVEL) -> Forecast:
    return forecast(series, horizon=HORIZON, service_level=level, season_epochs=season_epochs)


def seasonal_demand(epochs: int, seed: int, season: int = 96, swing: float = 25.0) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    wave = swing * np.sin(2 * np.pi * np.arange(epochs) / season)[:, None]
    return rng.poisson(np.maximum(np.array([40.0, 30.0]) + wave, 0.0)).astype(np.float64)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_demand_stays_below_the_quantile_as_often_as_promised(level: float) -> None:
    hits, origins = np.zeros(HORIZON), 0
    for seed in range(4):
        series = seasonal_demand(96 * 6, seed)
        for epoch in range(96 * 4, len(series) - HORIZON, 5):
            found = a_forecast(series[:epoch], 96, level)
            hits += (series[epoch : epoch + HORIZON] <= found.quantile).mean(axis=1)
            origins += 1
    coverage = hits / origins
    assert np.abs(coverage - level).max() <= 0.05, coverage
    assert abs(coverage.mean() - level) <= 0.03, coverage


def test_weighted_sums_stay_below_their_sides_together_as_often_as_promised() -> None:
    weights = np.array([[1.0, 0.0], [0.5, 1.0]])
    hits, origins = 0.0, 0
    for seed in range(4):
        series = seasonal_demand(500, seed, swing=0.0)
        for epoch in range(200, len(series) - HORIZON, 5):
            sides = a_forecast(series[:epoch]).weighted(weights)
            needs = weights @ series[epoch : epoch + HORIZON].T
            hits += float((needs <= sides + 1e-9).all(axis=0).mean())
            origins += 1
    assert abs(hits / origins - LEVEL) <= 0.03


def test_the_quantile_of_a_sum_is_less_than_the_sum_of_quantiles() -> None:
    found = a_forecast(seasonal_demand(600, 1, swing=0.0))
    assert (found.weighted(np.ones((1, 2)))[0] < found.quantile.sum(axis=1)).all()


def test_a_season_is_foreseen_once_two_have_passed() -> None:
    series = seasonal_demand(96 * 4 + 84, 3)  # the next quarter of an hour and more, demand rises
    seasonal, plain = a_forecast(series, 96), a_forecast(series)
    truth = np.array([40.0, 30.0]) + 25.0 * np.sin(2 * np.pi * (len(series) + np.arange(HORIZON)) / 96)[:, None]
    assert np.abs(seasonal.mean - truth).mean() < 0.5 * np.abs(plain.mean - truth).mean()
    assert seasonal.accuracy.mae.mean() < plain.accuracy.mae.mean()


def test_the_forecaster_judges_itself_on_epochs_that_its_quantiles_have_not_seen() -> None:
    accuracy = a_forecast(seasonal_demand(600, 5, swing=0.0)).accuracy
    assert accuracy.origins >= 100
    assert abs(accuracy.coverage.mean() - LEVEL) < 0.04
    assert 2.0 < accuracy.mae.mean() < 8.0
    assert 0.0 < accuracy.pinball.mean() < accuracy.mae.mean()


def test_headroom_grows_with_the_distance_where_demand_drifts() -> None:
    steps = np.random.default_rng(2).normal(0.0, 2.0, (600, 1))
    found = a_forecast(100.0 + np.cumsum(steps, axis=0).clip(-90.0))
    headroom = (found.quantile - found.mean)[:, 0]
    assert headroom[-1] > 1.5 * headroom[0]


def test_a_step_is_followed_or_covered_within_a_few_epochs() -> None:
    def after(epochs: int) -> npt.NDArray[np.float64]:
        return a_forecast(np.concatenate([np.full((200, 1), 10.0), np.full((epochs, 1), 50.0)])).quantile

    assert (after(1) >= 30.0).all()
    assert (after(3) >= 44.0).all()
    assert (after(5) >= 50.0).all()


def test_demand_is_expected_to_return_to_what_is_usual() -> None:
    rng = np.random.default_rng(11)
    series = rng.poisson(40.0, (400, 1)).astype(np.float64)
    series[-1] = 60.0
    far = a_forecast(series).mean[-1, 0]
    assert 38.0 < far < 46.0, "counts of independent epochs say nothing about each other"
    walk = 100.0 + np.cumsum(rng.normal(0.0, 2.0, (400, 1)), axis=0)
    assert abs(a_forecast(walk).mean[-1, 0] - walk[-1, 0]) < 0.2 * abs(walk[-1, 0] - walk.mean()) + 3.0


def test_a_steep_start_is_not_the_rule() -> None:
    """A service that has just been opened fills up once; a minute later its quantiles are those of its demand."""
    rng = np.random.default_rng(12)
    calm = rng.poisson(90.0, (60, 1)).astype(np.float64)
    opened = np.concatenate([np.linspace(10.0, 90.0, 10)[:, None], calm])
    assert a_forecast(opened).quantile[-1, 0] < 1.1 * a_forecast(calm).quantile[-1, 0]


@pytest.mark.parametrize("epochs", [1, 5, 200])
def test_nobody_is_expected_where_nobody_ever_came(epochs: int) -> None:
    found = a_forecast(np.zeros((epochs, 2)))
    assert not found.mean.any()
    assert not found.quantile.any()
    assert not found.weighted(np.ones((1, 2))).any()


def test_demand_that_ended_long_ago_is_not_expected_back() -> None:
    series = np.concatenate([np.full((50, 1), 8.0), np.zeros((900, 1))])
    assert not a_forecast(series).quantile.any()


def test_a_short_past_makes_wide_quantiles() -> None:
    long = np.random.default_rng(4).poisson(30.0, (400, 1)).astype(np.float64)
    short = a_forecast(np.full((1, 1), 30.0))
    assert (short.mean == 30.0).all()
    assert short.quantile[1, 0] > short.quantile[0, 0] > 30.0
    assert (short.quantile[-1, 0] - 30.0) == pytest.approx(1.645 * np.sqrt(2 * 30.0), rel=0.01), "as two counts differ"
    assert (short.quantile - short.mean)[-1, 0] > (a_forecast(long).quantile - a_forecast(long).mean)[-1, 0]
    assert short.accuracy.origins == 0
    for epochs in range(1, 40):
        assert (a_forecast(long[:epochs]).quantile >= a_forecast(long[:epochs]).mean).all()


def test_equal_pasts_give_equal_forecasts() -> None:
    series = seasonal_demand(500, 9)
    first, second = a_forecast(series, 96), a_forecast(series.copy(), 96)
    assert (first.quantile == second.quantile).all()
    assert (first.weighted(np.ones((1, 2))) == second.weighted(np.ones((1, 2)))).all()


def test_profiles_seen_later_begin_with_no_demand_and_the_present_counts() -> None:
    series = demand_series({"a": (1, 2, 3), "b": (7,)}, {"a": 9, "c": 2}, ("a", "b", "c"))
    assert series.tolist() == [[1, 0, 0], [2, 0, 0], [9, 7, 2]]
    assert demand_series({}, {"a": 4}, ("a",)).tolist() == [[4]]
