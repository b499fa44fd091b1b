"""How long a search may go on: seconds by a given clock, or units of work where runs must repeat.

Decides when a search is over; must never know what is searched, nor read a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable

SECONDS_PER_WORK = (
    0.001  # one unit of work is about a millisecond on one core; deterministic limits are derived from it
)


class Meter:
    """Counts down one budget for a whole cascade.

    With `clock` and `seconds` the budget is time. With `work` it is units that every stage spends by what it did, so
    that equal problems end equally on any machine; `left_s` is then what is left in nominal seconds.
    """

    def __init__(
        self, *, clock: Callable[[], float] | None = None, seconds: float = 0.0, work: int | None = None
    ) -> None:
        assert (clock is None) != (work is None), "either a clock and seconds, or work"
        self._clock = clock
        self._work_left = float(work or 0)
        self._end_s = clock() + seconds if clock is not None else 0.0
        self._total_s = seconds if clock is not None else self._work_left * SECONDS_PER_WORK
        self._kept_s = 0.0

    @property
    def repeats(self) -> bool:
        """Whether equal problems must end equally: solvers then use their deterministic limits, not time."""
        return self._clock is None

    @property
    def total_s(self) -> float:
        """The whole budget in (nominal) seconds."""
        return self._total_s

    def keep(self, seconds: float) -> None:
        """From now on so much at the end does not count as left: it is for somebody else."""
        self._kept_s = seconds

    def left_s(self) -> float:
        """Seconds (or nominal seconds) that are left; never negative."""
        left = self._end_s - self._clock() if self._clock is not None else self._work_left * SECONDS_PER_WORK
        return max(0.0, left - self._kept_s)

    def used_s(self) -> float:
        """Seconds (or nominal seconds) since the beginning, also beyond the budget."""
        if self._clock is None:
            return self._total_s - self._work_left * SECONDS_PER_WORK
        return self._clock() - self._end_s + self._total_s

    def spend(self, work: float) -> None:
        """Account for work that was done; time passes by itself."""
        self._work_left -= work

    def over(self, reserve_s: float = 0.0) -> bool:
        """Whether no more than `reserve_s` is left."""
        return self.left_s() <= reserve_s
