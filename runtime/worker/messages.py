"""What a worker hears from its controller about sessions, and what it tells controller and gateway of them.

Decides the fields, their limits and the fence around every command; must never know how a command is carried out.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime.transfer.messages import Migrating, MigrationReport, Reason

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


Encoding = Literal["none", "h264", "mjpeg"]  # none: frames as they are


class Text(Struct, frozen=True, kw_only=True, array_like=True):
    """What a session is to show, and how its chunks are delivered. What does not fit the ChunkModel is refused."""

    profile: _Name
    seed: _Count
    prompt: Annotated[str, Meta(max_length=4096)]
    control: Annotated[str, Meta(max_length=64)] = ""
    lineage: _Count = 0
    encoding: Encoding = "none"
    scale: Annotated[int, Meta(ge=1, le=64)] = 1  # of encoded pictures: each pixel a square of so many


class Open(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A new session, without a state yet."""

    session_id: _Name
    state_bytes: Annotated[int, Meta(ge=1, lt=2**48)]
    ownership: _Count
    text: Text | None = None  # whoever computes needs it; whoever only keeps books does not


class Demand(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Whether the user wants chunks."""

    session_id: _Name
    active: bool


class Suspend(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The state goes to host memory."""

    session_id: _Name


class Resume(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The state comes back to the device."""

    session_id: _Name


class Close(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Nobody wants the session any more."""

    session_id: _Name


Desired = Open | Demand | Suspend | Resume | Close


class Command(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """One thing that a worker is told.

    Older controllers and other incarnations of the worker are not listened to. What is desired comes from plans, whose
    versions grow, and an older one is ignored; what migrates is fenced by its attempt.
    """

    controller_epoch: _Count
    incarnation: _Count  # of the worker that is meant
    version: _Count  # of the plan that it comes from
    body: Desired | Migrating


class Moved(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A session is in this state now; also the answer to a command that comes twice."""

    session_id: _Name
    state: str
    ownership: _Count


class Refused(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A command that has no effect, and why."""

    session_id: _Name
    reason: Reason


class Closed(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The worker holds nothing of the session."""

    session_id: _Name


class Lost(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The state is gone; the session can only begin anew."""

    session_id: _Name
    reason: Reason


class Frozen(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Said before `Sent`: the state that leaves is that before this chunk, and the source delivers all earlier ones."""

    session_id: _Name
    attempt: _Count
    chunk_number: _Count


class Steered(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Changes of prompt and control up to this serial are part of the session from now on, wherever it goes."""

    session_id: _Name
    lineage: _Count
    serial: _Count
    asker: _Count = 0  # of the `Steer` that this answers


class Unsteered(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A change that has no effect, and why. Its serial is free for another.

    `prompt` and `control` are those that were asked for: what is said twice is not taken for a word about the other.
    """

    session_id: _Name
    lineage: _Count
    serial: _Count
    reason: Reason
    prompt: Annotated[str, Meta(max_length=4096)] | None = None
    control: Annotated[str, Meta(max_length=64)] | None = None


class Uncredited(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The answer to a `Credit` that does not reach the session's next chunk, this one; no earlier one will come now."""

    session_id: _Name
    lineage: _Count
    chunk_number: _Count


class Undelivered(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Chunks that were computed and that nobody will get: `count` of them from `number` on."""

    session_id: _Name
    lineage: _Count
    number: _Count
    count: _Count
    reason: Reason


Report = Moved | Refused | Closed | Lost | Frozen | Undelivered | MigrationReport
StreamReport = Steered | Unsteered | Uncredited | Undelivered  # what whoever has the client must know
