"""What GPUs have cost lately over the least that they could have cost with hindsight.

Decides how that is added up and forgotten; must never know where the least comes from. Time is an argument, in seconds
of any clock that only grows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

HALF_LIFE_S = 600.0  # after which a dollar counts half
S_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """Dollars that were paid and the least for the same time, both since the first plan, old ones counting less."""

    at_s: float
    paid_dollars: float  # of all GPUs since the controller has begun
    least_per_hour: float  # from now on, until another is heard of
    recent_paid: float = 0.0
    recent_least: float = 0.0

    def until(self, now_s: float, paid_dollars: float) -> Regret:
        """As it stands later, when so much has been paid in all."""
        elapsed_s = max(0.0, now_s - self.at_s)
        left = 0.5 ** (elapsed_s / HALF_LIFE_S)
        return replace(
            self,
            at_s=now_s,
            paid_dollars=paid_dollars,
            recent_paid=self.recent_paid * left + (paid_dollars - self.paid_dollars),
            recent_least=self.recent_least * left + self.least_per_hour * elapsed_s / S_PER_HOUR,
        )

    @property
    def ratio(self) -> float | None:
        """0.1: 10 % more was paid than the least; below 0: not everybody was held on time. None: nothing was needed."""
        return self.recent_paid / self.recent_least - 1 if self.recent_least > 0 else None
