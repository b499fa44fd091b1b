"""What a gateway tells a client, as values.

Decides which fields are read, and their limits; must never know a connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from runtime.client.errors import Fault
from runtime.gateway.limits import SEQ_MAX

Where = Literal["waiting", "active", "idle", "suspended"]
_Seq = Annotated[int, Meta(ge=0, le=SEQ_MAX)]
_Count = Annotated[int, Meta(ge=0, le=2**31)]
_Word = Annotated[str, Meta(max_length=256)]
_Long = Annotated[str, Meta(max_length=8192)]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class Ticket(Struct, frozen=True, kw_only=True):
    """A session that is promised. Whoever has its token may watch, steer and end it: it is shown nowhere."""

    session_id: Annotated[str, Meta(min_length=1, max_length=256)]
    token: Annotated[str, Meta(min_length=1, max_length=256)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(session_id={self.session_id!r})"


class Created(Ticket, frozen=True, kw_only=True):
    """`position`: how many sessions wait before this one."""

    state: Where
    position: _Count
    seed: _Seq


class SessionInfo(Struct, frozen=True, kw_only=True):
    """Where a session is. A client can resume from `first_seq`; `next_seq` is the next chunk that comes."""

    session_id: _Word
    state: Where
    position: _Count
    profile: _Word
    prompt: _Long
    encoding: _Word
    attached: bool
    first_seq: _Seq
    next_seq: _Seq


class Started(Struct, frozen=True, kw_only=True, tag_field="type", tag="session.started"):
    """The stream begins with `from_seq`; at most `ahead` chunks come that have not been acknowledged."""

    from_seq: _Seq
    ahead: Annotated[int, Meta(ge=1, le=4096)]


class State(Struct, frozen=True, kw_only=True, tag_field="type", tag="session.state"):
    """Where the session is now; `position`: how many wait before it."""

    state: Where
    position: _Count


class Updated(Struct, frozen=True, kw_only=True, tag_field="type", tag="session.updated"):
    """The change is part of the session: chunks that begin from now on show it."""

    prompt: _Long | None = None
    control: _Word | None = None


class Picture(Struct, frozen=True, kw_only=True, tag_field="type", tag="video.start"):
    """What the video is from the chunk `seq` on; None: the chunk does not say."""

    seq: _Seq
    codec: _Word
    mime: _Word
    width: _Count | None = None
    height: _Count | None = None
    frames: _Count | None = None  # of one chunk
    fps: _Seconds | None = None

    @property
    def play_s(self) -> float | None:
        """How long a chunk plays."""
        return self.frames / self.fps if self.frames and self.fps else None


class Done(Struct, frozen=True, kw_only=True, tag_field="type", tag="session.done"):
    """The session is no more."""

    reason: _Long


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """Every answer over HTTP that is no success."""

    error: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A chunk of video. A decoder reads `init`, where there is one, and then `body`, as docs/encoding.md tells."""

    seq: int  # 0, 1, 2, ..., over all lineages
    lineage: int
    discontinuity: bool  # a lineage begins: what was shown before does not go on
    gap: bool  # chunks before it may be missing
    key_frame: bool  # it can be decoded without those before it
    init: bytes
    body: bytes
    picture: Picture

    @property
    def play_s(self) -> float | None:
        """None where the chunk does not say (raw frames)."""
        return self.picture.play_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The connection is gone, and is opened again after `pause_s`."""

    fault: Fault
    pause_s: float


Message = Started | State | Updated | Picture | Done | Fault
Event = Chunk | Started | State | Updated | Done | Fault | Lost

_MESSAGE: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def message_of(text: str) -> Message:
    """Raises `msgspec.DecodeError` and `UnicodeEncodeError`."""
    return _MESSAGE.decode(text)
