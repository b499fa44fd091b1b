"""A live run, as its event log tells it: what users demanded, and what became of it.

Decides which figures there are, and which trace its demand is; must never know how a log looks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import polars as pl

from runtime.recording.tally import Content
from scheduler.fleet import Fleet
from scheduler.planner_settings import PlannerSettings
from traces.assemble import trace_from_periods
from traces.errors import BadInputError
from traces.trace import Trace

_US = 1e6


@dataclass(slots=True)
class ChunkFigures:
    """Chunks of one profile that ended in passes of one size."""

    chunks: int = 0
    late: int = 0
    seconds: float = 0.0
    seconds_max: float = 0.0


@dataclass(slots=True)
class RoundFigures:
    """Rounds of one content on one GPU type."""

    rounds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOn:
    """One GPU, from switching on to switching off, in seconds of the run."""

    gpu_type: str
    on_s: float
    off_s: float


@dataclass(slots=True, kw_only=True)
class LiveRun:
    """One run. Times are seconds since its first controller has begun."""

    fleet: Fleet  # of its last controller
    planner: PlannerSettings  # as well
    started_unix_s: float
    controllers: int = 1
    end_s: float = 0.0  # of the last event
    complete: bool = False  # its last line says that it ends
    session_count: int = 0
    periods: list[tuple[str, float, float, str]] = field(default_factory=list)  # session, from, until, profile
    times_on: list[TimeOn] = field(default_factory=list)
    rounds: defaultdict[tuple[str, Content], RoundFigures] = field(default_factory=lambda: defaultdict(RoundFigures))
    chunks: defaultdict[tuple[str, int], ChunkFigures] = field(default_factory=lambda: defaultdict(ChunkFigures))
    moves: Counter[str] = field(default_factory=Counter)  # that were done, by kind
    moves_failed: Counter[str] = field(default_factory=Counter)
    move_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # of those that were done
    plans: int = 0
    fallbacks: int = 0
    restarts: int = 0  # of sessions whose state was lost

    def trace(self, name: str) -> Trace:
        """Active periods as they were recorded. Raises `BadInputError` if there is none."""
        wanted = [period for period in self.periods if round(period[1] * _US) < round(period[2] * _US)]
        if not wanted:
            raise BadInputError.of(name, "has no session that was ever active: there is nothing to replay")
        table = pl.DataFrame(
            sorted(wanted, key=lambda period: (period[1], period[0])),
            schema={"session_id": pl.String, "start_s": pl.Float64, "end_s": pl.Float64, "profile": pl.String},
            orient="row",
        )
        return trace_from_periods(table, name=name)
