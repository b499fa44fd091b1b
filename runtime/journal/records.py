"""What a controller writes down before it does it.

Decides the fields of every record and their limits; must never know a file, a worker's answers or what a plan is for.
What is not decided by a controller is not here: live controls and chunk counters are in the heads that workers hold.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from runtime.worker.messages import Encoding

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Prompt = Annotated[str, Meta(max_length=4096)]
_Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]

RECORD_BYTES_MAX = 1 << 16


class Began(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A controller has taken over; whoever was there before can write nothing more."""

    controller_epoch: _Count


class Joined(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A worker is there, in this incarnation."""

    worker: _Name
    incarnation: _Count


class Left(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A worker is known to be gone, and every state on it with it."""

    worker: _Name
    incarnation: _Count
    reason: Annotated[str, Meta(max_length=1024)]
    stopped: bool = False  # as it was asked to: no session has brought that about


class Withheld(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """An operator wants this GPU to be empty and off, until it is given back."""

    worker: _Name


class GivenBack(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Plans may use the GPU again."""

    worker: _Name


class Created(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Somebody was promised a session."""

    session_id: _Name
    profile: _Name
    seed: _Count
    prompt: _Prompt
    token_sha256: _Digest  # of the capability that its client holds
    encoding: Encoding = "none"
    scale: Annotated[int, Meta(ge=1, le=64)] = 1  # of encoded pictures
    tenant: Annotated[str, Meta(max_length=256)] = ""


class Prompted(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """What the session shows from its next chunk on, and from the beginning if it has to start anew."""

    session_id: _Name
    prompt: _Prompt
    serial: _Count = 0  # of the session's prompts; they grow


class Ended(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Nobody wants the session any more."""

    session_id: _Name


class Placed(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A session without an owner begins on this worker, in a lineage of its own."""

    session_id: _Name
    worker: _Name


class Lost(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Its owner is there and has lost its state: it can only begin anew."""

    session_id: _Name


class Cleared(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """That its workers have ended is not held against it any more: another has served it for long enough."""

    session_id: _Name


class Prepared(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The owner is to hand a session over. Attempts are numbered in the order of their records."""

    session_id: _Name
    attempt: _Count
    target: _Name


class Committed(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The target owns the session from now on."""

    attempt: _Count


class Aborted(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The source goes on, as if nothing had been."""

    attempt: _Count


class Reactivated(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The target is gone before it served: the source owns the session again."""

    attempt: _Count


class Finished(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The target serves and the source has forgotten the session."""

    attempt: _Count


Record = (
    Began
    | Joined
    | Left
    | Withheld
    | GivenBack
    | Created
    | Prompted
    | Ended
    | Placed
    | Lost
    | Cleared
    | Prepared
    | Committed
    | Aborted
    | Reactivated
    | Finished
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def to_bytes(record: Record) -> bytes:
    """Its fields are as their types say; encoding alone would not check that."""
    body = _encoder.encode(record)
    assert len(body) <= RECORD_BYTES_MAX, f"a record of {len(body)} bytes"
    of_bytes(body)
    return body


def of_bytes(body: bytes) -> Record:
    """Raises `msgspec.ValidationError` or `msgspec.DecodeError` where it is no record."""
    record: Record = _decoder.decode(body)
    return record
