"""What controller and workers say to each other about the migration of one session.

Decides the fields and their limits; must never know how a state is copied or who is right.

Every message names its attempt. Attempt ids are never used again and grow, so that a message that comes late or twice
is recognised: it is answered with how things stand, and changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal, NewType

from msgspec import Meta, Struct

from scheduler.cluster import SessionId

AttemptId = NewType("AttemptId", int)
WorkerId = NewType("WorkerId", str)
Way = Literal["tcp", "gloo", "nccl", "cuda-ipc"]  # tcp works everywhere and is what the others fall back on
Side = Literal["source", "target"]

TOKEN_BYTES = 32
HEAD_BYTES_MAX = 1 << 20  # of what a chunk model wants to know beside the block

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Digest = Annotated[int, Meta(ge=0)]
_Token = Annotated[bytes, Meta(max_length=TOKEN_BYTES)]
_Seconds = Annotated[float, Meta(gt=0, le=3600)]
Reason = Annotated[str, Meta(max_length=1024)]
REASON_MAX = 1024
# What msgspec raises for bytes that are no message: its own errors, text that is no UTF-8, and nesting without an end.
UNREADABLE: tuple[type[Exception], ...] = (ValueError, RecursionError)


class Route(Struct, frozen=True, kw_only=True, array_like=True):
    """How two workers reach each other for one attempt."""

    way: Way
    peer: _Name  # the other worker
    incarnation: _Count  # of the pair: another one after each failure
    address: Annotated[str, Meta(max_length=256)] = ""  # host:port where the target listens; empty for pairs
    token: _Token = b""  # good for one connection to that address


class Prepare(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """To the target: make room for a state and wait for it."""

    session_id: _Name
    attempt: _Count
    state_bytes: Annotated[int, Meta(ge=1, lt=2**48)]
    route: Route
    active: bool  # what the user wants of the session
    deadline_s: _Seconds  # for the whole attempt, from now
    horizon: _Count  # attempts up to here are over, unless they are committed


class Start(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """To the source: send a session's state; it goes on serving while clean ranges are copied."""

    session_id: _Name
    attempt: _Count
    route: Route
    deadline_s: _Seconds
    precopy: bool = True  # False: freeze at once


class Activate(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """To the target, after the commit: serve the session from now on, in this ownership epoch."""

    session_id: _Name
    attempt: _Count
    ownership: _Count


class Release(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """To the source, after the target's word that it serves: forget the session."""

    session_id: _Name
    attempt: _Count


class Abort(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """To both sides, after the journal says so: the source serves on in the same ownership epoch."""

    session_id: _Name
    attempt: _Count


class Reactivate(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """To the source, after a commit whose target is known to be dead: serve again, in a new ownership epoch."""

    session_id: _Name
    attempt: _Count
    ownership: _Count


class Horizon(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """To a target: attempts up to this one are over, except those named; their staged copies may be dropped."""

    attempt: _Count
    open_attempts: Annotated[tuple[_Count, ...], Meta(max_length=4096)] = ()


Migrating = Prepare | Start | Activate | Release | Abort | Reactivate | Horizon


class Ready(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The target waits at this route; the source may start."""

    session_id: _Name
    attempt: _Count
    route: Route


class Nack(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The target cannot take the state; the source has noticed nothing."""

    session_id: _Name
    attempt: _Count
    reason: Reason


class Sent(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """All of a state has left the source, which is frozen."""

    session_id: _Name
    attempt: _Count
    digest: _Digest
    moved_bytes: _Count
    frozen_bytes: _Count  # of those, while the session stood still


class Staged(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The target holds a whole state whose checksum is right, and waits for the controller's word."""

    session_id: _Name
    attempt: _Count
    digest: _Digest


class AttemptFailed(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """One side cannot go on; a frozen source stays frozen until the journal has decided."""

    session_id: _Name
    attempt: _Count
    side: Side
    frozen: bool
    reason: Reason


class Activated(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The target serves."""

    session_id: _Name
    attempt: _Count
    ownership: _Count


class Released(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The source holds nothing of the session any more."""

    session_id: _Name
    attempt: _Count


class Aborted(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The attempt is over on this side: the source serves, or the target has forgotten it."""

    session_id: _Name
    attempt: _Count


class Reactivated(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The source serves again."""

    session_id: _Name
    attempt: _Count
    ownership: _Count


MigrationReport = Ready | Nack | Sent | Staged | AttemptFailed | Activated | Released | Aborted | Reactivated


def session_of(message: Prepare | Start | Activate | Release | Abort | Reactivate) -> SessionId:
    return SessionId(message.session_id)
