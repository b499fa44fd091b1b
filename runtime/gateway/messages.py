"""What a gateway and the controller say to each other: version 1.

Decides the closed union of each direction and its limits; must never know a socket, a client's connection or a plan.
Every message is one frame of msgpack. All may be lost, doubled or late: what is wanted is said until it is answered,
and what is answered is absolute.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from runtime.worker.messages import Text

PROTOCOL = 1
FRAME_BYTES_MAX = 1 << 20
CONTROLLED_MAX = 1024  # sessions in one message

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Seconds = Annotated[float, Meta(ge=0)]
_Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Reason = Annotated[str, Meta(max_length=1024)]

Where = Literal["waiting", "active", "idle", "suspended"]  # as the planner has it
Refusal = Literal["full", "unusable", "not now"]  # 429, 400, 503
Mode = Literal["execute", "approve", "advise"]  # what becomes of plans: carried out, proposed first, or only shown
About = Literal["plan", "explain", "approve", "reject", "gpus", "drain", "give back"]


class Here(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The gateway lives. Whenever `since` has grown, it is told all that it has to know.

    It grows with every start, and when the connection has begun anew: what was on its way may be lost.
    """

    gateway: _Name
    since: _Count
    protocol: _Count
    sent_s: _Seconds


class Create(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Somebody wants a session, which is chosen a name that nobody had before. Said until it is answered."""

    session_id: _Name
    tenant: Annotated[str, Meta(max_length=256)]
    text: Text  # its prompt is that of the beginning; its lineage is not the gateway's to say
    token_sha256: _Digest


class Want(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Whether the client wants chunks now. Said until `Serving` says the same.

    Answered with `Serving` (or `Ended`) even where nothing changes: it is also asked when chunks do not come.
    """

    session_id: _Name
    active: bool


class Prompt(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """What a session that begins anew is to show; said before a worker is steered to it, until `Prompted`."""

    session_id: _Name
    serial: _Count  # 1, 2, 3, ... of the session's prompts, whatever the lineage; a lower one is of the past
    prompt: Annotated[str, Meta(max_length=4096)]


class End(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Nobody wants the session any more. Said until `Ended`."""

    session_id: _Name


class Taken(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """All chunks of this lineage below that number have come: the answer to `AwaitTaken`, as soon as it is so."""

    session_id: _Name
    lineage: _Count
    up_to: _Count


class Controlled(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Clients have steered: how many live controls of each session were taken since this was said last. For the record.

    Said once a second at most; what is lost is told no more.
    """

    counts: Annotated[tuple[tuple[_Name, _Count], ...], Meta(max_length=CONTROLLED_MAX)]


class Ask(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Something that an operator wants to know, or to be done with a plan or a GPU. Said until it is answered."""

    question: _Count
    about: About
    version: _Count | None = None  # of which plan; None: the newest
    session_id: _Name | None = None
    gpu_id: _Name | None = None


FromGateway = Here | Create | Want | Prompt | End | Taken | Controlled | Ask


class Status(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The controller lives, and this is how it is. Said every half second."""

    controller_epoch: _Count
    sent_s: _Seconds
    ready: bool  # it has heard of every worker that it knows
    accepts: bool  # new sessions
    retry_after_s: _Seconds  # if it does not accept any
    counts: dict[str, float]  # metric name with labels, as Prometheus has them -> value; at most COUNTS_MAX
    told: _Count = 0  # `since` of the last `Here` after which every session has been said, all of them before this
    mode: Mode = "execute"
    proposal: _Count | None = None  # version of the plan that waits for an operator


class Created(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The session is promised: it is there until it ends, whatever happens."""

    session_id: _Name
    position: _Count  # how many wait before it; 0: it is next, or has a place


class Refused(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """There is no such session, and will not be."""

    session_id: _Name
    refusal: Refusal
    reason: _Reason
    retry_after_s: _Seconds = 0.0


class Serving(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Where a session is. Said when that changes, as an answer to `Want`, and for every session when `since` grows.

    A higher ownership is newer; with the same one, the later message. Chunks of a lower ownership are of the past.
    """

    controller_epoch: _Count
    session_id: _Name
    where: Where
    ownership: _Count
    lineage: _Count
    worker: Annotated[str, Meta(max_length=256)] = ""  # who owns it; empty: nobody
    incarnation: _Count = 0
    position: _Count = 0  # waiting: how many wait before it
    token_sha256: _Digest
    text: Text  # as it was created, with the newest prompt
    prompt_serial: _Count = 0  # of that prompt, as in `Prompt`
    chunk_number: _Count = 0  # of the lineage's next chunk, as far as its owner's heartbeats have told; never more


class Prompted(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The prompt is written down."""

    session_id: _Name
    serial: _Count


class Ended(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The session is no more; also the answer about one that never was."""

    session_id: _Name
    reason: _Reason


class AwaitTaken(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Say so when all chunks of this lineage below that number have come. Said until `Taken`."""

    session_id: _Name
    lineage: _Count
    up_to: _Count


class Answer(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """What was asked for, as JSON; None: there is no such thing, or it is refused for that reason."""

    question: _Count
    body: bytes | None
    refused: _Reason = ""


COUNTS_MAX = 512
ToGateway = Status | Created | Refused | Serving | Prompted | Ended | AwaitTaken | Answer

_ENCODER = msgspec.msgpack.Encoder()
_FROM_GATEWAY: msgspec.msgpack.Decoder[FromGateway] = msgspec.msgpack.Decoder(FromGateway)
_TO_GATEWAY: msgspec.msgpack.Decoder[ToGateway] = msgspec.msgpack.Decoder(ToGateway)


def encoded(message: FromGateway | ToGateway) -> bytes:
    return _ENCODER.encode(message)


def from_gateway(frame: bytes) -> FromGateway:
    """Raises one of `UNREADABLE` (`runtime.transfer.messages`) where it is none."""
    return _FROM_GATEWAY.decode(frame)


def to_gateway(frame: bytes) -> ToGateway:
    """As `from_gateway`."""
    return _TO_GATEWAY.decode(frame)
