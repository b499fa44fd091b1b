"""Sessions whose worker has ended while it served them: one of them may have brought that about.

Decides when another such end is one too many, and when a session is above suspicion again; must never know who of
several was to blame. Whoever was there both times, and was served hardly anything in between, is given up, so that
nobody takes a third worker down.
"""

from __future__ import annotations

from runtime.controller.books import Books
from runtime.journal.records import Cleared

FALLS_MAX = 2  # workers that may end under one session
CLEAR_CHUNKS = 4  # in one lineage, after which earlier ends count no more: a worker that hangs makes none


class Suspects:
    """What counts is in the journal, so that it outlives a controller."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._suspected = {name for name, owned in books.truth.sessions.items() if owned.fallen}

    def copy(self, books: Books) -> Suspects:
        """What is decided on it is forgotten with it."""
        copied = Suspects.__new__(Suspects)
        copied._books, copied._suspected = books, set(self._suspected)
        return copied

    def fell(self, session_id: str, *, at_rest: bool) -> bool:
        """Its owner has ended; whether that was one too many. `at_rest`: nothing can have been computed for it."""
        owned = self._books.truth.sessions[session_id]
        if owned.fallen:
            self._suspected.add(session_id)
        return owned.lost and owned.fallen >= FALLS_MAX and not at_rest

    def settle(self) -> None:
        """Who has had so many chunks is above suspicion."""
        for session_id in sorted(self._suspected):
            owned = self._books.truth.sessions.get(session_id)
            if owned is None or not owned.fallen:
                self._suspected.remove(session_id)
            elif owned.worker is not None and self._books.chunks.get(session_id, 0) >= CLEAR_CHUNKS:
                self._suspected.remove(session_id)
                self._books.write(Cleared(session_id=session_id))
