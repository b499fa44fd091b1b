"""The reference's rule costs what it costs by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bench.offline_measure import measure
from bench.workloads import WORKLOADS
from scheduler.demand import Int64Array
from scheduler.headroom_rule import PoolChoice, cheapest_pool, gpus_by_epoch, headroom_dollars, paid_epochs
from traces.assemble import trace_from_periods
from traces.compose import ComposeOptions
from traces.store import write_trace
from traces.synthetic import generate
from traces.trace import Trace

SECOND_US = 1_000_000


def a_trace(*periods: tuple[float, float]) -> Trace:
    starts, ends = np.array(periods, dtype=np.float64).T
    ids = [f"s{index}" for index in range(len(periods))]
    return trace_from_periods(pl.DataFrame({"session_id": ids, "start_s": starts, "end_s": ends}))


@pytest.mark.parametrize(("crowd_end_s", "epochs_with_crowd"), [(45.0, 1), (45.000001, 2)])
def test_a_crowd_is_paid_until_its_end_has_held_for_five_seconds(crowd_end_s: float, epochs_with_crowd: int) -> None:
    # Three sessions want ceil(3 / 2.7) = 2 GPUs for 10 epochs; six want 3 for as long as the crowd and the hold last.
    fleet = WORKLOADS["small"]["one-kv"].gpus()
    crowd = [(44.0, crowd_end_s)] * 3
    trace = a_trace((0, 100), (0, 100), (0, 100), *crowd)
    start_ups = 3 * 6  # 60 s of 10 s epochs, once for each GPU
    epochs = 2 * 10 + epochs_with_crowd + start_ups
    assert headroom_dollars(trace, fleet) == pytest.approx(epochs * 10 / 3600 * 2.5)


def test_a_profile_goes_where_a_session_on_time_is_cheapest() -> None:
    fleet = WORKLOADS["small"]["two-types-kv"].gpus()
    names = list(fleet.profiles)
    # per session: h100 2.50 / 3 and b200 6.50 / 8; h100 2.50 / 2 and b200 6.50 / 5; only b200 runs the 14B
    assert cheapest_pool(fleet, names.index("wan-1.3b-480p")) == PoolChoice(gpu_type="b200", capacity=8)
    assert cheapest_pool(fleet, names.index("wan-1.3b-720p")) == PoolChoice(gpu_type="h100", capacity=2)
    assert cheapest_pool(fleet, names.index("wan-14b-480p")) == PoolChoice(gpu_type="b200", capacity=1)


def test_a_pause_no_longer_than_a_start_up_is_paid_through() -> None:
    # The first GPU: epochs 1-5 with a pause of 2, and 9, two start-ups of 2; the second: epoch 1 and a start-up.
    assert paid_epochs(np.array([0, 2, 1, 0, 0, 1, 0, 0, 0, 1]), 2) == (5 + 2) + (1 + 2) + (1 + 2)
    assert paid_epochs(np.array([0, 2, 1, 0, 0, 1, 0, 0, 0, 1]), 0) == 5


@pytest.mark.parametrize("seed", range(5))
def test_the_rule_by_epoch_agrees_with_looking_at_every_second(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start_s = rng.integers(0, 95, 60)
    end_s = np.minimum(start_s + rng.integers(1, 20, 60), 97)
    found = gpus_by_epoch(start_s * SECOND_US, end_s * SECOND_US, 3, 10 * SECOND_US, 97 * SECOND_US)
    np.testing.assert_array_equal(found, second_by_second(start_s, end_s, epochs=10))


def second_by_second(start_s: Int64Array, end_s: Int64Array, *, epochs: int) -> list[int]:
    active = [int(((start_s <= now) & (now < end_s)).sum()) for now in range(epochs * 10)]
    target = [-(-10 * count // 27) for count in active]
    held = [max(target[max(0, now - 5) : now + 1]) for now in range(97)]
    return [max(held[epoch * 10 : epoch * 10 + 10]) for epoch in range(epochs)]


def test_a_measured_case_is_accepted_by_the_verifier(tmp_path: Path) -> None:
    wanted = WORKLOADS["small"]["one-kv"]
    trace = generate(ComposeOptions(hours=0.05, active_mean=6, profiles=wanted.profiles, seed=3))
    write_trace(trace, tmp_path / "trace.parquet")
    measured = measure("one-kv", "small", tmp_path / "trace.parquet", tmp_path / "plan")
    assert measured.findings == ()
    assert measured.unserved_s == 0
    assert measured.bound is not None
    assert 0 < measured.bound <= measured.value * (1 + 1e-9)
    assert measured.gap == pytest.approx((measured.value - measured.bound) / measured.value, abs=1e-9)
    assert (tmp_path / "plan" / "plan.json").is_file()
