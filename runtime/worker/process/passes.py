"""Passes, and who is to blame if one fails.

Decides whose state is given up so that everybody else goes on; must never know what becomes of a session after that.

A pass that fails is tried again in halves, down to single sessions. A refusal comes before anybody has advanced. After
any other failure nobody knows who has, so that all its chunks are begun again, and come out the same. Where smaller
passes do what a larger one cannot, its sessions stay apart for a while: otherwise each pass would begin them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.chunk_models.chunk_model import Chunk, ChunkModel, RefusedError, Seat
from runtime.transfer.messages import REASON_MAX

APART_CHUNKS = 16  # of a session, before it is computed together with all others again


@dataclass(frozen=True, slots=True, kw_only=True)
class Blamed:
    """A session that cannot be computed even alone."""

    session: str
    reason: str
    refused: bool  # by the ChunkModel, in words; otherwise the device or its memory has failed


@dataclass(frozen=True, slots=True, kw_only=True)
class PassEnded:
    """What a pass has brought."""

    chunks: tuple[Chunk, ...] = ()
    blamed: tuple[Blamed, ...] = ()
    parts: tuple[tuple[str, ...], ...] = ()  # who was computed together

    def and_then(self, other: PassEnded) -> PassEnded:
        return PassEnded(
            chunks=self.chunks + other.chunks, blamed=self.blamed + other.blamed, parts=self.parts + other.parts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Apart:
    group: int
    chunks: int  # for which it stays there


class Passes:
    """Of one ChunkModel, called by one thread."""

    def __init__(self, model: ChunkModel) -> None:
        self._model = model
        self._apart: dict[str, _Apart] = {}
        self._group = 0  # the last that was made; 0 is that of all who are not apart

    def run(self, seats: Sequence[Seat]) -> PassEnded:
        """Advance all who can be. Bugs (assertions) are not caught."""
        groups: dict[int, list[Seat]] = {}
        for seat in seats:
            apart = self._apart.get(seat.head.session)
            groups.setdefault(0 if apart is None else apart.group, []).append(seat)
        ended = PassEnded()
        for group in groups.values():
            tried = self._try(group)
            if len(tried.parts) > 1 and not tried.blamed:
                self._keep_apart(tried.parts)
            ended = ended.and_then(tried)
        for chunk in ended.chunks:
            self._count_down(chunk.session)
        return ended

    def forget(self, session: str) -> None:
        self._apart.pop(session, None)
        self._model.forget(session)

    def _try(self, seats: Sequence[Seat]) -> PassEnded:
        sessions = tuple(seat.head.session for seat in seats)
        try:
            return PassEnded(chunks=self._model.run_pass(seats), parts=(sessions,))
        except RefusedError as error:
            reason, refused = str(error), True
        except (MemoryError, RuntimeError) as error:  # torch has no narrower type for what devices and allocators do
            reason, refused = f"{type(error).__name__}: {error}", False
        # Out here nothing holds the tensors of the pass that has failed.
        if len(seats) == 1 or not refused:
            for session in sessions:
                self._model.forget(session)
        if len(seats) == 1:
            return PassEnded(blamed=(Blamed(session=sessions[0], reason=reason[:REASON_MAX], refused=refused),))
        middle = len(seats) // 2
        return self._try(seats[:middle]).and_then(self._try(seats[middle:]))

    def _keep_apart(self, parts: Sequence[Sequence[str]]) -> None:
        for part in parts:
            self._group += 1
            self._apart |= {session: _Apart(group=self._group, chunks=APART_CHUNKS) for session in part}

    def _count_down(self, session: str) -> None:
        apart = self._apart.pop(session, None)
        if apart is not None and apart.chunks > 1:
            self._apart[session] = _Apart(group=apart.group, chunks=apart.chunks - 1)
