"""Which sessions each worker owns: the truth by worker, so that nobody has to look through all of it.

Decides which sessions a record may be about; must never know what a record means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from runtime.journal.records import (
    Aborted,
    Began,
    Cleared,
    Committed,
    Created,
    Ended,
    Finished,
    GivenBack,
    Joined,
    Left,
    Lost,
    Placed,
    Prepared,
    Prompted,
    Reactivated,
    Record,
    Withheld,
)
from runtime.journal.truth import Truth


class Owners:
    """Follows one truth."""

    def __init__(self, truth: Truth) -> None:
        self._owned: dict[str, frozenset[str]] = {}
        self._handed_over = {attempt: handover.session_id for attempt, handover in truth.handovers.items()}
        for session_id in truth.sessions:
            self._enter(truth, session_id)

    def copy(self) -> Owners:
        copied = Owners(Truth())
        copied._owned, copied._handed_over = dict(self._owned), dict(self._handed_over)
        return copied

    def of(self, worker: str) -> frozenset[str]:
        """The sessions that it owns."""
        return self._owned.get(worker, frozenset())

    def follow(self, records: Sequence[Record], before: Truth, after: Truth) -> None:
        """Once `records` are part of the truth."""
        for session_id in set[str]().union(*map(self._about, records)):
            was = before.sessions.get(session_id)
            if was is not None and was.worker is not None:
                self._owned[was.worker] = self.of(was.worker) - {session_id}
            self._enter(after, session_id)

    def _enter(self, truth: Truth, session_id: str) -> None:
        owned = truth.sessions.get(session_id)
        if owned is not None and owned.worker is not None:
            self._owned[owned.worker] = self.of(owned.worker) | {session_id}

    def _about(self, record: Record) -> frozenset[str]:
        match record:
            case Prepared():
                self._handed_over[record.attempt] = record.session_id
                return frozenset((record.session_id,))
            case Created() | Prompted() | Ended() | Placed() | Lost() | Cleared():
                return frozenset((record.session_id,))
            case Committed():
                return frozenset((self._handed_over[record.attempt],))
            case Aborted() | Reactivated() | Finished():
                return frozenset((self._handed_over.pop(record.attempt),))
            case Left():
                return self.of(record.worker)
            case Began() | Joined() | Withheld() | GivenBack():
                return frozenset()
            case _:
                assert_never(record)
