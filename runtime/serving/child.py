"""When a process that has ended is begun again.

Decides the pause, and when nobody tries any more; must never know what the process does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PAUSE_S, PAUSE_S_MAX = 0.2, 10.0
STEADY_S = 30.0  # whoever has lived so long is begun again at once
DEATHS_MAX = 8  # in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """Of one process, again and again."""

    began_s: float
    deaths: int = 0  # in a row, none of them after a steady life
    again_s: float | None = None  # when it is begun again; None: it lives, or nobody tries any more

    @property
    def gave_up(self) -> bool:
        return self.again_s is None and self.deaths >= DEATHS_MAX

    def died(self, now_s: float) -> Lives:
        deaths = 1 if now_s - self.began_s >= STEADY_S else self.deaths + 1
        if deaths >= DEATHS_MAX:
            return replace(self, deaths=deaths, again_s=None)
        pause_s = min(PAUSE_S_MAX, PAUSE_S * 2 ** (deaths - 1))
        return replace(self, deaths=deaths, again_s=now_s + pause_s)

    def begun(self, now_s: float) -> Lives:
        return replace(self, began_s=now_s, again_s=None)
