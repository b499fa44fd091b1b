"""The fleet as it is now: GPUs, sessions, moves in flight, and the recent past that decisions rest on.

Decides what a snapshot is and which are consistent; must never know where events come from, or what is planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType

SessionId = NewType("SessionId", str)
GpuId = NewType("GpuId", str)
NodeId = NewType("NodeId", str)  # "<pool index>/<node index>"

GpuStatus = Literal["off", "starting", "ready", "draining", "lost"]
SessionStatus = Literal["active", "idle", "suspended", "waiting"]
MoveKind = Literal["place", "resume", "migrate", "offload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One physical GPU of the fleet, on or off."""

    gpu_id: GpuId
    gpu_type: str
    node: NodeId
    status: GpuStatus
    since_s: float  # when this status began
    ready_s: float | None = None  # starting: when it will be usable


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session and where its state is.

    active: on `gpu`, takes part in its rounds. idle: wants no chunk, state on `gpu`. suspended: idle, state in the host
    memory of `node`. waiting: wants chunks and is on no GPU; `node` is where its state is, None if it has none yet.
    """

    session_id: SessionId
    profile: str
    status: SessionStatus
    since_s: float  # when this status began
    tenant: str = ""
    priority: int = 0
    gpu: GpuId | None = None  # active, idle
    node: NodeId | None = None  # suspended, waiting with a state
    slack_ms: float | None = None  # until the next chunk is due; None: not known
    moved_s: float | None = None  # when its last move ended; None: it never moved


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveInFlight:
    """A transfer that has begun; both sides hold the state until it ends."""

    session_id: SessionId
    kind: MoveKind
    source: GpuId | None  # None: host memory, or no state yet
    target: GpuId | None  # None: host memory
    started_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """A migration that is over, whatever became of it."""

    source: GpuId
    target: GpuId
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the forecast and the residency rules remember, all bounded.

    `active_max` [profile] holds the most active sessions (waiting ones included) in each past epoch, oldest first.
    `idle_s` [profile] holds the lengths of recent idle times that ended in a return, `gone` how many ended for good.
    """

    epoch_s: float
    active_max: Mapping[str, tuple[int, ...]]
    idle_s: Mapping[str, tuple[float, ...]]
    gone: Mapping[str, int]
    scale_in_wanted_since_s: Mapping[str, float]  # GPU type -> since when fewer GPUs would do
    active_max_now: Mapping[str, int] = field(
        default_factory=dict
    )  # [profile]: as `active_max`, of the epoch under way
    migrated_now: tuple[Migrated, ...] = ()  # migrations that ended in the epoch under way: they used up its budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that a decision may rest on, apart from the time."""

    gpus: Mapping[GpuId, Gpu]
    sessions: Mapping[SessionId, Session]
    moves: Mapping[SessionId, MoveInFlight]
    history: History
    version: int = 0  # of the last plan
