"""What capacity costs above hindsight, on demand of which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.compare_claims import cost_at
from bench.headroom import LATE, WARM_EPOCHS, judged, known_mean, swept

EPOCHS = 400


def test_capacity_is_judged_by_the_session_time_that_finds_none() -> None:
    demand = np.full(EPOCHS, 10.0)
    demand[-1] = 14.0
    late, cost = judged(demand, np.full(EPOCHS, 12.0))
    judged_time = float(demand[WARM_EPOCHS + 1 :].sum())
    assert late == pytest.approx(2.0 / judged_time)
    assert cost == pytest.approx(12.0 * (EPOCHS - WARM_EPOCHS - 1) / judged_time)


def test_demand_that_never_changes_costs_what_hindsight_costs() -> None:
    assert cost_at(swept(np.full(EPOCHS, 30.0)), LATE) == pytest.approx(1.0)


def test_noise_without_memory_costs_what_its_quantile_costs() -> None:
    """The unit normal loss is 0.01 at 1.94 deviations: 19.4 % above a mean of 100."""
    demand = np.random.default_rng(5).poisson(100.0, 4000).astype(np.float64)
    told = cost_at(known_mean(demand, np.full(4000, 100.0)), LATE)
    ours = cost_at(swept(demand), LATE)
    assert told is not None
    assert ours is not None
    assert 1.18 < told < 1.22
    assert told - 0.02 < ours < told + 0.05
