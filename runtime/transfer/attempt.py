"""What happens to one attempt to migrate a session, and what is to be done about it.

Decides the words between the two state machines and the threads that copy; must never know a socket or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.state.blocks import Block
from runtime.state.ranges import Ranges
from runtime.transfer.messages import AttemptId, MigrationReport, Route
from scheduler.cluster import SessionId

LANES_MAX = 4  # transfers that may touch one worker's blocks at once


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSent:
    """A lane has sent one round; the last one carries the checksum of the whole state."""

    attempt: AttemptId
    number: int
    digest: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A lane waits for the source at this route."""

    attempt: AttemptId
    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A lane has received a whole state, and its checksum is right."""

    attempt: AttemptId
    digest: int
    head: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFailed:
    """Peer lost, too late, wrong checksum, malformed: the lane gives up."""

    attempt: AttemptId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneEnded:
    """Nothing reads or writes the attempt's block any more. The last event of every lane."""

    attempt: AttemptId


LaneEvent = RoundSent | Listening | Arrived | LaneFailed | LaneEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSending:
    """Connect to the target and wait for rounds."""

    attempt: AttemptId
    session_id: SessionId
    block: Block
    route: Route
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRound:
    """Send ranges of the block; the last round also takes the session's head and the checksum along."""

    attempt: AttemptId
    number: int
    ranges: Ranges
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenReceiving:
    """Wait for the source, and write what it sends into the block."""

    attempt: AttemptId
    session_id: SessionId
    block: Block
    route: Route
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StopLane:
    """Give up soon; `LaneEnded` tells when."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """A message to the controller."""

    report: MigrationReport


LaneAction = OpenSending | SendRound | OpenReceiving | StopLane
