"""What a worker's threads tell the table of sessions, and what it tells them to do.

Decides the words between decisions and the threads that carry them out; must never know how either works.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.state.blocks import Block
from runtime.state.ranges import Ranges
from runtime.transfer.attempt import LaneAction, LaneEvent
from runtime.worker.messages import Report
from scheduler.cluster import SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReady:
    """The chunk model has prepared a new session's state."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkEnded:
    """A chunk of the session is computed, on the device too, and these ranges of its block were written."""

    session_id: SessionId
    dirty: Ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyEnded:
    """A copy between device and host memory touches neither block any more."""

    copy_id: int
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateLost:
    """The device has failed in a way that cost this session its state."""

    session_id: SessionId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Some time has gone by."""


Event = SlotReady | ChunkEnded | CopyEnded | StateLost | Ticked | LaneEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSlot:
    """Let the chunk model prepare a new session's state in this block."""

    session_id: SessionId
    block: Block


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyState:
    """Copy a state between the device (one block) and the host (the other)."""

    copy_id: int
    session_id: SessionId
    device: Block
    host: Block
    to_host: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Let the chunk model take over a state that has arrived in this block."""

    session_id: SessionId
    block: Block
    head: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """The chunk model need not know the session any more."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """A message to the controller."""

    report: Report


Action = OpenSlot | CopyState | Adopt | Forget | Say | LaneAction
