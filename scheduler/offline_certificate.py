"""What a plan may claim: the solvers' bounds as a certificate.

Decides status and gaps; must never know how a bound was found.
"""

from __future__ import annotations

from scheduler.offline_plan import Certificate
from solvers.latency import LatencyResult
from solvers.offline_portfolio import CostResult

MICROSECONDS = 1_000_000
OPTIMAL_GAP = 1e-6


def cost_certificate(result: CostResult) -> Certificate:
    """Bounds of the three tiers of `--minimize cost`; formats.md says what each one bounds."""
    value = result.objective
    unserved_us = min(result.service.unserved_us, float(sum(value.unserved_us)))
    late_us = max(0.0, min(result.service.unserved_or_late_us - sum(value.unserved_us), float(value.late_us)))
    gaps = (
        result.gap,
        (sum(value.unserved_us) - unserved_us) / max(1.0, sum(value.unserved_us)),
        (value.late_us - late_us) / max(1.0, value.late_us),
    )
    optimal = max(gaps) <= OPTIMAL_GAP
    bound_dollars = _stated(result.bound_dollars, value.dollars, optimal=optimal)
    return Certificate(
        status="optimal" if optimal else "feasible",
        method=result.bound.method,
        gap=_gap(bound_dollars, value.dollars),
        bound_unserved_session_seconds=unserved_us / MICROSECONDS,
        bound_late_session_seconds=late_us / MICROSECONDS,
        bound_dollars=bound_dollars,
    )


def latency_certificate(result: LatencyResult) -> Certificate:
    """Bounds of `--minimize latency`; late time is not minimised, so nothing is claimed about it."""
    value = result.objective
    unserved_us = float(sum(value.unserved_us))
    bound_unserved_us = min(result.bound_unserved_us, unserved_us)
    gaps = (result.gap, result.gap_mean, (unserved_us - bound_unserved_us) / max(1.0, unserved_us))
    optimal = max(gaps) <= OPTIMAL_GAP
    bound_ms = _stated(result.bound_worst_ms, value.latency_ms_max, optimal=optimal)
    return Certificate(
        status="optimal" if optimal else "feasible",
        method="weights of the configuration LP at the fullest instants bound the worst latency, its duals at every "
        "instant the mean",
        gap=_gap(bound_ms, value.latency_ms_max),
        bound_unserved_session_seconds=bound_unserved_us / MICROSECONDS,
        bound_late_session_seconds=0.0,
        bound_latency_ms=bound_ms,
        bound_mean_latency_ms=result.bound_mean_ms,
        gap_mean=result.gap_mean,
    )


def _gap(bound: float, value: float) -> float:
    return (value - bound) / value if value > 0 else 0.0


def _stated(bound: float, value: float, *, optimal: bool) -> float:
    """The bound to state: a little less than proven where this tier is closed but another is not.

    Readers that look at `gap` alone then never take such a plan for optimal.
    """
    if optimal or _gap(bound, value) > OPTIMAL_GAP:
        return bound
    return min(bound, value * (1 - 2 * OPTIMAL_GAP))
