"""The sessions that a worker encodes: events in, actions out.

Decides which chunk is next, when a key frame is due, which encoders are kept and what is dropped; must never know a
codec, a thread or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from runtime.encode.chunk import FinishedChunk, Form, refusal_of, refusal_of_pace
from runtime.encode.events import (
    Action,
    ChunkEncoded,
    Closing,
    DeadlinePassed,
    Dropped,
    Encode,
    EncodeFailed,
    Event,
    KeyFrameWanted,
    Left,
    LetGo,
    Offered,
    Refused,
    SessionFailed,
    Stop,
    Taken,
    Tell,
)
from runtime.encode.limits import Limits
from runtime.encode.waiting import WaitingChunks
from scheduler.cluster import SessionId

Steps = tuple[Action, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What an encoder has made last. It can make the next chunk of that lineage and form, and no other."""

    lineage: int
    number: int
    form: Form

    def is_before(self, chunk: FinishedChunk) -> bool:
        return (self.lineage, self.number + 1, self.form) == (chunk.lineage, chunk.number, chunk.form)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One session. `lineage`, `number` and `form` are those of the last chunk that was taken."""

    lineage: int
    number: int
    form: Form
    made: _Made | None = None  # by its encoder; None if it has none
    key_number: int = 0  # of the last chunk that began with a key frame
    key_wanted: bool = False
    failure: str | None = None
    left: bool = False  # what waits is encoded, and then it is forgotten


class EncodeTable:
    """All decisions of one encode thread. Chunks are encoded one at a time, in the order in which they were taken."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: dict[SessionId, _Record] = {}  # the longest untouched first
        self._waiting = WaitingChunks(limits)
        self._now: FinishedChunk | None = None
        self._closing = False

    @property
    def waiting(self) -> int:
        """Chunks that have been taken and not begun."""
        return len(self._waiting)

    @property
    def sessions(self) -> int:
        """Sessions that are known; no more than these have encoders."""
        return len(self._records)

    @property
    def idle(self) -> bool:
        return self._now is None

    def handle(self, event: Event) -> Steps:
        """What follows from an event. The answer to an `Offered` begins with `Taken` or is one `Refused`."""
        match event:
            case Offered():
                return self._offered(event.chunk)
            case KeyFrameWanted():
                return self._key_frame_wanted(event.session_id)
            case Left():
                return self._left(event.session_id)
            case ChunkEncoded():
                return self._encoded()
            case EncodeFailed():
                return self._failed(event.reason)
            case Closing():
                self._closing = True
                return self._next()
            case DeadlinePassed():
                self._closing = True
                late = self._waiting.take_out(self._waiting.sessions)
                return (*(_dropped(chunk, "the deadline for closing has passed") for chunk in late), *self._next())
            case _:
                assert_never(event)

    def _offered(self, chunk: FinishedChunk) -> Steps:
        refused = self._refusal(chunk)
        if refused is not None:
            return (refused,)
        old = self._records.pop(chunk.session_id, None)
        steps: Steps = (Taken(),)
        if old is None:
            steps += self._make_room()
            old = _Record(lineage=chunk.lineage, number=chunk.number, form=chunk.form)
        elif not old.left and chunk.lineage == old.lineage and chunk.number > old.number + 1:
            steps += (_dropped(chunk, "not offered", number=old.number + 1, count=chunk.number - old.number - 1),)
        self._records[chunk.session_id] = replace(
            old, lineage=chunk.lineage, number=chunk.number, form=chunk.form, left=False
        )
        self._waiting.add(chunk)
        return (*steps, *self._next())

    def _refusal(self, chunk: FinishedChunk) -> Refused | None:
        if self._closing:
            return Refused(why="closing", reason="the encode thread is closing")
        record = self._records.get(chunk.session_id)
        unfit = refusal_of(chunk) or self._waiting.never_fits(chunk)
        if unfit is None and record is not None and record.lineage == chunk.lineage:
            unfit = refusal_of_pace(chunk.form, record.form)
        if unfit is not None:
            return Refused(why="unfit", reason=unfit)
        if record is not None and record.failure is not None:
            return Refused(why="failed", reason=record.failure)
        if record is not None and (chunk.lineage, chunk.number) <= (record.lineage, record.number):
            reason = f"chunk {record.number} of lineage {record.lineage} was taken before"
            return Refused(why="old", reason=reason)
        full = self._no_room(chunk, known=record is not None)
        return Refused(why="full", reason=full) if full is not None else None

    def _no_room(self, chunk: FinishedChunk, *, known: bool) -> str | None:
        if self._now is None:
            return None  # it begins at once
        encoders_max = self._limits.encoders_max
        if not known and len(self._records) >= encoders_max and self._spare() is None:
            return f"all encoders have work; encoders_max={encoders_max}"
        return self._waiting.no_room(chunk)

    def _spare(self) -> SessionId | None:
        """Who has waited longest for nothing, if anybody has nothing to encode."""
        busy = self._busy()
        return next((session_id for session_id in self._records if session_id not in busy), None)

    def _busy(self) -> set[SessionId]:
        return self._waiting.sessions | ({self._now.session_id} if self._now is not None else set())

    def _make_room(self) -> Steps:
        if len(self._records) < self._limits.encoders_max:
            return ()
        spare = self._spare()
        assert spare is not None, "a chunk was taken without room for its encoder"
        return self._forget(spare)

    def _key_frame_wanted(self, session_id: SessionId) -> Steps:
        record = self._records.get(session_id)
        if record is not None:
            self._records[session_id] = replace(record, key_wanted=True)
        return ()

    def _left(self, session_id: SessionId) -> Steps:
        record = self._records.get(session_id)
        if record is None:
            return ()
        if session_id in self._busy():
            self._records[session_id] = replace(record, left=True)
            return ()
        return self._forget(session_id)

    def _encoded(self) -> Steps:
        chunk = self._ended()
        return (*self._forget_if_gone(chunk.session_id), *self._next())

    def _failed(self, reason: str) -> Steps:
        """The session's own affair: its chunks are dropped, and everybody else goes on."""
        chunk = self._ended()
        session_id = chunk.session_id
        self._records[session_id] = replace(self._records[session_id], failure=reason, made=None)
        failed = SessionFailed(session_id=session_id, lineage=chunk.lineage, number=chunk.number, reason=reason)
        dropped = (chunk, *self._waiting.take_out([session_id]))
        return (
            LetGo(session_id=session_id),
            Tell(report=failed),
            *(_dropped(chunk, "the session's encoder has failed") for chunk in dropped),
            *self._forget_if_gone(session_id),
            *self._next(),
        )

    def _ended(self) -> FinishedChunk:
        chunk, self._now = self._now, None
        assert chunk is not None, "no chunk was in progress"
        return chunk

    def _forget_if_gone(self, session_id: SessionId) -> Steps:
        record = self._records[session_id]
        return self._forget(session_id) if record.left and session_id not in self._busy() else ()

    def _forget(self, session_id: SessionId) -> Steps:
        record = self._records.pop(session_id)
        return (LetGo(session_id=session_id),) if record.made is not None else ()

    def _next(self) -> Steps:
        """Begin the chunk that has waited longest, if none is in progress."""
        if self._now is not None:
            return ()
        if not self._waiting:
            return (Stop(),) if self._closing else ()
        chunk = self._now = self._waiting.pop()
        record = self._records[chunk.session_id]
        fresh = record.made is None or not record.made.is_before(chunk)
        key_frame = fresh or record.key_wanted or chunk.number - record.key_number >= self._limits.key_frame_chunks
        self._records[chunk.session_id] = replace(
            record,
            made=_Made(lineage=chunk.lineage, number=chunk.number, form=chunk.form),
            key_number=chunk.number if key_frame else record.key_number,
            key_wanted=record.key_wanted and not key_frame,
        )
        return (Encode(chunk=chunk, fresh=fresh, key_frame=key_frame),)


def _dropped(chunk: FinishedChunk, reason: str, *, number: int | None = None, count: int = 1) -> Tell:
    return Tell(
        report=Dropped(
            session_id=chunk.session_id,
            lineage=chunk.lineage,
            number=chunk.number if number is None else number,
            count=count,
            reason=reason,
        )
    )
