"""Whether a worker still serves a controller.

Decides that from the worker's own send times, which the controller has echoed; must never know a clock, nor another
machine's. Whoever does not hold a lease computes no chunk and keeps its states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LEASE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A new worker holds none before a controller has answered it."""

    length_s: float = LEASE_S
    sent_s: float | None = None  # the latest send time that came back

    def renewed(self, sent_s: float, now_s: float) -> Lease:
        """The controller has heard what was sent then. A time that has not come yet cannot be an echo."""
        if sent_s > now_s or (self.sent_s is not None and sent_s <= self.sent_s):
            return self
        return replace(self, sent_s=sent_s)

    def holds(self, now_s: float) -> bool:
        return self.sent_s is not None and now_s < self.sent_s + self.length_s

    def left_s(self, now_s: float) -> float:
        """0 once it has expired."""
        return 0.0 if self.sent_s is None else max(0.0, self.sent_s + self.length_s - now_s)
