"""The verdict on a plan: every finding, and the figures as recomputed.

Decides which checks can be made from what is given; must never know how a plan was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scheduler.fleet import Fleet
from scheduler.offline_plan import Objective, OfflinePlan
from scheduler.verify.case import Case, case_of
from scheduler.verify.certificate import near, room_for_all, wrong_certificate
from scheduler.verify.content_rules import ContentRules
from scheduler.verify.contents import felt_by_sessions
from scheduler.verify.served import Service, service_of
from scheduler.verify.spans import gpu_cost, wrong_spans
from traces.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with a plan (nothing, if it is what it claims) and what it really amounts to."""

    findings: tuple[str, ...]
    unchecked: tuple[str, ...]  # what could not be checked from what was given
    objective: Objective | None  # recomputed; None where the sessions' profiles are unknown
    unserved_by_priority: Mapping[int, float]  # session-seconds, highest priority first
    proven_dollars: float | None  # by needed.parquet; None where it proves no cost

    @property
    def right(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(trace: Trace | None, fleet: Fleet | None, plan: OfflinePlan) -> Verdict:
    """Recompute everything that a plan claims.

    `trace` and `fleet` are what the plan is said to be made from. Without a trace only what the plan's own tables tell
    is checked; without a fleet the plan's own is used.
    """
    case = case_of(trace, plan.fleet, plan)
    rules = ContentRules(plan.fleet)
    service = service_of(case)
    findings = [*case.findings, *wrong_spans(case), *service.findings]
    if fleet is not None:
        findings += _fleet_differs(fleet, plan)
    if trace is not None:
        findings += _trace_differs(trace, plan)
    objective, proven = None, None
    if case.profiles_known:
        felt = felt_by_sessions(case, service.moves, rules)
        findings += felt.findings
        gpu_dollars, gpu_hours = gpu_cost(case)
        objective = Objective(
            total_dollars=gpu_dollars + service.move_dollars,
            gpu_dollars=gpu_dollars,
            move_dollars=service.move_dollars,
            gpu_hours=gpu_hours,
            chunk_latency_ms_max=felt.latency_ms_max,
            chunk_latency_ms_mean=felt.latency_ms_mean,
            late_session_seconds=felt.late_session_seconds,
            unserved_session_seconds=float(service.unserved_us.sum() / 1e6) if case.has_trace else 0.0,
            migrations=service.moves.row.size,
        )
    findings += _claims_differ(case, objective, service)
    known = objective or plan.objective
    if not case.has_trace:
        known = plan.objective
    wrong, proven = wrong_certificate(case, known, rules)
    findings += wrong
    if case.has_trace:
        findings += room_for_all(case, known, rules)
    return Verdict(
        findings=tuple(findings),
        unchecked=tuple(_unchecked(case)),
        objective=objective,
        unserved_by_priority=service.unserved_by_priority(case),
        proven_dollars=proven,
    )


def _unchecked(case: Case) -> Iterator[str]:
    if case.has_trace:
        return
    yield "coverage of the active periods, unserved time, demand and proven cost: give the trace"
    if not case.profiles_known:
        yield "chunk latency, memory, late time and the cost of moves: the profiles are in the trace; give the trace"
    if case.plan.objective.unserved_session_seconds:
        yield "moves after an unserved gap: only the trace tells them from resumptions"


def _claims_differ(case: Case, have: Objective | None, service: Service) -> Iterator[str]:
    claimed = asdict(case.plan.objective)
    gpu_dollars, gpu_hours = gpu_cost(case)
    figures: dict[str, float] = {"gpu_dollars": gpu_dollars, "gpu_hours": gpu_hours}
    if have is not None:
        figures |= asdict(have)
    gaps_hide_moves = not case.has_trace and case.plan.objective.unserved_session_seconds > 0
    if have is None and not gaps_hide_moves:
        figures["migrations"] = service.moves.row.size
    if not case.has_trace:
        figures.pop("unserved_session_seconds", None)
    if gaps_hide_moves:
        for name in ("migrations", "move_dollars", "total_dollars"):
            figures.pop(name, None)
    for name, value in figures.items():
        if not near(claimed[name], value):
            yield f"objective.{name}={claimed[name]:.9g}, recomputed {value:.9g}"
    parts = claimed["gpu_dollars"] + claimed["move_dollars"]
    if not near(claimed["total_dollars"], parts):
        yield f"objective.total_dollars={claimed['total_dollars']:.9g}, its parts add up to {parts:.9g}"


def _trace_differs(trace: Trace, plan: OfflinePlan) -> Iterator[str]:
    if plan.trace_sha256 != trace.sha256:
        yield f"trace.sha256={plan.trace_sha256}, that of {trace.name} is {trace.sha256}"
    for name, claimed, have in (
        ("sessions", plan.sessions, trace.session_count),
        ("periods", plan.periods, trace.period_count),
        ("horizon_s", plan.horizon_s, trace.horizon_us / 1e6),
    ):
        if abs(claimed - have) > 5e-7:
            yield f"trace.{name}={claimed:.12g}, the trace has {have:.12g}"


def _fleet_differs(fleet: Fleet, plan: OfflinePlan) -> Iterator[str]:
    given, used = fleet.effective(), plan.fleet.effective()
    for key in dict.fromkeys([*given, *used]):
        if _differs(given.get(key), used.get(key)) and key not in plan.overrides:
            yield f"fleet.{key} is not that of the fleet file, and no override names it"


def _differs(given: Any, used: Any) -> bool:
    order_matters = isinstance(given, dict) and isinstance(used, dict)
    return given != used or (order_matters and list(given) != list(used))
