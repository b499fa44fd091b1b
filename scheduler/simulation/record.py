"""What is written down while a run goes on: control epochs, decisions, the distribution of chunk latencies.

Decides which figures are taken when; must never know how they are shown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from scheduler.plan import Decision, Report
from scheduler.simulation.instants import to_s
from scheduler.simulation.percentiles import nearest_rank
from scheduler.simulation.power import Power
from scheduler.simulation.rounds import Rounds
from scheduler.simulation.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One question to the policy, and what its answer looked like."""

    at_us: int
    early: bool
    planning_ms: float | None
    solver: str
    gap: float | None
    fallback: str | None
    moves: int
    starts: int
    drains: int


class Record:
    """Rows of the tables that grow with time."""

    def __init__(self, stage: Stage, rounds: Rounds, power: Power) -> None:
        self._stage, self._rounds, self._power = stage, rounds, power
        self._epoch_begin_us = 0
        self.epochs: list[tuple[float | int | None, ...]] = []
        self.steps: list[Step] = []
        self.latency_chunks: Counter[int] = Counter()
        self.late_chunks = 0

    def epoch_ends(self, now_us: int) -> None:
        """Chunks that are delivered at the boundary belong to the epoch that ends there."""
        chunks, late = self._rounds.taken_chunks(now_us)
        self.latency_chunks.update(chunks)
        late_chunks = sum(late.values())
        self.late_chunks += late_chunks
        count = self._stage.count
        latencies_ms: list[float | None] = [None] * 3
        if chunks:
            latencies_ms = [us / 1000 for us in nearest_rank(chunks, (50, 99, 100))]
        self.epochs.append(
            (
                to_s(self._epoch_begin_us),
                *(count["active"], count["waiting"], count["idle"], count["suspended"]),
                *(self._power.paid, self._power.ready),
                *(sum(chunks.values()), late_chunks),
                *latencies_ms,
            )
        )
        self._epoch_begin_us = now_us

    def asked(self, decision: Decision, *, early: bool, planning_ms: float | None, now_us: int) -> None:
        report, aims = decision.report, list(decision.plan.gpus.values())
        self.steps.append(
            Step(
                at_us=now_us,
                early=early,
                planning_ms=planning_ms,
                solver=report.solver,
                gap=proven_gap(report),
                fallback=report.fallback,
                moves=len(decision.plan.moves),
                starts=aims.count("start"),
                drains=aims.count("drain"),
            )
        )

    def finish(self, now_us: int) -> None:
        """The last epoch may be shorter."""
        if now_us > self._epoch_begin_us:
            self.epoch_ends(now_us)


def proven_gap(report: Report) -> float | None:
    """Of the headline; None where nothing was proven about it."""
    return report.headline.gap if report.tiers and report.headline.proof else None
