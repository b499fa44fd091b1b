"""Sessions that wait for a GPU, in the order in which they began to.

Decides how many wait before one; must never know why it waits.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator


class Waiting:
    """Entering, leaving and asking cost little, however many wait."""

    def __init__(self) -> None:
        self._since_s: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []

    def copy(self) -> Waiting:
        copied = Waiting()
        copied._since_s, copied._order = dict(self._since_s), list(self._order)
        return copied

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[str]:
        return (session_id for _, session_id in self._order)

    def note(self, session_id: str, since_s: float | None) -> None:
        """Since when it waits; None: it does not."""
        known_s = self._since_s.get(session_id)
        if known_s == since_s:
            return
        if known_s is not None:
            del self._order[bisect_left(self._order, (known_s, session_id))]
            del self._since_s[session_id]
        if since_s is not None:
            self._since_s[session_id] = since_s
            insort(self._order, (since_s, session_id))

    def position(self, session_id: str) -> int:
        """How many wait before it; 0 also where it does not wait."""
        since_s = self._since_s.get(session_id)
        return 0 if since_s is None else bisect_left(self._order, (since_s, session_id))
