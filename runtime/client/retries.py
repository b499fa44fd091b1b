"""When something that may work later is tried again.

Decides how long the pauses are; must never know what is tried. Chance is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import SystemRandom

draw = SystemRandom().random  # the chance that `pause_s_of` takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often in a row, and how long between: longer each time, and at least as long as the other side says."""

    attempts_max: int = 10
    pause_s: float = 0.25
    pause_s_max: float = 10.0
    retry_after_s_max: float = 60.0  # a gateway that says more is believed no further

    def pause_s_of(self, failures: int, retry_after_s: float | None, chance: float) -> float:
        """Before the next attempt, after so many failures in a row. `chance` is from 0 to 1.

        A part of the pause is left to chance, so that clients who were cut off together do not come back together.
        """
        longest_s: float = min(self.pause_s_max, self.pause_s * 2.0 ** min(failures - 1, 32))
        return max(longest_s * (0.5 + 0.5 * chance), min(self.retry_after_s_max, retry_after_s or 0.0))
