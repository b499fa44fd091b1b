"""A plan: the complete desired state of the fleet for one control epoch, and the moves that lead there.

Decides what a plan says; must never know how it was found or how it is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from scheduler.cluster import GpuId, MoveKind, NodeId, SessionId
from scheduler.events import EpochEvent, PlanIssued, ScaleInWanted

GpuAim = Literal["off", "start", "keep", "drain", "stop"]
TierName = Literal["repair", "serve", "meet", "pay", "leave", "balance", "move", "smooth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One atomic change of where a session's state is."""

    session_id: SessionId
    kind: MoveKind
    source: GpuId | None  # None: host memory, or no state yet
    target: GpuId | None  # None: host memory
    source_node: NodeId | None
    target_node: NodeId | None
    state_bytes: int
    wave: int  # moves of one wave may run at once; a wave begins when the one before has ended
    reason: str  # why, in words: "waiting", "drain", "late", "balance", "memory", "return", "idle", "repair"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a session is to be: on a GPU, in a node's host memory, or (neither) still waiting."""

    gpu: GpuId | None = None
    node: NodeId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Complete desired state; a newer version replaces an older one as a whole."""

    version: int
    seats: Mapping[SessionId, Seat]
    gpus: Mapping[GpuId, GpuAim]
    moves: tuple[Move, ...]  # in the order of their waves


@dataclass(frozen=True, slots=True, kw_only=True)
class TierReport:
    """One tier of the objective: what it was, what it will be, and what it cannot be less than."""

    tier: TierName
    unit: str
    before: float
    value: float
    bound: float
    gap: float  # (value - bound) / value, 0 where value is 0
    proven: bool
    proof: str  # what proved the bound; empty: nothing did


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """One stage of the search."""

    solver: str
    seconds: float
    end_reason: str
    value: float | None  # worst latency in ms of its best answer
    bound: float
    gap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileForecast:
    """What is expected of one profile, and how such forecasts did at recent epochs; None: too few to tell."""

    profile: str
    mean: float  # active sessions, in the epoch within the horizon that has most
    quantile: float  # of the same
    coverage: float | None  # share of past epochs, over the whole horizon, whose demand was at most the quantile
    pinball: float | None  # mean pinball loss of the quantile, in sessions
    mae: float | None  # mean absolute error of the mean, in sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastReport:
    """What GPUs are counted for."""

    service_level: float  # which quantile
    horizon_epochs: int
    origins: int  # epochs at which past forecasts were judged
    profiles: tuple[ProfileForecast, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Who planned, how well, and why it stopped."""

    solver: str
    end_reason: str
    tiers: tuple[TierReport, ...]
    stages: tuple[StageTime, ...]
    fallback: str | None  # why a stage's answer was not used; None: nothing went wrong
    warnings: tuple[str, ...] = ()
    forecast: ForecastReport | None = None  # None: nothing was forecast

    @property
    def headline(self) -> TierReport:
        """The first tier that is not proven; the last one if all are."""
        return next((tier for tier in self.tiers if not tier.proven), self.tiers[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy answers."""

    plan: Plan
    report: Report
    next_step_s: float
    scale_in_wanted: Mapping[str, bool] = field(default_factory=dict)  # by GPU type: whether fewer GPUs would do

    @property
    def events(self) -> tuple[EpochEvent, ...]:
        """What an executor tells the cluster state, every epoch, when it sends the plan out.

        Nobody else remembers since when fewer GPUs would do: without these events no GPU is ever switched off.
        """
        issued = PlanIssued(version=self.plan.version)
        return (issued, *(ScaleInWanted(gpu_type=t, wanted=w) for t, w in self.scale_in_wanted.items()))
