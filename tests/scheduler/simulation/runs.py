"""Simulated runs for tests: a policy that does what is written down, and a check of the state after every event.

Decides what a test has to say about a run; must never compute what the simulator computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import polars as pl

from scheduler.cluster import GpuId, MoveKind, SessionId, Snapshot
from scheduler.cluster_checks import validate
from scheduler.fleet import Fleet
from scheduler.plan import Decision, GpuAim, Move, Plan, Report
from scheduler.policy import Budget, Prepared
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.settings import SimulationSettings
from scheduler.simulation.simulate import simulate
from tests.scheduler.clusters import gpu
from traces.trace import Trace

Script = Mapping[float, str]

REPORT = Report(solver="script", end_reason="as written", tiers=(), stages=(), fallback=None)


def simulated(
    trace: Trace, fleet: Fleet, prepared: Prepared, settings: SimulationSettings | None = None, **more: Any
) -> Outcome:
    """A run whose cluster state makes sense after every event."""

    def observe(snapshot: Snapshot, now_s: float) -> None:
        wrong = validate(snapshot, fleet)
        assert not wrong, f"at {now_s} s: {wrong}"

    return simulate(trace, fleet, prepared, settings or SimulationSettings(), observe=observe, **more)


@dataclass
class Scripted:
    """Says at each step what is written for that second, and remembers when it was asked.

    `"place s1 0; migrate s2 1 wave 1; offload s3; start 2; stop 0"`: moves name a session and a GPU's number, aims a
    GPU's number. `always` is said at every step for which nothing else is written.
    """

    script: Script
    always: str = ""
    asked: list[tuple[float, bool]] = field(default_factory=list)  # at_s, early

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision:
        self.asked.append((now_s, budget.early))
        moves: list[Move] = []
        aims: dict[GpuId, GpuAim] = {}
        for line in filter(None, self.script.get(now_s, self.always).split(";")):
            words = line.split()
            if words[0] in get_args(MoveKind):
                moves.append(_move(snapshot, words))
            else:
                aims[gpu(int(words[1]))] = words[0]  # type: ignore[assignment]
        plan = Plan(version=snapshot.version + 1, seats={}, gpus=aims, moves=tuple(moves))
        return Decision(plan=plan, report=REPORT, next_step_s=float("inf"))


def _move(snapshot: Snapshot, words: Sequence[str]) -> Move:
    kind: MoveKind = words[0]  # type: ignore[assignment]
    wave = int(words[-1]) if "wave" in words else 0
    session = snapshot.sessions.get(SessionId(words[1]))
    source = session.gpu if session is not None else None
    node = None if session is None else session.node if source is None else snapshot.gpus[source].node
    target = None if kind == "offload" else gpu(int(words[2]))
    return Move(
        session_id=SessionId(words[1]),
        kind=kind,
        source=source,
        target=target,
        source_node=node,
        target_node=node if target is None else snapshot.gpus[target].node,
        state_bytes=0,
        wave=wave,
        reason="script",
    )


def scripted(script: Script | None = None, *, on: int = 1, planning_s: float = 0.0, always: str = "") -> Prepared:
    """The first `on` GPUs are on at the start."""
    return Prepared(
        name="scripted", policy=Scripted(script or {}, always), planning_s=planning_s, gpus_at_start={"h100": on}
    )


def asked(prepared: Prepared) -> list[tuple[float, bool]]:
    """When a scripted policy was asked, and whether early."""
    assert isinstance(prepared.policy, Scripted)
    return prepared.policy.asked


def latencies(outcome: Outcome) -> dict[float, int]:
    """Chunks by latency in ms."""
    return dict(outcome.tables.latencies.iter_rows())


def of(table: pl.DataFrame, session: str, column: str) -> list[Any]:
    """One column of a session's rows."""
    return table.filter(pl.col("session_id") == session)[column].to_list()
