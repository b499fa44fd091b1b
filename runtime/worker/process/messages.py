"""What a worker process says to its controller and to the gateway, and what each of them says to it: version 1.

Decides the closed union of each direction and its limits; must never know a socket, nor what follows from a message.
Every message is one frame of msgpack. All may be lost, doubled or late: what they say is absolute (a chunk number, a
serial, an epoch), never a difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from runtime.state.blocks import Room
from runtime.transfer.messages import UNREADABLE
from runtime.worker.messages import Command, Encoding, Report, StreamReport

PROTOCOL = 1
MESSAGE_BYTES_MAX = 1 << 18  # to a worker: a longer one is counted and dropped
FRAME_BYTES_MAX = 1 << 20  # and of an even longer one the socket does not take a byte: it closes the connection
CONTENTS_TOLD_MAX = 32  # of passes, in one heartbeat
CHUNKS_TOLD_MAX = 256  # in one heartbeat

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Seconds = Annotated[float, Meta(ge=0)]  # of the worker's own clock


class Steer(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """From this chunk on (or the next that begins, if that is later) the session shows this; `None` leaves it as it is.

    A session's serials are 1, 2, 3, ... and one that is not the next has no effect. Repeat it to whoever serves the
    session until `Steered` or `Unsteered` says what became of it, one change of a session after the other; and after
    a `Reactivate`, whatever the lost target had answered.
    """

    controller_epoch: _Count
    incarnation: _Count
    session_id: _Name
    lineage: _Count  # of another one it has no effect: its chunks, changes and credit are others
    serial: _Count
    from_chunk: _Count = 0
    prompt: Annotated[str, Meta(max_length=4096)] | None = None
    control: Annotated[str, Meta(max_length=64)] | None = None
    asker: _Count = 0  # whose serial it is; `Steered` names it, so that nobody takes an answer to another for its own


class Credit(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The session's client takes chunks with numbers below this; no others are computed. Only the highest counts."""

    controller_epoch: _Count
    incarnation: _Count
    session_id: _Name
    lineage: _Count  # as in `Steer`
    up_to: _Count


class WantKeyFrame(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The session's client cannot go on without one."""

    controller_epoch: _Count
    incarnation: _Count
    session_id: _Name


class Renew(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The worker serves this controller. Its lease runs from `sent_s`, which it has said itself in its last message."""

    controller_epoch: _Count
    incarnation: _Count
    sent_s: _Seconds


class AskInventory(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Say all that is there. Commands up to `version` that come behind it are of the past."""

    controller_epoch: _Count
    incarnation: _Count
    question: _Count
    version: _Count = 0


FromController = Command | Renew | AskInventory
FromGateway = Steer | Credit | WantKeyFrame


class ProfileRoom(Struct, frozen=True, kw_only=True, array_like=True):
    """A profile that the worker's ChunkModel has."""

    name: str
    state_bytes: int
    chunk_s: float
    sessions_max: int  # that its device memory holds, of this profile alone


class Hello(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Said once, when an incarnation begins."""

    protocol: int
    worker: str
    incarnation: int
    revision: str  # of the ChunkModel: states travel between workers of the same
    profiles: tuple[ProfileRoom, ...]
    device_bytes: int
    host_bytes: int
    coalesce_max: int
    ways: tuple[str, ...]
    sent_s: float


class RoundsOf(Struct, frozen=True, kw_only=True, array_like=True):
    """Passes in which these sessions were computed together."""

    content: Annotated[tuple[tuple[_Name, _Count], ...], Meta(max_length=256)]  # sessions by profile, by name
    rounds: float  # passes, as a share of those that a chunk takes
    seconds: float  # that they took


class ChunksOf(Struct, frozen=True, kw_only=True, array_like=True):
    """Chunks that were computed."""

    profile: _Name
    batch: _Count  # sessions in the pass in which they ended
    seconds: Annotated[tuple[float, ...], Meta(max_length=CHUNKS_TOLD_MAX)]  # of each, from its first pass on


class Computed(Struct, frozen=True, kw_only=True, array_like=True):
    """How long computing took since the last heartbeat; what is lost with one is told no more."""

    rounds: Annotated[tuple[RoundsOf, ...], Meta(max_length=CONTENTS_TOLD_MAX)] = ()
    chunks: Annotated[tuple[ChunksOf, ...], Meta(max_length=CHUNKS_TOLD_MAX)] = ()


class Heartbeat(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The process lives. That it computes is proven by `turn` and the chunk numbers, which the compute thread moves."""

    worker: str
    incarnation: int
    controller_epoch: int  # the newest that has spoken
    sent_s: float
    turn: int
    turn_age_s: float  # since the compute thread has begun its last turn
    leased: bool
    dropped: int  # messages that were malformed or too long
    chunks: tuple[tuple[str, int], ...]  # session, number of its next chunk
    computed: Computed = Computed()  # the one part that is no absolute: whoever adds up counts each `sent_s` once


class Said(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """What became of a session, to the controller."""

    worker: str
    incarnation: int
    controller_epoch: int
    report: Report


class Held(Struct, frozen=True, kw_only=True, array_like=True):
    """One session of an inventory."""

    session_id: str
    state: str
    state_bytes: int
    ownership: int
    active: bool
    attempt: int | None  # that is open here
    lineage: int = 0
    chunk_number: int | None = None  # of its next chunk; None while the state is still arriving
    serial: int = 0  # of the last change that is part of it
    profile: str = ""


class Memory(Struct, frozen=True, kw_only=True, array_like=True):
    """Bytes of one memory."""

    used: int
    reserved: int
    draining: int
    free: int
    largest_free: int

    @classmethod
    def of(cls, room: Room) -> Memory:
        return cls(
            used=room.used,
            reserved=room.reserved,
            draining=room.draining,
            free=room.free,
            largest_free=room.largest_free,
        )


class Inventory(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The answer to `AskInventory`: all that a controller that has just begun has to know."""

    question: int
    controller_epoch: int
    hello: Hello
    leased: bool
    lanes: int
    device: Memory
    host: Memory
    sessions: tuple[Held, ...]


class Goodbye(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The last message: the process ends, and all that it holds with it."""

    worker: str
    incarnation: int
    reason: str
    failed: bool = False  # it was not asked to end


FromWorker = Hello | Heartbeat | Said | Inventory | Goodbye  # what a controller hears


class Told(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """What became of a change or of chunks, to the gateway; in one order with the chunks."""

    worker: str
    incarnation: int
    controller_epoch: int
    report: StreamReport


class Delivered(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A chunk, to the gateway. It is taken once, in order, and never from a lower ownership epoch."""

    worker: str
    incarnation: int
    controller_epoch: int
    session_id: str
    ownership: int
    lineage: int
    number: int
    encoding: Encoding
    body: bytes
    init: bytes | None = None
    key_frame: bool = True
    shape: tuple[int, ...] = ()  # of raw frames: [frames, height, width, 3]


ToGateway = Delivered | Told

_ENCODER = msgspec.msgpack.Encoder()
_FROM_CONTROLLER: msgspec.msgpack.Decoder[FromController] = msgspec.msgpack.Decoder(FromController)
_FROM_GATEWAY: msgspec.msgpack.Decoder[FromGateway] = msgspec.msgpack.Decoder(FromGateway)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_TO_GATEWAY: msgspec.msgpack.Decoder[ToGateway] = msgspec.msgpack.Decoder(ToGateway)

Kind = TypeVar("Kind")


def encoded(message: FromController | FromGateway | FromWorker | ToGateway) -> bytes:
    return _ENCODER.encode(message)


def from_controller(frames: Iterable[bytes]) -> FromController | None:
    """What a controller has sent to a worker; None if it is not one frame of what a controller says."""
    return _one(_FROM_CONTROLLER, frames)


def from_gateway(frames: Iterable[bytes]) -> FromGateway | None:
    """What the gateway has sent to a worker; None if it is not one frame of what a gateway says."""
    return _one(_FROM_GATEWAY, frames)


def from_worker(frame: bytes) -> FromWorker:
    """What a worker has sent to the controller. Raises one of `UNREADABLE`."""
    return _FROM_WORKER.decode(frame)


def to_gateway(frame: bytes) -> ToGateway:
    """What a worker has sent to the gateway. Raises one of `UNREADABLE`."""
    return _TO_GATEWAY.decode(frame)


def _one(decoder: msgspec.msgpack.Decoder[Kind], frames: Iterable[bytes]) -> Kind | None:
    first, *others = frames
    if others or len(first) > MESSAGE_BYTES_MAX:
        return None
    try:
        return decoder.decode(first)
    except UNREADABLE:
        return None
