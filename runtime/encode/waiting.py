"""The chunks that have been taken and not yet begun.

Decides when there is room for one more; must never know what an encoder is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from runtime.encode.chunk import FinishedChunk
from runtime.encode.limits import Limits
from scheduler.cluster import SessionId


class WaitingChunks:
    """First come, first served; bounded in number and in bytes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._chunks: deque[FinishedChunk] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def sessions(self) -> set[SessionId]:
        """Whose chunks wait."""
        return {chunk.session_id for chunk in self._chunks}

    def never_fits(self, chunk: FinishedChunk) -> str | None:
        """Why the chunk is too large even for an empty queue; None if it is not."""
        if chunk.frames.nbytes <= self._limits.waiting_bytes_max:
            return None
        return f"the frames have {chunk.frames.nbytes} bytes; waiting_bytes_max={self._limits.waiting_bytes_max}"

    def no_room(self, chunk: FinishedChunk) -> str | None:
        """Why the chunk has to stay where it is for now; None if it need not."""
        if len(self._chunks) >= self._limits.waiting_max:
            return f"{len(self._chunks)} chunks wait; waiting_max={self._limits.waiting_max}"
        if self._bytes + chunk.frames.nbytes > self._limits.waiting_bytes_max:
            return f"chunks of {self._bytes} bytes wait; waiting_bytes_max={self._limits.waiting_bytes_max}"
        return None

    def add(self, chunk: FinishedChunk) -> None:
        self._chunks.append(chunk)
        self._bytes += chunk.frames.nbytes

    def pop(self) -> FinishedChunk:
        """Who has waited longest."""
        chunk = self._chunks.popleft()
        self._bytes -= chunk.frames.nbytes
        return chunk

    def take_out(self, session_ids: Iterable[SessionId]) -> tuple[FinishedChunk, ...]:
        """All chunks of these sessions, in order; they wait no longer."""
        gone = set(session_ids)
        taken = tuple(chunk for chunk in self._chunks if chunk.session_id in gone)
        self._chunks = deque(chunk for chunk in self._chunks if chunk.session_id not in gone)
        self._bytes -= sum(chunk.frames.nbytes for chunk in taken)
        return taken
