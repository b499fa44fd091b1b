"""Simulated runs for tests: a policy that does what is written down, and a check of the state after every event.

Decides what a test has to say about a run; must never compute what the simulator computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scheduler.cluster import GpuId, Snapshot
from scheduler.cluster_checks import validate
from scheduler.fleet import Fleet
from scheduler.plan import Decision, GpuAim, Move, Plan, Report
from scheduler.policy import Budget, Prepared
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.settings import SimulationSettings
from scheduler.simulation.simulate import simulate
from traces.trace import Trace

Script = Callable[[Snapshot, float], Sequence[Move] | tuple[Sequence[Move], Mapping[GpuId, GpuAim]]]

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
    """Asks a function for moves, and GPU aims where they change; remembers when it was asked."""

    script: Script
    asked: list[tuple[float, bool]] = field(default_factory=list)  # at_s, early

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision:
        self.asked.append((now_s, budget.early))
        answer = self.script(snapshot, now_s)
        moves, aims = answer if isinstance(answer, tuple) and isinstance(answer[1], Mapping) else (answer, {})
        plan = Plan(version=snapshot.version + 1, seats={}, gpus=dict(aims), moves=tuple(moves))
        return Decision(plan=plan, report=REPORT, next_step_s=now_s)


def prepared(script: Script, *, gpus: int = 0, planning_s: float = 0.0, gpu_type: str = "h100") -> Prepared:
    """`gpus` are on at the start."""
    at_start = {gpu_type: gpus} if gpus else {}
    return Prepared(name="scripted", policy=Scripted(script), planning_s=planning_s, gpus_at_start=at_start)
