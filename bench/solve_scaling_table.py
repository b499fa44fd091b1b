"""What was measured as rows: one for each case, fleet size, mode and deadline.

Decides how runs become a spread and how the reference is compared; must never know a gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.result import Cell
from bench.solve_scaling_cases import CASES
from bench.solve_scaling_measure import LOADS, Measured, Mode, Raw, Reference, Run

GAP_WANTED = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Our runs that one row tells of, with everything measured on the same problems."""

    measured: Measured
    mode: Mode
    deadline_s: float
    runs: tuple[Run, ...]

    @property
    def gaps(self) -> list[float]:
        return [run.gap for run in self.runs]

    @property
    def seconds(self) -> list[float]:
        return [run.seconds for run in self.runs]

    def overshoot(self, share: float) -> float:
        """Percentile of how much longer than its deadline a run took, as a share; negative if it was earlier."""
        return float(np.quantile(self.seconds, share)) / self.deadline_s - 1


def groups_of(measured: Measured) -> list[Group]:
    """In the order: one-shot by deadline, then closed loop."""
    keys = dict.fromkeys((run.mode, run.deadline_s) for run in measured.runs)
    return [
        Group(
            measured=measured,
            mode=mode,
            deadline_s=deadline_s,
            runs=tuple(run for run in measured.runs if (run.mode, run.deadline_s) == (mode, deadline_s)),
        )
        for mode, deadline_s in keys
    ]


def row_of(group: Group) -> dict[str, Cell]:
    """Times are milliseconds; less than 0 % against the reference is better than it."""
    case, measured, runs = CASES[group.measured.case], group.measured, group.runs
    own, equal = (references_of(group, equal_budget=equal) for equal in (False, True))
    plain_s = [reference.plain_s for reference in own if reference.plain_s is not None]
    return {
        "case": case.name,
        "GPUs": measured.gpus,
        "mode": group.mode,
        "deadline ms": round(1000 * group.deadline_s),
        "plans": len(runs),
        "first plan ms: median/max": _milliseconds([run.first_plan_s for run in runs], (0.5, 1.0)),
        "solve ms: median/p95/max": _milliseconds(group.seconds, (0.5, 0.95, 1.0)),
        "gap %: mean/max": f"{100 * float(np.mean(group.gaps)):.3f}/{100 * max(group.gaps):.3f}",
        "share <= 0.1 %": share_within(group.gaps),
        "worst ms": float(np.median([run.value_us for run in runs])) / 1000,
        "vs reference %: mean/best/worst": _against(runs, own, group.mode),
        "at equal budget %": _against(runs, equal, group.mode),
        "moves": float(np.mean([run.moves for run in runs])),
        "reference's moves: own/equal": f"{_moves(own):.3g}/{_moves(equal):.3g}",
        "reference ms: median/max": _milliseconds([reference.seconds for reference in own], (0.5, 1.0)),
        "written plainly": _milliseconds(plain_s, (0.5, 1.0)) if plain_s else None,
        "CP-SAT: build/all ms, gap %, vs ours %": _raw(group, "cpsat"),
        "HiGHS: build/all ms, gap %, vs ours %": _raw(group, "highs"),
        "peak MiB": round(measured.peak_mib),
    }


def share_within(gaps: Sequence[float]) -> float:
    """Share of plans whose gap is at most 0.1 %."""
    return float(np.mean([gap <= GAP_WANTED + 1e-9 for gap in gaps]))


def references_of(group: Group, *, equal_budget: bool) -> list[Reference]:
    """The reference's runs with the measure of load that serves it better: per problem, or per closed loop."""
    runs = [run for run in group.measured.references if run.mode == group.mode and run.equal_budget == equal_budget]
    chains = dict.fromkeys((run.seed, run.epoch if group.mode == "one-shot" else 0) for run in runs)
    best: list[Reference] = []
    for seed, epoch in chains:
        same = [run for run in runs if run.seed == seed and (group.mode == "closed loop" or run.epoch == epoch)]
        ways = [[run for run in same if run.load == load] for load in LOADS]
        best += min(ways, key=lambda way: (sum(run.unserved for run in way), sum(run.value_us for run in way)))
    return best


def compared(runs: Sequence[Run], references: Sequence[Reference], mode: Mode) -> list[float]:
    """Our worst latency over theirs, less 1: of each problem, or of each epoch of two loops with equal crowds."""
    assert mode in ("one-shot", "closed loop")
    theirs = {(reference.seed, reference.epoch): reference.value_us for reference in references}
    return [run.value_us / theirs[run.seed, run.epoch] - 1 for run in runs if theirs.get((run.seed, run.epoch))]


def _against(runs: Sequence[Run], references: Sequence[Reference], mode: Mode) -> str:
    shares = [100 * share for share in compared(runs, references, mode)]
    unserved = sum(reference.unserved for reference in references)
    told = f"{float(np.mean(shares)):+.1f}/{min(shares):+.1f}/{max(shares):+.1f}"
    return told + (f"; it leaves {unserved} waiting" if unserved else "")


def _moves(references: Sequence[Reference]) -> float:
    return float(np.mean([reference.moves for reference in references]))


def _milliseconds(seconds: Sequence[float], quantiles: Sequence[float]) -> str:
    return "/".join(f"{1000 * float(np.quantile(seconds, quantile)):.3g}" for quantile in quantiles)


def _raw(group: Group, solver: str) -> str | None:
    """Medians: ms to build and in all, gap by its own bound, worst latency against ours; only beside one-shot rows."""
    ours = {run.seed: run.value_us for run in group.runs}
    raws = [raw for raw in group.measured.raws if raw.solver == solver]
    if not raws or group.mode != "one-shot":
        return None
    times = [1000 * float(np.median([getattr(raw, name) for raw in raws])) for name in ("build_s", "seconds")]
    told = f"{times[0]:.3g}/{times[1]:.3g}"
    served = [raw for raw in raws if raw.value_us is not None]
    if len(served) < len(raws):
        told += f", {len(raws) - len(served)} of {len(raws)} leave somebody waiting"
    if served:
        above = float(np.median([100 * ((raw.value_us or 0) / ours[raw.seed] - 1) for raw in served]))
        told += f", {100 * float(np.median([raw_gap(raw) for raw in served])):.3f}, {above:+.1f}"
    return told


def raw_gap(raw: Raw) -> float:
    """By the solver's own bound."""
    assert raw.value_us is not None
    return max(0.0, 1 - raw.bound_us / raw.value_us)
