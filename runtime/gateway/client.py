"""One attachment of a client to its session's stream.

Decides which chunk it is sent next, what it has taken, and when it is too slow; must never know its connection. Time is
an argument, in seconds of any clock that only grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.gateway.changes import Change
from runtime.gateway.stream import Kept, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a change."""

    change: Change
    refused: str | None = None  # why


class Client:
    """`acks`: it says itself what it has taken; otherwise that is what it was sent."""

    def __init__(self, stream: Stream, from_seq: int | None, *, acks: bool, now_s: float) -> None:
        self._stream, self._acks = stream, acks
        self.position, self._needs_key_frame = stream.begin(from_seq)
        self.gap = from_seq is not None and self._needs_key_frame  # what it has, and what comes, may not meet
        self._moved_s = now_s  # when it last took a chunk, or had none to take
        self.end: Literal["replaced", "slow"] | None = None
        self.outcomes: list[Outcome] = []

    def next_chunk(self) -> tuple[int, Kept] | None:
        """What it is to be sent now, and its seq."""
        if self.end is not None:
            return None
        if self.position < self._stream.first_seq:
            self.position, self._needs_key_frame, self.gap = self._stream.first_seq, True, True
        while (kept := self._stream.chunk(self.position)) is not None:
            if not self._needs_key_frame or kept.key_frame:
                return self.position, kept
            self.position, self.gap = self.position + 1, True
            self._stream.took(self.position)
        return None

    def sent(self, seq: int, now_s: float) -> None:
        self.position, self._needs_key_frame, self.gap = seq + 1, False, False
        self._stream.shown()
        if not self._acks:
            self.acked(seq + 1, now_s)

    def acked(self, seq: int, now_s: float) -> None:
        """It has taken all below that, of what it was sent."""
        seq = min(seq, self.position)
        if self.end is None and seq > self._stream.taken:
            self._stream.took(seq)
            self._moved_s = now_s

    def chunk_came(self, now_s: float) -> None:
        if self._stream.next_seq - 1 == self._stream.taken:
            self._moved_s = now_s  # until now it had all

    def slow_since_s(self) -> float | None:
        """Since when it has not taken what is there; None where it has all."""
        return self._moved_s if self._stream.next_seq > self._stream.taken else None

    @property
    def misses_key_frame(self) -> bool:
        """Whether it waits for one that has not come."""
        return self._needs_key_frame and self._stream.chunk(self.position) is None
