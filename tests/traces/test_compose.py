"""Bodies on arrivals, and synthetic workloads."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tests.traces.builders import a_trace, periods_us
from tests.traces.test_importers import AZURE, KV, SERVEGEN
from traces.compose import ComposeOptions, compose, shares
from traces.demand import arrivals_of, bodies_of
from traces.describe import describe
from traces.errors import BadInputError
from traces.importers.azure import azure_arrivals
from traces.importers.kv_cache_tester import kv_cache_tester_bodies
from traces.importers.servegen import servegen_rates
from traces.recorded import recorded
from traces.synthetic import generate
from traces.trace import Trace

HOUR_US = 3_600_000_000


def a_composed(**changes: object) -> Trace:
    options = {"hours": 2.0, "active_mean": 20.0, "seed": 3, **changes}
    return compose(kv_cache_tester_bodies(KV), servegen_rates(SERVEGEN), ComposeOptions(**options))  # type: ignore[arg-type]


def test_bodies_of_a_trace_begin_at_zero() -> None:
    bodies = bodies_of(a_trace("a 5-6 b 1-3 a 8-10"))
    assert bodies.start_us.tolist() == [0, 0, 3_000_000]
    assert bodies.end_us.tolist() == [2_000_000, 1_000_000, 5_000_000]
    assert (bodies.duration_us.tolist(), bodies.active_us.tolist()) == ([2_000_000, 5_000_000], [2_000_000, 3_000_000])


def test_the_mean_of_active_sessions_is_the_wanted_one() -> None:
    trace = a_composed()
    active_us = (trace.periods["end_us"] - trace.periods["start_us"]).sum()
    assert active_us / (2 * HOUR_US) == pytest.approx(20, rel=0.02)


def test_the_mean_of_open_sessions_is_the_wanted_one() -> None:
    found = describe(a_composed(active_mean=None, sessions_mean=50.0))
    assert found.open.mean * found.horizon_s / 7200 == pytest.approx(50, rel=0.03)


def test_everything_lies_inside_the_window() -> None:
    trace = a_composed()
    assert trace.periods["start_us"].min() == 0
    assert trace.horizon_us == 2 * HOUR_US


def load_of(trace: Trace, from_us: int, to_us: int) -> float:
    clipped = trace.periods.select(
        pl.col("end_us").clip(upper_bound=to_us) - pl.col("start_us").clip(lower_bound=from_us)
    )
    return float(clipped.to_series().clip(lower_bound=0).sum()) / (to_us - from_us)


def test_warm_up_begins_in_steady_state_and_its_absence_begins_empty() -> None:
    warm, cold = (
        load_of(a_composed(warm_up=warm_up, active_mean=100.0), 0, HOUR_US // 12) for warm_up in (True, False)
    )
    assert warm > 70
    assert cold < 40


def test_equal_seeds_give_equal_traces_and_others_do_not() -> None:
    assert a_composed().sha256 == a_composed().sha256
    assert a_composed().sha256 != a_composed(seed=4).sha256


def test_profiles_have_their_shares_and_the_rest_has_none() -> None:
    trace = a_composed(profiles={"a": 0.5, "b": 0.3}, active_mean=200.0)
    part = trace.sessions["profile"].value_counts(normalize=True)
    found = dict(part.rows())
    assert set(found) == {"a", "b", None}
    assert [found["a"], found["b"], found[None]] == pytest.approx([0.5, 0.3, 0.2], abs=0.05)


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"sum of shares=1\.2 must be <= 1"):
        shares({"a": 0.6, "b": 0.6}, "--profile")


def test_tenants_can_be_those_of_the_arrivals() -> None:
    tenants = set(a_composed(tenants="source").sessions["tenant"])
    assert 1 < len(tenants) <= 73
    assert all(name.startswith("client-") for name in tenants)


def test_resolution_rounds_openings() -> None:
    trace = a_composed(resolution_s=1.0, warm_up=False)
    opens = arrivals_of(trace).times_us
    assert (opens % 1_000_000 == 0).all()


def test_a_session_keeps_the_shape_of_its_body() -> None:
    body = a_trace("x 0-10 x 40-45")
    trace = compose(bodies_of(body), recorded(azure_arrivals(AZURE)), ComposeOptions(hours=1, active_mean=3, seed=1))
    whole = [
        spans for spans in periods_us(trace).values() if len(spans) == 2 and spans[0][0] > 0 and spans[1][1] < HOUR_US
    ]
    assert len(whole) > 100
    assert {(b - a, c - a, d - a) for (a, b), (c, d) in whole} == {(10_000_000, 40_000_000, 45_000_000)}


def test_recorded_arrivals_keep_their_bursts_at_other_rates() -> None:
    source = recorded(azure_arrivals(AZURE))
    for rate in (1.0, 12.0):
        drawn = source.draw(rate_per_s=rate, length_us=6 * HOUR_US, before_us=HOUR_US, rng=np.random.default_rng(0))
        inside = drawn.times_us[drawn.times_us >= 0]
        assert len(inside) / (6 * 3600) == pytest.approx(rate, rel=0.03)
        minutes = np.bincount(inside // 60_000_000)
        assert minutes.max() / minutes.mean() > 1.3


def test_recorded_arrivals_at_their_own_rate_are_themselves() -> None:
    arrivals = azure_arrivals(AZURE)
    rate = len(arrivals.times_us) / (arrivals.length_us / 1e6)
    drawn = recorded(arrivals).draw(
        rate_per_s=rate, length_us=arrivals.length_us, before_us=0, rng=np.random.default_rng(0)
    )
    assert np.array_equal(drawn.times_us, arrivals.times_us)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hours": 0.0}, "hours=0 must be > 0"),
        ({"active_mean": float("nan")}, "mean=nan must be > 0"),
        ({"sessions_mean": 5.0}, "means=2 must be 1"),
        ({"active_mean": 1e6}, "periods="),
        ({"resolution_s": -1.0}, "resolution_s=-1 must be >= 0"),
    ],
)
def test_loads_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        a_composed(**changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("hours", "mean", "seed"), [(24.0, 80.0, 0), (24.0, 20.0, 1), (6.0, 80.0, 2), (6.0, 300.0, 3), (24.0, 150.0, 4)]
)
def test_synthetic_traces_are_credible(hours: float, mean: float, seed: int) -> None:
    found = describe(generate(ComposeOptions(hours=hours, active_mean=mean, seed=seed)))
    assert 60 <= found.duration_s.p10 <= 300
    assert 2 * 3600 <= found.duration_s.p99 <= 4 * 3600
    assert 0.28 <= found.duty <= 0.36
    assert 40 <= found.idle_s.p50 <= 100
    assert 700 <= found.idle_s.p99 <= 1500
    assert 15 <= found.active_s.p50 <= 40
    assert 1.6 <= found.active.peak_to_mean <= 6.5


def test_synthetic_days_have_a_curve_and_crowds() -> None:
    trace = generate(ComposeOptions(hours=24, active_mean=200, seed=7))
    assert load_of(trace, 18 * HOUR_US, 22 * HOUR_US) > 1.8 * load_of(trace, 6 * HOUR_US, 10 * HOUR_US)
    assert describe(trace).arrivals.dispersion_60s > 3


def test_synthetic_traces_repeat_with_their_seed() -> None:
    one, again, other = (generate(ComposeOptions(hours=1, active_mean=10, seed=seed)).sha256 for seed in (1, 1, 2))
    assert one == again != other
