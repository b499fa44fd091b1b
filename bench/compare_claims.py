"""What the comparison must show, and how sweeps become figures at one ratio of late chunks.

Decides claims and their limits; must never know how a run was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.compare_cases import FIXED, Compared
from bench.compare_rows import Measured, of
from bench.result import Cell, Gate

LATE = (0.001, 0.01)  # late_chunk_ratio at which costs are compared
CLOSED_MIN = 0.5  # of the gap between the reference and the bound
LOWER_MIN = 0.10  # worst and p99 latency at equal GPUs
ABOVE_MAX = 0.08  # of the bound, on diurnal workloads, at the first of LATE


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAt:
    """What a policy costs at one ratio of late chunks, as a multiple of the bound; None: its sweep stays above it."""

    late: float
    reference: float | None
    ours: float | None

    @property
    def closed(self) -> float | None:
        """Which share of the gap between the reference and the bound is closed."""
        if self.reference is None or self.ours is None or self.reference <= 1.0:
            return None
        return (self.reference - self.ours) / (self.reference - 1.0)


def cost_at(points: Sequence[tuple[float, float]], late: float) -> float | None:
    """The least cost at no more than `late`, between neighbours (late, cost) of the sweep in proportion.

    An operator can run a share of the time at one setting and the rest at another, which gives what is in between.
    """
    best = min((cost for at, cost in points if at <= late), default=None)
    for low_late, low_cost in points:
        for high_late, high_cost in points:
            if low_late <= late < high_late and high_cost < low_cost:
                share = (late - low_late) / (high_late - low_late)
                between = low_cost + share * (high_cost - low_cost)
                best = between if best is None else min(best, between)
    return best


def costs(measured: Sequence[Measured], compared: Compared) -> tuple[CostAt, ...]:
    """Both policies' sweeps, means over the seeds of each point."""

    def points(policy: str) -> list[tuple[float, float]]:
        swept = [m for m in of(measured, compared) if m.case.policy == policy and m.case.role != "latency"]
        by_setting: dict[tuple[tuple[str, str], ...], list[Measured]] = {}
        for one in swept:
            by_setting.setdefault(tuple(sorted(one.case.parameters.items())), []).append(one)
        return [
            (float(np.mean([m.late for m in group])), float(np.mean([m.above + 1.0 for m in group])))
            for group in by_setting.values()
        ]

    reference, ours = points("turboserve"), points("epochal")
    return tuple(CostAt(late=late, reference=cost_at(reference, late), ours=cost_at(ours, late)) for late in LATE)


def mean_of(
    measured: Sequence[Measured], compared: Compared, policy: str, role: str, value: Callable[[Measured], float]
) -> float | None:
    """Over the seeds of one case; None if it was not run."""
    found = [value(m) for m in of(measured, compared) if m.case.policy == policy and m.case.role == role]
    return float(np.mean(found)) if found else None


def gates_of(measured: Sequence[Measured], workloads: Sequence[Compared]) -> list[Gate]:
    """The claims, in the order of the documents; every workload is judged, none is left out."""
    found = [*_published(measured, workloads), *_cost(measured, workloads), *_latency(measured, workloads)]
    return [*found, *_near_bound(measured, workloads), *_sound(measured)]


def small_gates(measured: Sequence[Measured], workloads: Sequence[Compared]) -> list[Gate]:
    """What minutes on eight GPUs can tell: nobody cheats the bound, and ours is no worse than a fixed fleet."""
    found = []
    for compared in workloads:
        cost = mean_of(measured, compared, "epochal", "table", lambda m: m.above + 1.0)
        late = mean_of(measured, compared, "epochal", "table", lambda m: m.late)
        fixed = mean_of(measured, compared, "fixed-least-loaded", "table", lambda m: m.above + 1.0)
        if cost is None or late is None or fixed is None:
            continue
        found.append(
            Gate(
                claim=f"{compared.name}: ours costs less than a fixed fleet for the peak, at most {LATE[1]:.0%} late",
                ok=cost < fixed and late <= LATE[1],
                measured=f"{_above(cost)} and {late:.2%} late, against {_above(fixed)}",
            )
        )
    return [*found, *_sound(measured)]


def _sound(measured: Sequence[Measured]) -> Iterator[Gate]:
    """A bound is a bound: whoever is never late pays it."""
    on_time = [m.above for m in measured if m.late == 0 and m.summary["late_first_chunk_ratio"] == 0]
    yield Gate(
        claim="no run in which nobody was late costs less than the bound",
        ok=bool(on_time) and min(on_time) >= 0,
        measured=f"{min(on_time):+.1%} at the least, of {len(on_time)} runs" if on_time else "there was no such run",
    )


def summary_rows(measured: Sequence[Measured], workloads: Sequence[Compared]) -> Iterator[dict[str, Cell]]:
    """What equal lateness costs above the bound, and p99 and worst latency at equal GPU-hours, by workload."""
    for compared in workloads:
        row: dict[str, Cell] = {"workload": compared.name}
        for at in costs(measured, compared):
            row[f"turboserve at {at.late:.1%} late"] = _above(at.reference)
            row[f"epochal at {at.late:.1%} late"] = _above(at.ours)
            row[f"gap closed at {at.late:.1%}"] = "-" if at.closed is None else f"{at.closed:.0%}"
        for name, value in (("p99", lambda m: m.p99_ms), ("worst", lambda m: m.worst_ms)):
            theirs = mean_of(measured, compared, "turboserve", "latency", value)
            ours = mean_of(measured, compared, "epochal", "latency", value)
            row[f"{name} at equal GPUs"] = "-" if theirs is None or ours is None else f"{ours / theirs - 1:+.0%}"
        yield row


def _published(measured: Sequence[Measured], workloads: Sequence[Compared]) -> Iterator[Gate]:
    """The reference beside fixed fleets: as a check of how it was written here."""
    savings, latencies = [], []
    for compared in workloads:
        ours = mean_of(measured, compared, "turboserve", "table", lambda m: m.above + 1.0)
        worst = mean_of(measured, compared, "turboserve", "table", lambda m: m.worst_ms)
        for policy in FIXED:
            fixed = mean_of(measured, compared, policy, "table", lambda m: m.above + 1.0)
            slow = mean_of(measured, compared, policy, "table", lambda m: m.worst_ms)
            if ours is not None and fixed is not None and worst is not None and slow is not None:
                savings.append(1 - ours / fixed)
                latencies.append(1 - worst / slow)
    if savings:
        yield Gate(
            claim="the reference costs less than fixed fleets, as published (37.2 % on average)",
            ok=float(np.mean(savings)) > 0,
            measured=f"cost {-np.mean(savings):+.1%} ({-max(savings):+.1%} to {-min(savings):+.1%}), "
            f"worst latency {-np.mean(latencies):+.1%} ({-max(latencies):+.1%} to {-min(latencies):+.1%})",
        )


def _cost(measured: Sequence[Measured], workloads: Sequence[Compared]) -> Iterator[Gate]:
    for compared in workloads:
        for at in costs(measured, compared):
            alone = at.reference is None and at.ours is not None  # there is nothing that ours could be equal to
            told = (
                "only ours gets there" if alone else "not reached" if at.closed is None else f"{at.closed:.0%} closed"
            )
            yield Gate(
                claim=f"{compared.name}, {at.late:.1%} late: at least half of the reference's gap to the bound closed",
                ok=alone or (at.closed is not None and at.closed >= CLOSED_MIN),
                measured=f"{told}; reference {_above(at.reference)}, ours {_above(at.ours)}",
            )


def _above(cost: float | None) -> str:
    return "not reached" if cost is None else f"{cost - 1:+.1%}"


def _latency(measured: Sequence[Measured], workloads: Sequence[Compared]) -> Iterator[Gate]:
    """One fixed fleet for both, so that GPU-hours are equal."""
    for compared in workloads:
        if not compared.several:
            continue
        for policy, budget in (("epochal-reference-budget", "the reference's"), ("epochal", "our own")):
            lower = []
            for value in (lambda m: m.worst_ms, lambda m: m.p99_ms):
                theirs = mean_of(measured, compared, "turboserve", "latency", value)
                ours = mean_of(measured, compared, policy, "latency", value)
                if theirs is not None and ours is not None:
                    lower.append(1 - ours / theirs)
            if len(lower) == 2:
                yield Gate(
                    claim=f"{compared.name}, equal GPU-hours, {budget} move budget: "
                    f"worst and p99 latency at least {LOWER_MIN:.0%} lower",
                    ok=min(lower) >= LOWER_MIN,
                    measured=f"worst {-lower[0]:+.1%}, p99 {-lower[1]:+.1%}",
                )


def _near_bound(measured: Sequence[Measured], workloads: Sequence[Compared]) -> Iterator[Gate]:
    for compared in workloads:
        at = costs(measured, compared)[0]
        if compared.kind == "diurnal":
            yield Gate(
                claim=f"{compared.name}: at most {ABOVE_MAX:.0%} above the bound at {at.late:.1%} late",
                ok=at.ours is not None and at.ours - 1 <= ABOVE_MAX,
                measured=_above(at.ours),
            )
