"""What is told to the table of encoders, and what it tells the encode thread to do.

Decides the words between decisions and the thread that carries them out; must never know how either works.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.encode.chunk import FinishedChunk
from scheduler.cluster import SessionId

Why = Literal["full", "unfit", "old", "failed", "closing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A chunk is finished."""

    chunk: FinishedChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFrameWanted:
    """A client of the session cannot go on without one: it came late, or chunks were dropped on the way to it."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The session is closed, or another worker has it. What it has finished here is still encoded."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkEncoded:
    """The chunk in progress is with the sink."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeFailed:
    """The chunk in progress could not be encoded."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """No more chunks are taken; those that wait are encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePassed:
    """No more chunks are encoded either."""


Event = Offered | KeyFrameWanted | Left | ChunkEncoded | EncodeFailed | Closing | DeadlinePassed


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Chunks that no client will get: `count` of them from `number` on."""

    session_id: SessionId
    lineage: int
    number: int
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFailed:
    """The session's encoder has failed; nothing of it is encoded any more until it has left."""

    session_id: SessionId
    lineage: int
    number: int
    reason: str


Report = Dropped | SessionFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The offered chunk waits for its turn, or begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The offered chunk is still its owner's. Only "full" passes by itself: offer it again, and generate less."""

    why: Why
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode:
    """Encode this chunk now; `fresh`: with a new encoder, in place of the session's old one if it has one."""

    chunk: FinishedChunk
    fresh: bool
    key_frame: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """The session's encoder is not needed any more."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Somebody has to know this."""

    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Nothing is left to do, and nothing will come."""


Action = Taken | Refused | Encode | LetGo | Tell | Stop
