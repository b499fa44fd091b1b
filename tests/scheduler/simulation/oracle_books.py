"""What the oracle writes down while a run goes on, and the tables and the summary that follow from it.

Decides how figures are counted up; must never know why anything happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from scheduler.cluster import GpuId, SessionId, Snapshot
from scheduler.fleet import Fleet
from scheduler.plan import Decision, Move
from scheduler.simulation import outcome as schema
from scheduler.simulation.outcome import Outcome, Percentiles, Summary, Tables


@dataclass(slots=True, eq=False)
class Period:
    """One active period; times in microseconds."""

    session_id: SessionId
    profile: str
    order: int  # the session's, in the trace
    start: int
    end: int
    over: bool = False
    first_chunk: int | None = None  # delivered at
    chunks: int = 0
    late_chunks: int = 0
    empty: int = 0  # E: when the buffer runs empty
    stall: int = 0
    unserved: int = 0
    # since the chunk before:
    travelling: int = 0
    away: int = 0  # travelling or on no GPU
    left_out: int = 0


@dataclass(slots=True, eq=False)
class TimeOn:
    """A GPU from the instant at which it is paid."""

    gpu_id: GpuId
    on: int
    ready: int | None = None
    off: int | None = None
    end: str = ""


@dataclass(slots=True, eq=False)
class MoveMade:
    """A move that has begun."""

    move: Move
    start: int
    freeze: int | None = None
    end: int | None = None
    result: str = ""


@dataclass(slots=True)
class Books:
    """Everything that is remembered, in the order in which it happened."""

    periods: list[Period] = field(default_factory=list)
    stays: list[tuple[SessionId, str, GpuId | None, int, int]] = field(default_factory=list)
    moves: list[MoveMade] = field(default_factory=list)
    times_on: list[TimeOn] = field(default_factory=list)
    epochs: list[tuple[int, Counter[str], int, int]] = field(default_factory=list)  # begin, by status, paid, ready
    decisions: list[tuple[int, bool, Decision]] = field(default_factory=list)
    chunks: list[tuple[int, int, bool]] = field(default_factory=list)  # epoch, latency, whether it was late

    def outcome(
        self,
        *,
        named: Mapping[str, Any],
        fleet: Fleet,
        empty: Snapshot,
        horizon: int,
        sessions: Sequence[SessionId],
    ) -> Outcome:
        """`named` are the fields of the summary that nobody counts."""
        latencies = sorted(latency for _, latency, _ in self.chunks)
        firsts = sorted(p.first_chunk - p.start for p in self.periods if p.first_chunk is not None)
        target = round(fleet.target.first_chunk_ms * 1000)
        late_firsts = sum((p.end if p.first_chunk is None else p.first_chunk) - p.start > target for p in self.periods)
        done = [made for made in self.moves if made.result == "done"]
        profile = {p.session_id: p.profile for p in self.periods}
        migrated = [made for made in done if made.move.kind == "migrate"]
        proven = sorted(gap for gap in (_gap(decision) for _, _, decision in self.decisions) if gap is not None)
        summary = Summary(
            **named,
            horizon_s=horizon / 1e6,
            sessions=len(sessions),
            chunks=len(self.chunks),
            gpu_dollars=sum(
                (t.off - t.on) / 3.6e9 * fleet.gpu_types[empty.gpus[t.gpu_id].gpu_type].price_per_hour
                for t in self.times_on
                if t.off is not None
            ),
            gpu_hours=sum(t.off - t.on for t in self.times_on if t.off is not None) / 3.6e9,
            gpus_max=self._gpus_max(),
            chunk_latency_ms=_percentiles([latency / 1000 for latency in latencies]),
            first_chunk_ms=_percentiles([first / 1000 for first in firsts]),
            late_first_chunk_ratio=late_firsts / len(self.periods),
            late_chunk_ratio=sum(late for _, _, late in self.chunks) / max(1, len(self.chunks) - len(firsts)),
            stall_seconds=sum(p.stall for p in self.periods) / 1e6,
            continuous_play_ratio=sum(p.chunks > 0 and p.stall == 0 for p in self.periods) / len(self.periods),
            unserved_session_seconds=sum(p.unserved for p in self.periods) / 1e6,
            migrations=len(migrated),
            migrated_gib=sum(fleet.profiles[profile[made.move.session_id]].state_gib for made in migrated),
            resumes=sum(made.move.kind == "resume" for made in done),
            gap=_percentiles(proven),
            fallbacks=sum(decision.report.fallback is not None for _, _, decision in self.decisions),
            planning_ms=_percentiles([]),
            seconds=0.0,
        )
        order = {session_id: index for index, session_id in enumerate(sessions)}
        return Outcome(
            summary=summary,
            tables=Tables(
                periods=self._periods(),
                stays=self._stays(order),
                moves=self._moves(fleet),
                gpus=self._gpus(empty),
                epochs=self._epochs(),
                decisions=self._decisions(),
                latencies=_frame(
                    [(us / 1000, count) for us, count in sorted(Counter(latencies).items())], schema.LATENCIES
                ),
                rounds=None,
            ),
        )

    def _gpus_max(self) -> int:
        """A GPU is paid in [on, off)."""
        instants = [time_on.on for time_on in self.times_on]
        return max(
            (sum(t.on <= at and (t.off is None or at < t.off) for t in self.times_on) for at in instants), default=0
        )

    def _periods(self) -> pl.DataFrame:
        rows = [
            (
                p.session_id,
                p.profile,
                p.start / 1e6,
                p.end / 1e6,
                None if p.first_chunk is None else (p.first_chunk - p.start) / 1000,
                p.chunks,
                p.late_chunks,
                p.stall / 1e6,
                p.unserved / 1e6,
            )
            for p in self.periods
        ]
        return _frame(rows, schema.PERIODS)

    def _stays(self, order: Mapping[SessionId, int]) -> pl.DataFrame:
        stays = [stay for stay in self.stays if stay[3] < stay[4]]
        stays.sort(key=lambda stay: (order[stay[0]], stay[3]))
        return _frame([(*stay[:3], stay[3] / 1e6, stay[4] / 1e6) for stay in stays], schema.STAYS)

    def _moves(self, fleet: Fleet) -> pl.DataFrame:
        profile = {p.session_id: p.profile for p in self.periods}
        rows = [
            (
                one.move.session_id,
                one.move.kind,
                one.move.source,
                one.move.target,
                one.start / 1e6,
                None if one.freeze is None else one.freeze / 1e6,
                None if one.end is None else one.end / 1e6,
                0.0 if one.move.kind == "place" else fleet.profiles[profile[one.move.session_id]].state_gib,
                one.move.reason,
                one.result,
            )
            for one in self.moves
        ]
        return _frame(rows, schema.MOVES)

    def _gpus(self, empty: Snapshot) -> pl.DataFrame:
        rows = [
            (
                t.gpu_id,
                empty.gpus[t.gpu_id].gpu_type,
                empty.gpus[t.gpu_id].node,
                t.on / 1e6,
                None if t.ready is None else t.ready / 1e6,
                None if t.off is None else t.off / 1e6,
                t.end,
            )
            for t in self.times_on
        ]
        return _frame(rows, schema.GPUS)

    def _epochs(self) -> pl.DataFrame:
        latencies: list[list[int]] = [[] for _ in self.epochs]
        late = [0] * len(self.epochs)
        for index, latency, is_late in self.chunks:
            latencies[index].append(latency)
            late[index] += is_late
        rows = []
        for index, (start, status, paid, ready) in enumerate(self.epochs):
            found = _percentiles([latency / 1000 for latency in sorted(latencies[index])])
            shown = (found.p50, found.p99, found.max) if latencies[index] else (None, None, None)
            counts = (status[name] for name in ("active", "waiting", "idle", "suspended"))
            rows.append((start / 1e6, *counts, paid, ready, len(latencies[index]), late[index], *shown))
        return _frame(rows, schema.EPOCHS)

    def _decisions(self) -> pl.DataFrame:
        rows = [
            (
                at / 1e6,
                early,
                None,
                decision.report.solver,
                _gap(decision),
                decision.report.fallback,
                len(decision.plan.moves),
                sum(aim == "start" for aim in decision.plan.gpus.values()),
                sum(aim == "drain" for aim in decision.plan.gpus.values()),
            )
            for at, early, decision in self.decisions
        ]
        return _frame(rows, schema.DECISIONS)


def _gap(decision: Decision) -> float | None:
    """Of the headline; None: nothing proved a bound."""
    report = decision.report
    return report.headline.gap if report.tiers and report.headline.proof else None


def _frame(rows: list[tuple[Any, ...]], columns: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=columns, orient="row")


def _percentiles(ascending: list[float]) -> Percentiles:
    """By nearest rank, of values in order."""

    def at(percent: int) -> float:
        return ascending[-(-percent * len(ascending) // 100) - 1] if ascending else 0.0

    return Percentiles(p50=at(50), p95=at(95), p99=at(99), max=at(100))
