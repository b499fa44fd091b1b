"""The least level (a worst latency) below which everybody fits: gallop up from the bound, then bisect.

Decides which levels are tried in which order, greedily first and then with chance; must never know how fitting works.
"""

from __future__ import annotations

from dataclasses import dataclass

from solvers.placement.fitting import PATIENCE, Attempt, Fitter
from solvers.placement.incumbent import Incumbent
from solvers.placement.meter import Meter
from solvers.placement.problem import NEVER_US

GALLOP_FIRST, GALLOP_GROWTH = 0.004, 2.5  # of the bound
NOISES = (0.15, 0.4, 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much one search over levels may try."""

    name: str
    attempts: int  # at each level; the first one is greedy unless `noisy`
    noisy: bool
    steps_max: int = 30  # levels above the bound that are tried until one is reached
    patience: int = PATIENCE  # of each attempt
    bisects: bool = True  # between the level that was reached and the one before
    end_s: float = 0.0  # stop when no more than this is left on the meter


class LevelSearch:
    """Looks for placements below falling levels and offers them to the incumbent."""

    def __init__(self, fitter: Fitter, incumbent: Incumbent, meter: Meter, *, on_time: bool, seed: int) -> None:
        self._fitter, self._incumbent, self._meter = fitter, incumbent, meter
        self._on_time, self._seed = on_time, seed
        self._attempt_s = 0.0  # what the last attempt took

    def run(self, effort: Effort, gap: float) -> str:
        """Search until the incumbent is within `gap` of the bound; returns why it ended."""
        bound = max(1, self._incumbent.bounds.balance)
        failed, step = bound - 1, gap
        for _ in range(effort.steps_max):
            level = int(bound * (1 + step))
            if self._near(gap) or level >= self._incumbent.value.balance:
                break
            if self._over(effort):
                return "deadline"
            if self._tried(level, effort):
                break
            failed, step = level, max(GALLOP_FIRST, step * GALLOP_GROWTH)
        while effort.bisects and not self._near(gap):
            best = self._incumbent.value.balance
            if best - failed <= max(1, gap * bound / 2):
                return "no lower level found"
            if self._over(effort):
                return "deadline"
            middle = (failed + best) // 2
            if not self._tried(middle, effort):
                failed = middle
        return "wanted gap reached" if self._near(gap) else "no lower level found"

    def free(self) -> bool:
        """Fit without a level: repairs, targets and leaving GPUs only, with as few migrations as that takes."""
        return self._tried(NEVER_US - 1, Effort(name="greedy", attempts=1, noisy=False))

    def _tried(self, level: int, effort: Effort) -> bool:
        """Whether the incumbent gets below the level in the attempts that there are; every fit is offered."""
        for attempt in range(effort.attempts):
            if attempt and self._over(effort):
                return False
            before_s = self._meter.left_s()
            noise = NOISES[attempt % len(NOISES)] if attempt or effort.noisy else 0.0
            fitted = self._fitter.fit(
                Attempt(
                    limit_us=level,
                    on_time=self._on_time,
                    ends=lambda: self._meter.over(effort.end_s),
                    noise=noise,
                    seed=self._seed + attempt,
                    patience=effort.patience,
                )
            )
            self._meter.spend(fitted.work)
            self._attempt_s = max(0.5 * self._attempt_s, before_s - self._meter.left_s())
            if fitted.placement is not None:
                # What is better below the level may be worse in a tier before it, and is not kept then.
                return self._incumbent.offer(fitted.placement, effort.name) or self._incumbent.value.balance <= level
        return False

    def _near(self, gap: float) -> bool:
        value, bound = self._incumbent.value.balance, self._incumbent.bounds.balance
        return value - bound <= gap * value

    def _over(self, effort: Effort) -> bool:
        return self._meter.over(effort.end_s + self._attempt_s)
