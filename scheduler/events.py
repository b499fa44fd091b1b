"""What can happen to a fleet: a closed union of events, each a fact that somebody observed.

Decides what may be told about sessions, GPUs, moves and epochs; must never know what follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.cluster import GpuId, MoveKind, SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened:
    """A session begins; it wants chunks at once and has no state yet."""

    session_id: SessionId
    profile: str
    tenant: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionActivated:
    """A session that was idle or suspended wants chunks again."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionIdled:
    """A session wants no chunk for now; its state stays where it is."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed:
    """A session ends for good; its state and its move, if any, are gone."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackMeasured:
    """How long until the next chunk of each of these sessions is due."""

    slack_ms: Mapping[SessionId, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuStarting:
    """A GPU was switched on and will be usable at `ready_s`."""

    gpu_id: GpuId
    ready_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReady:
    """A GPU is usable: it started up, or is no longer to be emptied."""

    gpu_id: GpuId


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDraining:
    """A GPU is to be emptied; it receives nobody from now on."""

    gpu_id: GpuId


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLost:
    """A GPU is gone without notice, and the states on it with it."""

    gpu_id: GpuId


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuStopped:
    """A GPU was switched off; whatever was still on it is gone."""

    gpu_id: GpuId


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveStarted:
    """A transfer begins; both sides hold the state from now on."""

    session_id: SessionId
    kind: MoveKind
    source: GpuId | None
    target: GpuId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveEnded:
    """The state has arrived, and the source holds it no longer."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveFailed:
    """A transfer came to nothing; the state is where it was."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnded:
    """One control interval is over; its most active sessions become history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanIssued:
    """A plan was sent out; the next one has a higher version if it says anything else."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleInWanted:
    """Fewer GPUs of a type would do from now on, or (not `wanted`) they no longer would."""

    gpu_type: str
    wanted: bool


SessionEvent = SessionOpened | SessionActivated | SessionIdled | SessionClosed | SlackMeasured
GpuEvent = GpuStarting | GpuReady | GpuDraining | GpuLost | GpuStopped
MoveEvent = MoveStarted | MoveEnded | MoveFailed
EpochEvent = EpochEnded | PlanIssued | ScaleInWanted
Event = SessionEvent | GpuEvent | MoveEvent | EpochEvent
