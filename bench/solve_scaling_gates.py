"""What the placement solver must achieve.

Decides the claims and their limits; must never know how a figure was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bench.result import Gate
from bench.solve_scaling_cases import CASES
from bench.solve_scaling_table import GAP_WANTED, Group, share_within

FIRST_PLAN_MS = {256: 10.0, 1024: 60.0}  # up to this many GPUs
ONE_CLASS_MS = {256: 5.0, 1024: 60.0}
OVERSHOOT_MAX = 0.10  # of the deadline, 99th percentile
SERVED_SHARE = {256: 0.95, 1024: 0.85}
PEAK_MIB = 1024.0
_EXACT = 1e-9


def gates_of(groups: Sequence[Group]) -> list[Gate]:
    """The claims that what was run speaks of, in the order of the table."""
    found = [_sound(groups), *_first_plans(groups), *_overshoots(groups), _memory(groups)]
    found += [gate for group in groups if _longest(group, groups) for gate in _quality(group)]
    return found


def _sound(groups: Sequence[Group]) -> Gate:
    """Every plan passes the check and serves everybody, and no bound is above what somebody else found."""
    faults = [f"{_name(group)}: {fault}" for group in groups for run in group.runs for fault in run.faults]
    measured = list({id(group.measured): group.measured for group in groups}.values())
    faults += [
        f"{m.case}, {m.gpus} GPUs, reference: {fault}" for m in measured for r in m.references for fault in r.faults
    ]
    faults += [f"{m.case}, {m.gpus} GPUs, {r.solver}: {fault}" for m in measured for r in m.raws for fault in r.faults]
    unserved = sum(run.unserved for group in groups for run in group.runs)
    count = sum(len(group.runs) for group in groups)
    return Gate(
        claim="every plan passes the check and serves everybody; no bound is above a placement that anybody found",
        ok=not faults and not unserved,
        measured=f"{count} plans, {unserved} sessions unserved, {len(faults)} faults"
        + "".join(f"; {f}" for f in faults[:3]),
    )


def _first_plans(groups: Sequence[Group]) -> Iterator[Gate]:
    for low, (high, limit_ms) in zip((0, *FIRST_PLAN_MS), FIRST_PLAN_MS.items(), strict=False):
        times_ms = [
            1000 * run.first_plan_s for group in groups if low < group.measured.gpus <= high for run in group.runs
        ]
        if times_ms:
            yield Gate(
                claim=f"up to {high} GPUs a first valid plan is there within {limit_ms:g} ms, always",
                ok=max(times_ms) <= limit_ms,
                measured=f"{max(times_ms):.3g} ms (worst of {len(times_ms)}), {np.median(times_ms):.3g} median",
            )


def _overshoots(groups: Sequence[Group]) -> Iterator[Gate]:
    for gpus, deadline_s in dict.fromkeys((group.measured.gpus, group.deadline_s) for group in groups):
        mine = [group for group in groups if (group.measured.gpus, group.deadline_s) == (gpus, deadline_s)]
        seconds = [second for group in mine for second in group.seconds]
        late = float(np.quantile(seconds, 0.99)) / deadline_s - 1
        yield Gate(
            claim=f"{gpus} GPUs, deadline {1000 * deadline_s:g} ms: p99 overshoot at most {100 * OVERSHOOT_MAX:g} %",
            ok=late <= OVERSHOOT_MAX,
            measured=f"{100 * max(late, 0.0):.1f} % (p99 {1000 * (1 + late) * deadline_s:.4g} ms, "
            f"max {1000 * max(seconds):.4g} ms, {len(seconds)} plans)",
        )


def _memory(groups: Sequence[Group]) -> Gate:
    peak = max(group.measured.peak_mib for group in groups)
    return Gate(
        claim=f"a process that plans takes at most {PEAK_MIB:g} MiB", ok=peak <= PEAK_MIB, measured=f"{peak:.0f} MiB"
    )


def _longest(group: Group, groups: Sequence[Group]) -> bool:
    """Quality is judged at the longest deadline that was run."""
    return group.deadline_s == max(other.deadline_s for other in groups)


def _quality(group: Group) -> Iterator[Gate]:
    case, gpus = CASES[group.measured.case], group.measured.gpus
    if case.classes == 1:
        yield from _one_class(group)
    elif case.batching == "turboserve" and gpus in SERVED_SHARE:
        if gpus == 256 and case.classes <= 4:
            yield _gate(group, "gap at most 0.1 % in every epoch", 1.0, lambda gaps: share_within(gaps) >= 1.0)
            yield _p95(group, 100.0)
        else:
            share = SERVED_SHARE[gpus]
            claim = f"gap at most 0.1 % in at least {100 * share:g} % of the epochs"
            yield _gate(group, claim, share, lambda gaps: share_within(gaps) >= share)
    elif case.batching == "grouped" and gpus == 256:
        if group.mode == "one-shot":
            yield _gate(group, "gap at most 0.1 %", 1.0, lambda gaps: share_within(gaps) >= 1.0)
        else:
            yield _gate(group, "mean gap at most 1 %", None, lambda gaps: float(np.mean(gaps)) <= 0.01)


def _one_class(group: Group) -> Iterator[Gate]:
    claim = "one class is solved exactly"
    yield _gate(group, claim, 1.0, lambda gaps: max(gaps) <= _EXACT)
    for gpus, limit_ms in ONE_CLASS_MS.items():
        if group.measured.gpus == gpus:
            yield _p95(group, limit_ms)


def _gate(group: Group, claim: str, share: float | None, holds: Callable[[Sequence[float]], bool]) -> Gate:
    gaps = group.gaps
    told = "" if share is None else f"{100 * share_within(gaps):.0f} % of {len(gaps)} within {100 * GAP_WANTED:g} %, "
    return Gate(
        claim=f"{_name(group)}: {claim}",
        ok=holds(gaps),
        measured=told + f"mean {100 * float(np.mean(gaps)):.3f} %, worst {100 * max(gaps):.3f} %",
    )


def _p95(group: Group, limit_ms: float) -> Gate:
    p95_ms = 1000 * float(np.quantile(group.seconds, 0.95))
    return Gate(
        claim=f"{_name(group)}: p95 at most {limit_ms:g} ms",
        ok=p95_ms <= limit_ms,
        measured=f"{p95_ms:.3g} ms, median {1000 * float(np.median(group.seconds)):.3g} ms",
    )


def _name(group: Group) -> str:
    return f"{group.measured.case}, {group.measured.gpus} GPUs, {group.mode}"
