"""Which attempts are over for a worker, so that their messages have no effect when they come late.

Decides what is remembered one by one and what by a horizon; must never know what an attempt was for.
"""

from __future__ import annotations

from collections.abc import Collection

from scheduler.cluster import SessionId

ENDED_MAX = 4096  # sessions whose last attempt is remembered one by one


class EndedAttempts:
    """Attempts up to the horizon are over unless they are named as open; of the others, those that have ended here."""

    def __init__(self, ended_max: int = ENDED_MAX) -> None:
        self._ended_max = ended_max
        self._last: dict[SessionId, int] = {}  # the highest that has ended, where the horizon does not tell
        self._horizon = 0
        self._open: frozenset[int] = frozenset()

    def covers(self, session_id: SessionId, attempt: int) -> bool:
        """Whether it is over."""
        if attempt <= self._last.get(session_id, 0):
            return True
        return attempt <= self._horizon and attempt not in self._open

    def add(self, session_id: SessionId, attempt: int) -> None:
        """From now on the attempt and all before it are over for this session."""
        if self.covers(session_id, attempt):
            return
        self._last[session_id] = attempt
        if len(self._last) > self._ended_max:
            # Those that are forgotten one by one are refused as a whole; the controller's next attempt is above them.
            self._horizon, self._open = max(self._horizon, *self._last.values()), frozenset()
            self._last.clear()

    def prune(self, horizon: int, open_attempts: Collection[int]) -> bool:
        """A plan tells its horizon; False if it is an older plan."""
        if horizon < self._horizon:
            return False
        named = frozenset(open_attempts)
        self._open = named & self._open if horizon == self._horizon else named
        self._horizon = horizon
        self._last = {
            session_id: last for session_id, last in self._last.items() if last > self._horizon or last in self._open
        }
        return True
