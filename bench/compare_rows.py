"""One run of the comparison as figures, and runs of one case as a row of the table.

Decides columns and spreads; must never know what is expected of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.compare_cases import Case, Compared
from bench.result import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One cell: a case at one seed."""

    case: Case
    seed: int
    summary: dict[str, Any]  # `epochal.summary/1`
    bound_dollars: float  # no schedule of this trace on this fleet costs less
    cpu_s: float

    @property
    def above(self) -> float:
        """How much more than the bound its GPUs cost, relative."""
        return float(self.summary["gpu_dollars"] / self.bound_dollars - 1.0)

    @property
    def late(self) -> float:
        return float(self.summary["late_chunk_ratio"])

    @property
    def worst_ms(self) -> float:
        return float(self.summary["chunk_latency_ms"]["max"])

    @property
    def p99_ms(self) -> float:
        return float(self.summary["chunk_latency_ms"]["p99"])


def of(measured: Sequence[Measured], compared: Compared) -> list[Measured]:
    """The cells of one workload."""
    return [one for one in measured if one.case.compared.name == compared.name]


def row_of(cells: Sequence[Measured]) -> dict[str, Cell]:
    """All seeds of one case: mean, and least to most where it matters."""
    case = cells[0].case
    told = ", ".join(f"{key}={value}" for key, value in case.parameters.items())

    def spread(value: Callable[[Measured], float], digits: int = 3) -> str:
        found = [value(m) for m in cells]
        if max(found) == min(found):
            return f"{found[0]:.{digits}g}"
        return f"{np.mean(found):.{digits}g} ({min(found):.{digits}g} to {max(found):.{digits}g})"

    def mean(value: Callable[[Measured], float]) -> float:
        return float(f"{np.mean([value(m) for m in cells]):.4g}")

    return {
        "workload": case.compared.name,
        "policy": f"{case.policy} {told}".strip(),
        "for": case.role,
        "GPU $": mean(lambda m: m.summary["gpu_dollars"]),
        "above bound %": spread(lambda m: 100 * m.above),
        "late %": spread(lambda m: 100 * m.late),
        "late first %": spread(lambda m: 100 * m.summary["late_first_chunk_ratio"]),
        "p99 ms": mean(lambda m: m.p99_ms),
        "worst ms": mean(lambda m: m.worst_ms),
        "stall s/h": mean(lambda m: 3600 * m.summary["stall_seconds"] / m.summary["horizon_s"]),
        "played on %": mean(lambda m: 100 * m.summary["continuous_play_ratio"]),
        "unserved s": mean(lambda m: m.summary["unserved_session_seconds"]),
        "migrations": mean(lambda m: m.summary["migrations"]),
        "CPU s": mean(lambda m: m.cpu_s),
    }
