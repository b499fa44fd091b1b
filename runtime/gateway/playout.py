"""How a session plays at a client that shows each chunk as soon as the one before it is over.

Decides when a client stalls, from when chunks have come and how long they play; must never know a client's real buffer.
"""

from __future__ import annotations


class Playout:
    """Of one session. Time is an argument, in seconds of any clock that only grows."""

    def __init__(self) -> None:
        self.ends_s: float | None = None  # when all that has come will have been shown; None: nothing is shown

    def came(self, play_s: float, now_s: float) -> float:
        """A chunk has come. For how long the client had nothing to show before it."""
        if self.ends_s is None:
            self.ends_s = now_s + play_s
            return 0.0
        stalled_s = max(0.0, now_s - self.ends_s)
        self.ends_s = max(self.ends_s, now_s) + play_s
        return stalled_s

    def stops(self) -> None:
        """Nobody watches, or wants to: what comes next is no continuation."""
        self.ends_s = None
