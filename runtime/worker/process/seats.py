"""The sessions of a worker as its ChunkModel sees them: who is in the middle of a chunk, and who may join a pass.

Decides who takes part in the next pass; must never know where a session's next chunk goes, nor why it may run.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.chunk_models.chunk_model import Head, Seat
from runtime.worker.process.carried import Carried, packed
from scheduler.cluster import SessionId


class Seats:
    """Used by the compute thread; `head_of` also by the thread of a transfer, while its session stands still."""

    def __init__(self, coalesce_max: int) -> None:
        assert coalesce_max >= 1, f"coalesce_max={coalesce_max} must be >= 1"
        self._coalesce_max = coalesce_max
        self._carried: dict[SessionId, Carried] = {}
        self._running: dict[SessionId, Seat] = {}
        self._turn = 0
        self._begun: dict[SessionId, int] = {}  # turn in which its last chunk was begun

    def get(self, session_id: SessionId) -> Carried | None:
        return self._carried.get(session_id)

    def put(self, session_id: SessionId, carried: Carried) -> None:
        self._carried[session_id] = carried

    def remove(self, session_id: SessionId) -> bool:
        """Whether a chunk of it was in progress."""
        self._carried.pop(session_id, None)
        self._begun.pop(session_id, None)
        return self._running.pop(session_id, None) is not None

    @property
    def numbers(self) -> tuple[tuple[str, int], ...]:
        """Of everybody's next chunk."""
        return tuple((session_id, carried.head.chunk_number) for session_id, carried in self._carried.items())

    @property
    def running(self) -> tuple[Seat, ...]:
        """Who is in the middle of a chunk; no more than a pass takes."""
        return tuple(self._running.values())

    def joiners(self, may_begin: Iterable[SessionId]) -> list[SessionId]:
        """Who begins a chunk in the next pass: who has waited longest, as far as there is room beside the others."""
        room = self._coalesce_max - len(self._running)
        return sorted(may_begin, key=lambda session_id: self._begun.get(session_id, 0))[: max(0, room)]

    def begin(self, session_id: SessionId, offset: int) -> None:
        """Its chunk's head is fixed from now on."""
        assert session_id not in self._running, f"a chunk of {session_id} is in progress"
        self._turn += 1
        begun = self._carried[session_id].begun()
        self._carried[session_id], self._begun[session_id] = begun, self._turn
        self._running[session_id] = Seat(head=begun.head, offset=offset)

    def complete(self, session_id: SessionId) -> Head:
        """Its chunk is there: the head with which it was made."""
        seat = self._running.pop(session_id)
        self._carried[session_id] = self._carried[session_id].ended()
        return seat.head

    def head_of(self, session_id: SessionId) -> bytes:
        """What travels beside the block."""
        return packed(self._carried[session_id])
