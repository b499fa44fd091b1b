"""What GPUs must hold in the epochs ahead: what is expected, and for a while no less than what is wanted now.

Decides sides of inequalities, step by step; must never know GPUs, prices or how the forecast was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from scheduler.cluster import Snapshot
from scheduler.forecast import Forecast
from scheduler.gpu_capacity import Holding
from solvers.coarse_capacity import CoarseCapacity
from solvers.lookahead_problem import LookaheadProblem
from solvers.weights import Inequality

FloatArray = npt.NDArray[np.float64]


def wanted_now(snapshot: Snapshot) -> Counter[str]:
    """Sessions that want chunks, by profile."""
    return Counter(s.profile for s in snapshot.sessions.values() if s.status in ("active", "waiting"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """Demand ahead of some profiles.

    In the first `present_steps` at least the `present` is held: until a GPU that starts now would be usable nobody is
    to lose their place. Whether GPUs start is up to the forecast, because who is there now may be gone by then; only
    where nothing is on, nobody waits for a forecast to believe in them. What was wanted together in one of the `recent`
    epochs is held as if it were expected.
    """

    profiles: tuple[str, ...]  # by profile index
    expected: Forecast = field(repr=False)
    present: FloatArray  # [profiles]
    present_steps: int
    recent: FloatArray = field(repr=False)  # [epochs, profiles]: demand that is held again; may be empty
    spare_share: float  # of demand, that is held beyond what is expected

    def held_together(self, holding: Holding) -> FloatArray:
        """One demand per step [horizon, profiles], at which inequalities are looked for.

        Profiles do not reach their quantiles at once. So it lies between mean and quantiles, as far as the quantile of
        their weighted sum does, with the weights of the strongest inequality at the quantiles.
        """
        expected = self.expected
        demand = expected.quantile.copy()
        for step in range(expected.horizon):
            row = holding.strongest(expected.quantile[step])
            if row is None:
                continue
            weights = np.array(row.weights)
            side = expected.weighted(weights[None, :])[0, step]
            mean, high = float(weights @ expected.mean[step]), float(weights @ expected.quantile[step])
            share = 1.0 if high <= mean else min(1.0, max(0.0, (side - mean) / (high - mean)))
            demand[step] = expected.mean[step] + share * (expected.quantile[step] - expected.mean[step])
        demand = np.maximum(demand, self.recent.max(axis=0, initial=0.0)) * (1.0 + self.spare_share)
        demand[: self.present_steps] = np.maximum(demand[: self.present_steps], self.present)
        return np.asarray(np.maximum(demand, 0.0), dtype=np.float64)

    def asked_of(
        self, supply: LookaheadProblem, rows: Mapping[tuple[float, ...], Inequality], holding: Holding
    ) -> LookaheadProblem:
        """What must hold, together with the service level, for these inequalities."""
        if not rows:
            return supply
        weights = np.array([row.weights for row in rows.values()])
        limits = np.array([row.limit for row in rows.values()])
        recent = (weights @ self.recent.T).max(axis=1, initial=0.0)
        sides = np.maximum(self.expected.weighted(weights), recent[:, None]) * (1.0 + self.spare_share)
        first = slice(self.present_steps)
        sides[:, first] = np.maximum(sides[:, first], (weights @ self.present)[:, None])
        if isinstance(holding, CoarseCapacity):
            sides += np.stack([holding.rounding(row, self.expected.quantile) for row in rows.values()])
        return replace(supply, limits=np.vstack([supply.limits, limits]), sides=np.vstack([supply.sides, sides]))
