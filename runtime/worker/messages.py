"""What controller and worker say to each other about the sessions on a worker.

Decides the fields, their limits and the fence around every command; must never know how a command is carried out.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from runtime.transfer.messages import Migrating, MigrationReport, Reason

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Open(Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """A new session, without a state yet."""

    session_id: _Name
    state_bytes: Annotated[int, Meta(ge=1, lt=2**48)]
    ownership: _Count


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


class Command(Struct, frozen=True, kw_only=True, array_like=True):
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


Report = Moved | Refused | Closed | Lost | MigrationReport
