"""The GPU count as a report: what it costs, what it rests on, and what an operator should know.

Decides units and words; must never know how counts were found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scheduler.gpu_ahead import Ahead
from scheduler.gpu_need import MILLI_CENTS, Counts
from scheduler.plan import ForecastReport, ProfileForecast, TierReport
from solvers.lookahead import GAP
from solvers.lookahead_problem import LookaheadProblem, price_of


def pay_report(counts: Counts) -> TierReport:
    """Dollars over the epochs ahead; before is what keeping everything as it is would cost."""
    answer = counts.answer
    before = _price_unchanged(counts.problem)
    gap = (answer.price - answer.bound) / answer.price if answer.price > answer.bound else 0.0
    return TierReport(
        tier="pay",
        unit=f"$ over {counts.problem.horizon} epochs",
        before=before / MILLI_CENTS,
        value=answer.price / MILLI_CENTS,
        bound=min(answer.bound, answer.price) / MILLI_CENTS,
        gap=gap,
        proven=gap <= GAP,
        proof=answer.proof,
    )


def _price_unchanged(problem: LookaheadProblem) -> int:
    nothing = np.zeros((problem.types, problem.horizon), np.int64)
    usable = problem.usable[:, None] + problem.becoming.cumsum(axis=1)
    return price_of(problem, usable, nothing)


def forecast_report(ahead: Ahead) -> ForecastReport:
    """Means over the horizon, by profile."""
    expected, accuracy = ahead.expected, ahead.expected.accuracy
    return ForecastReport(
        service_level=expected.service_level,
        horizon_epochs=expected.horizon,
        origins=accuracy.origins,
        profiles=tuple(
            ProfileForecast(
                profile=name,
                mean=float(expected.mean[:, index].max()),
                quantile=float(expected.quantile[:, index].max()),
                coverage=_mean(accuracy.coverage[:, index]),
                pinball=_mean(accuracy.pinball[:, index]),
                mae=_mean(accuracy.mae[:, index]),
            )
            for index, name in enumerate(ahead.profiles)
        ),
    )


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return None if np.isnan(values).any() else float(values.mean())


def warnings_of(counts: Counts) -> tuple[str, ...]:
    """What an operator should know: counting was coarse, or demand is more than any decision could hold in time."""
    coarse = (
        "too many mixes of profiles fit on a GPU to count them all: GPUs are counted as if every profile had its own",
    ) * counts.coarse
    shortage = counts.answer.shortage.max(axis=0, initial=0.0)
    if not (shortage > 1e-6).any():
        return coarse
    first = int(np.flatnonzero(shortage > 1e-6)[0])
    last = int(np.flatnonzero(shortage > 1e-6)[-1])
    return (
        *coarse,
        f"expected demand needs about {shortage.max():.1f} GPUs more than can be usable in epochs {first} to {last} "
        "from now",
    )
