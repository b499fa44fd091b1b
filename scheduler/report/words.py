"""The report in words: big figures, and the certificate in sentences for a manager and for an expert.

Decides what is said of a plan and how its figures are written; must never know markup or a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.offline_plan import OfflinePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One big figure: "Total cost", "$1,234.50", "GPUs $1,230.10, migrations $4.40"."""

    label: str
    value: str
    unit: str = ""
    note: str = ""
    alarming: bool = False


def dollars(amount: float) -> str:
    """Cents up to ten thousand dollars, whole dollars beyond; three digits of what is less than a dollar."""
    if amount and abs(amount) < 1:
        return f"${amount:.3g}" if abs(amount) >= 1e-4 else "< $0.0001"
    return f"${amount:,.2f}" if abs(amount) < 10_000 else f"${amount:,.0f}"


def per_cent(share: float) -> str:
    """Three digits of a share; never 0 for what is not 0."""
    if share == 0:
        return "0 %"
    if abs(share) < 1e-6:
        return "< 0.0001 %"
    return f"{100 * share:.3g} %" if abs(share) < 0.995 else f"{100 * share:,.0f} %"


def milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def number(value: float) -> str:
    """Three digits at least, none after the point of a whole number."""
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


def counted(count: int, noun: str) -> str:
    """ "1 session", "2 sessions"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def duration(seconds: float) -> str:
    """The two largest units: "1 d 2 h", "3 min 8 s", "4.2 s"."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    sizes = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    first = next(index for index, (size, _) in enumerate(sizes) if whole >= size)
    large, name = sizes[first]
    small, small_name = sizes[first + 1]
    rest = whole % large // small
    return f"{whole // large} {name}" + (f" {rest} {small_name}" if rest else "")


def minimised(plan: OfflinePlan) -> str:
    """What was minimised, in order."""
    if plan.minimize == "cost":
        return "unserved time, then late time, then dollars"
    return "unserved time, then the worst and the mean chunk latency, then migrations, on the GPUs given"


def verdict(plan: OfflinePlan) -> str:
    """A badge's worth of the certificate."""
    if plan.certificate.status == "optimal":
        return "Proven optimal"
    what = "Cost" if plan.minimize == "cost" else "Worst latency"
    return f"{what} proven within {per_cent(plan.gap)} of the optimum"


def big_figures(plan: OfflinePlan, active_session_s: float) -> tuple[Figure, ...]:
    """Eight figures, what was minimised first; `active_session_s` is all demand, in session-seconds."""
    objective = plan.objective
    cost = Figure(
        label="Total cost",
        value=dollars(objective.total_dollars),
        note=f"GPUs {dollars(objective.gpu_dollars)}, migrations {dollars(objective.move_dollars)}",
    )
    latency = Figure(
        label="Worst chunk latency",
        value=milliseconds(objective.chunk_latency_ms_max),
        unit="ms",
        note=f"mean {milliseconds(objective.chunk_latency_ms_mean)} ms, target {_targets(plan)}",
        alarming=objective.late_session_seconds > 0,
    )
    hours = Figure(label="GPU-hours", value=number(objective.gpu_hours), unit="h", note=_fleet_note(plan))
    moves = Figure(label="Migrations", value=f"{objective.migrations:,}", note=_per_session(plan))
    late = _session_seconds("Late", objective.late_session_seconds, active_session_s)
    unserved = _session_seconds("Unserved", objective.unserved_session_seconds, active_session_s)
    gap = Figure(
        label="Certified gap",
        value=per_cent(plan.gap),
        note=_gap_note(plan),
    )
    if plan.minimize == "cost":
        return (cost, _cost_bound(plan), gap, hours, latency, moves, late, unserved)
    return (latency, _latency_bound(plan), gap, cost, hours, moves, late, unserved)


def manager_sentences(plan: OfflinePlan, active_session_s: float, comparison: Mapping[str, float]) -> tuple[str, ...]:
    """What the certificate means, without a technical word."""
    objective, certificate = plan.objective, plan.certificate
    said = [_cost_claim(plan) if plan.minimize == "cost" else _latency_claim(plan)]
    said.append(
        _shortfall(
            "every active session has a GPU at every moment",
            "active time has no GPU",
            objective.unserved_session_seconds,
            certificate.bound_unserved_session_seconds,
            active_session_s,
        )
    )
    said.append(
        _shortfall(
            "every chunk meets its latency target",
            "active time is on a GPU slower than the target",
            objective.late_session_seconds,
            certificate.bound_late_session_seconds,
            active_session_s,
        )
    )
    for name, other_dollars in comparison.items():
        said.append(_compared(plan, name, other_dollars))
    return tuple(said)


def expert_sentence(plan: OfflinePlan) -> str:
    """Method, bound, gap, who solved it, why it stopped, and how to check it."""
    certificate, solver = plan.certificate, plan.solver
    method = certificate.method.strip().rstrip(".")
    bound = _bound_words(plan)
    versions = ", ".join(f"{name} {version}" for name, version in sorted(solver.versions.items()))
    return (
        f"Method: {method}; {bound}, gap {per_cent(plan.gap)}, status {certificate.status}. "
        f"Solved by {solver.name}{f' ({versions})' if versions else ''} with seed {solver.seed} in "
        f"{duration(plan.seconds)}; it stopped because: {solver.end_reason.strip().rstrip('.')}. "
        f"Checkable from needed.parquet ({plan.needed.height:,} rows) with"
    )


def _gap_note(plan: OfflinePlan) -> str:
    """The gap is of what was minimised alone: unserved and late time may be further from their bounds."""
    if plan.certificate.status == "optimal":
        return "nothing better exists"
    if plan.gap <= 1e-6:
        return "nothing better exists that serves as well"
    return "the most that is left to gain"


def _bound_words(plan: OfflinePlan) -> str:
    objective, certificate = plan.objective, plan.certificate
    if plan.minimize == "cost":
        return f"lower bound {_exact(certificate.bound_dollars)} dollars against {_exact(objective.total_dollars)}"
    worst, mean = objective.chunk_latency_ms_max, objective.chunk_latency_ms_mean
    words = f"lower bound {_exact(certificate.bound_latency_ms)} ms against {_exact(worst)} ms"
    if certificate.bound_mean_latency_ms is not None:
        words += f" (mean: {_exact(certificate.bound_mean_latency_ms)} ms against {_exact(mean)} ms)"
    return words


def _exact(bound: float | None) -> str:
    return "unknown" if bound is None else f"{bound:,.6g}"


def _targets(plan: OfflinePlan) -> str:
    targets = sorted({plan.fleet.target_ms(profile) for profile in plan.fleet.profiles})
    return " / ".join(milliseconds(target) for target in targets) + " ms"


def _fleet_note(plan: OfflinePlan) -> str:
    counts = plan.gpus.unique("gpu_id")["gpu_type"].value_counts()
    by_type = dict(counts.rows())
    return ", ".join(f"{by_type.get(name, 0):,} {name} used" for name in plan.fleet.gpu_types)


def _per_session(plan: OfflinePlan) -> str:
    if plan.objective.migrations == 0:
        return "no session changes its GPU while active"
    return f"{plan.objective.migrations / max(plan.sessions, 1):.3g} per session"


def _session_seconds(label: str, seconds: float, active_session_s: float) -> Figure:
    share = per_cent(seconds / active_session_s) if active_session_s else "0 %"
    return Figure(
        label=label, value=number(seconds), unit="session-s", note=f"{share} of active time", alarming=seconds > 0
    )


def _cost_bound(plan: OfflinePlan) -> Figure:
    bound = plan.certificate.bound_dollars
    return Figure(
        label="Lower bound",
        value="none" if bound is None else dollars(bound),
        note="no schedule that serves as well costs less",
    )


def _latency_bound(plan: OfflinePlan) -> Figure:
    bound = plan.certificate.bound_latency_ms
    return Figure(
        label="Lower bound",
        value="none" if bound is None else milliseconds(bound),
        unit="" if bound is None else "ms",
        note="no schedule on these GPUs is faster",
    )


def _cost_claim(plan: OfflinePlan) -> str:
    total, bound = plan.objective.total_dollars, plan.certificate.bound_dollars
    if bound is None:
        return f"This schedule costs {dollars(total)}; how much less is possible is not known."
    if plan.gap <= 1e-6:
        return f"This schedule costs {dollars(total)}, and no schedule that serves these sessions as well costs less."
    return (
        f"This schedule costs {dollars(total)}. No schedule that serves these sessions as well can cost less than "
        f"{dollars(bound)}: at most {dollars(total - bound)} ({per_cent(plan.gap)}) could still be saved by anyone."
    )


def _latency_claim(plan: OfflinePlan) -> str:
    worst, bound = plan.objective.chunk_latency_ms_max, plan.certificate.bound_latency_ms
    if bound is None:
        return f"The slowest chunk takes {milliseconds(worst)} ms; how much faster is possible is not known."
    if plan.gap <= 1e-6:
        return f"The slowest chunk takes {milliseconds(worst)} ms, and on these GPUs no schedule does better."
    return (
        f"The slowest chunk takes {milliseconds(worst)} ms. On these GPUs no schedule can keep it below "
        f"{milliseconds(bound)} ms: at most {per_cent(plan.gap)} could still be gained by anyone."
    )


def _shortfall(well: str, badly: str, seconds: float, bound: float, active_session_s: float) -> str:
    if seconds <= 0:
        return f"{well[0].upper()}{well[1:]}."
    share = per_cent(seconds / active_session_s) if active_session_s else "0 %"
    if bound <= 0:
        unavoidable = "whether this could be avoided is not proven"
    elif bound >= seconds * (1 - 1e-6):
        unavoidable = "on this fleet no schedule does better"
    else:
        unavoidable = f"on this fleet at least {number(bound)} of them cannot be avoided"
    return f"{number(seconds)} session-seconds ({share}) of {badly}; {unavoidable}."


def _compared(plan: OfflinePlan, name: str, other_dollars: float) -> str:
    total = plan.objective.total_dollars
    if other_dollars > total:
        saved = f"this schedule saves {dollars(other_dollars - total)}, {per_cent(1 - total / other_dollars)} of it"
    else:
        saved = f"that is {dollars(total - other_dollars)} less than this schedule"
    return f"{name} would cost {dollars(other_dollars)}: {saved}."
