"""The lines of an event log, `epochal.events/1`: JSON, one object a line, each with `t_s` and `kind`.

Decides the closed union of events and the limits of their fields; must never know who writes or reads them. No line
holds what a client wrote (prompts, controls, tenants), a token, a path or an address.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from scheduler.cluster import GpuStatus, MoveKind

EVENTS_FORMAT: Literal["epochal.events/1"] = "epochal.events/1"
LINE_BYTES_MAX = 16 << 20  # a controller that begins names all its sessions in one line
TEXT_CHARACTERS_MAX = 256

_Time = Annotated[float, Meta(ge=0, le=1e9)]  # seconds since the controller has begun, in whole microseconds
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Line(Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    t_s: _Time


class Began(_Line, frozen=True, kw_only=True, tag="began"):
    """A controller begins. Where the one before it has not ended, it goes on with the same run."""

    format: Literal["epochal.events/1"]
    version: _Text  # of the program
    controller_epoch: _Count
    started_unix_s: Annotated[float, Meta(ge=0, le=1e11)]  # the wall clock at t_s=0, and nowhere else
    fleet: dict[str, Any]  # as in a fleet file, defaults filled in
    planner: dict[str, Any]  # `PlannerSettings`
    workers: tuple[_Name, ...]  # that are written down in the journal
    sessions: dict[_Name, _Name]  # as well; their profiles


class SessionCreated(_Line, frozen=True, kw_only=True, tag="session_created"):
    """It is promised, and wants chunks."""

    session_id: _Name
    profile: _Name


class SessionWanted(_Line, frozen=True, kw_only=True, tag="session_wanted"):
    """Whether its client wants chunks from now on."""

    session_id: _Name
    active: bool


class SessionPrompted(_Line, frozen=True, kw_only=True, tag="session_prompted"):
    """Its client has sent another prompt; what it says is not told."""

    session_id: _Name
    serial: _Count


class SessionControlled(_Line, frozen=True, kw_only=True, tag="session_controlled"):
    """Its client has sent live controls since this was told last, a second ago or more; which ones is not told."""

    session_id: _Name
    controls: _Count


class SessionRestarted(_Line, frozen=True, kw_only=True, tag="session_restarted"):
    """Its state was lost: a new lineage begins, which its client sees as a discontinuity."""

    session_id: _Name
    lineage: _Count


class SessionEnded(_Line, frozen=True, kw_only=True, tag="session_ended"):
    session_id: _Name


class MoveBegan(_Line, frozen=True, kw_only=True, tag="move_began"):
    session_id: _Name
    move: MoveKind
    source: _Name | None  # None: host memory, or no state yet
    target: _Name | None  # None: host memory
    reason: _Text  # of the plan
    state_bytes: _Count  # that travel; 0 for a place


class MoveEnded(_Line, frozen=True, kw_only=True, tag="move_ended"):
    session_id: _Name
    move: MoveKind
    seconds: _Seconds


class MoveFailed(_Line, frozen=True, kw_only=True, tag="move_failed"):
    """The state is where it was, or is lost, or the session has ended."""

    session_id: _Name
    move: MoveKind
    seconds: _Seconds


class GpuChanged(_Line, frozen=True, kw_only=True, tag="gpu_changed"):
    """`starting` and `off` are when it was switched."""

    gpu_id: _Name
    status: GpuStatus


class WorkerJoined(_Line, frozen=True, kw_only=True, tag="worker_joined"):
    worker: _Name
    incarnation: _Count


class WorkerLeft(_Line, frozen=True, kw_only=True, tag="worker_left"):
    """With all that it held."""

    worker: _Name
    incarnation: _Count


class PlanMade(_Line, frozen=True, kw_only=True, tag="plan_made"):
    version: _Count
    solver: _Text
    end_reason: _Text
    gap: Annotated[float, Meta(ge=0)] | None  # of the headline tier; None: nothing proved a bound
    moves: _Count
    solve_s: _Seconds  # in all stages of the search
    fallback: _Text | None  # None: nothing went wrong


class RoundsMeasured(_Line, frozen=True, kw_only=True, tag="rounds_measured"):
    """Batch rounds of one content on one GPU in the control epoch that ends now."""

    gpu_id: _Name
    content: dict[_Name, _Count]  # sessions by profile
    rounds: _Seconds  # of their passes, as a share of those that a chunk takes
    seconds: _Seconds  # that they took


class ChunksMeasured(_Line, frozen=True, kw_only=True, tag="chunks_measured"):
    """Chunks of one profile on one GPU in that epoch, each from its first pass on until it was computed."""

    gpu_id: _Name
    profile: _Name
    batch: _Count  # sessions in the pass in which they ended
    chunks: _Count
    late: _Count  # longer than the profile's target
    seconds: _Seconds
    seconds_max: _Seconds


class RecordingEnded(_Line, frozen=True, kw_only=True, tag="recording_ended"):
    """Nothing more is written down: the controller was stopped, or only the recording has ended."""

    reason: Literal["stopped", "too large", "too slow"]


OfSession = (
    SessionWanted
    | SessionPrompted
    | SessionControlled
    | SessionRestarted
    | SessionEnded
    | MoveBegan
    | MoveEnded
    | MoveFailed
)
OfGpu = GpuChanged | RoundsMeasured | ChunksMeasured
Event = Began | SessionCreated | OfSession | OfGpu | WorkerJoined | WorkerLeft | PlanMade | RecordingEnded

_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def to_line(event: Event) -> bytes:
    return _ENCODER.encode(event) + b"\n"


def of_line(line: bytes) -> Event:
    """Raises `msgspec.DecodeError`, or `msgspec.ValidationError` with the field, and `UnicodeDecodeError`."""
    return _DECODER.decode(line)
