"""The certificate: bounds, gaps and status.

Decides whether they follow from the figures and from needed.parquet; must never know which solver wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from scheduler.offline_plan import Objective
from scheduler.verify.case import Case
from scheduler.verify.content_rules import ContentRules
from scheduler.verify.needed import contents_exceed, needed_rows, proven_dollars
from scheduler.verify.sweep import most_at_once

OPTIMAL_GAP = 1e-6


def near(a: float, b: float, tolerance: float = 1e-6) -> bool:
    """Equal up to a relative tolerance (absolute below 1)."""
    return abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))


def wrong_certificate(case: Case, have: Objective, rules: ContentRules) -> tuple[list[str], float | None]:
    """Findings, and the dollars that needed.parquet proves (None where it is not asked to)."""
    cost = case.plan.minimize == "cost"
    findings = [*_served_bounds(case, have), *(_cost_bound(case, have) if cost else _latency_bounds(case, have))]
    findings += [*_status_follows(case, have), *_frontier(case)]
    if not cost:
        return findings, None
    rows, unreadable = needed_rows(case)
    findings += unreadable
    on_time = have.late_session_seconds == 0 and have.unserved_session_seconds == 0
    if rows is None or not on_time:  # with somebody late or unserved, rows inform and prove no cost
        return findings, None
    false = list(contents_exceed(case, rows, rules))
    findings += false
    claimed = case.plan.certificate.bound_dollars
    if false or claimed is None or not case.has_trace:
        return findings, None
    proven = proven_dollars(case, rows, claimed)
    if proven is None or claimed > proven * (1 + 1e-6) + 1e-9:
        shown = "nothing" if proven is None else f"{proven:.6f}"
        findings.append(f"certificate.bound_dollars={claimed:.6f}, and needed.parquet proves {shown}")
    return findings, proven


def room_for_all(case: Case, have: Objective, rules: ContentRules) -> Iterator[str]:
    """Sufficient, not necessary: every profile on GPUs of its own, at its own peak, of each type in turn."""
    if case.plan.state is not None:  # GPUs that are off at time 0 are not ready at once
        return
    if case.plan.minimize != "cost" or not (have.late_session_seconds or have.unserved_session_seconds):
        return
    free = [
        sum(pool.nodes * pool.gpus_per_node for pool in case.fleet.pools if pool.gpu_type == name)
        for name in case.fleet.gpu_types
    ]
    demand = case.demand
    peak, _ = most_at_once(demand.profile[demand.session], demand.start_us, demand.end_us)
    for profile, most in enumerate(peak.tolist()):
        left = most
        for type_index in range(len(free)):
            alone = rules.maximal(type_index, np.array([profile]))
            capacity = 0 if alone is None else int(alone[:, profile].max(initial=0))
            take = min(free[type_index], -(-left // capacity)) if capacity else 0
            free[type_index] -= take
            left = max(0, left - take * capacity)
        if left:
            return
    yield (
        f"late {have.late_session_seconds:g} s, unserved {have.unserved_session_seconds:g} s, although the fleet has "
        "room for every session within its target at every instant"
    )


def _served_bounds(case: Case, have: Objective) -> Iterator[str]:
    proof = case.plan.certificate
    pairs = (
        ("bound_unserved_session_seconds", proof.bound_unserved_session_seconds, have.unserved_session_seconds),
        ("bound_late_session_seconds", proof.bound_late_session_seconds, have.late_session_seconds),
    )
    for name, bound, value in pairs:
        if bound < 0 or bound > value * (1 + 1e-9) + 1e-6:
            yield f"certificate.{name}={bound:g} must lie between 0 and the plan's {value:g}"


def _cost_bound(case: Case, have: Objective) -> Iterator[str]:
    proof, total = case.plan.certificate, have.total_dollars
    if proof.bound_dollars is None:
        yield "certificate.bound_dollars is missing"
        return
    yield from _bound_and_gap("dollars", proof.bound_dollars, total, "gap", proof.gap)


def _latency_bounds(case: Case, have: Objective) -> Iterator[str]:
    proof = case.plan.certificate
    if proof.bound_latency_ms is None:
        yield "certificate.bound_latency_ms is missing"
        return
    yield from _bound_and_gap("latency_ms", proof.bound_latency_ms, have.chunk_latency_ms_max, "gap", proof.gap)
    if proof.bound_mean_latency_ms is None or proof.gap_mean is None:
        yield "certificate.bound_mean_latency_ms or gap_mean is missing"
        return
    mean = have.chunk_latency_ms_mean
    yield from _bound_and_gap("mean_latency_ms", proof.bound_mean_latency_ms, mean, "gap_mean", proof.gap_mean)


def _bound_and_gap(name: str, bound: float, value: float, gap_name: str, gap: float) -> Iterator[str]:
    if bound < 0 or bound > value * (1 + 1e-9) + 1e-9:
        yield f"certificate.bound_{name}={bound:.9g} must lie between 0 and the plan's {value:.9g}"
    have = (value - bound) / value if value else 0.0
    if not abs(gap - have) <= OPTIMAL_GAP:
        yield f"certificate.{gap_name}={gap:.9g}, recomputed {have:.9g}"


def _status_follows(case: Case, have: Objective) -> Iterator[str]:
    """`optimal` if and only if every gap is at most OPTIMAL_GAP."""
    proof = case.plan.certificate
    gaps = [proof.gap, proof.gap_mean or 0.0]
    for bound, value in (
        (proof.bound_unserved_session_seconds, have.unserved_session_seconds),
        (proof.bound_late_session_seconds, have.late_session_seconds),
    ):
        gaps.append((value - bound) / value if value else 0.0)
    due = "optimal" if max(gaps) <= OPTIMAL_GAP else "feasible"
    if proof.status == "optimal" and due == "feasible":
        yield f"certificate.status=optimal with a gap of {max(gaps):.3g}; it must be feasible"
    if proof.status == "feasible" and due == "optimal":
        yield "certificate.status=feasible, although no gap exceeds 1e-6; it must be optimal"


def _frontier(case: Case) -> Iterator[str]:
    if case.plan.frontier is None:
        return
    rows = case.plan.frontier.sort("target_ms").to_dicts()
    for row in rows:
        name, total, bound = (
            f"frontier.parquet: target_ms={row['target_ms']:g}",
            row["total_dollars"],
            row["bound_dollars"],
        )
        if bound > total * (1 + 1e-9) + 1e-9:
            yield f"{name}: bound_dollars={bound:.6f} exceeds total_dollars={total:.6f}"
        have = (total - bound) / total if total else 0.0
        if not abs(row["gap"] - have) <= OPTIMAL_GAP:
            yield f"{name}: gap={row['gap']:.9g}, recomputed {have:.9g}"
        if (row["status"] == "optimal") != (have <= OPTIMAL_GAP):
            yield f"{name}: status={row['status']} with a gap of {have:.3g}"
    for tighter, looser in pairwise(rows):
        if looser["bound_dollars"] > tighter["total_dollars"] * (1 + 1e-9) + 1e-9:
            where = f"the bound at {looser['target_ms']:g} ms exceeds the cost at {tighter['target_ms']:g} ms"
            yield f"frontier.parquet: {where}"
