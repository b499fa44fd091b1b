"""What a benchmark reports.

Decides the shape of a result: settings, hardware, table, gates; must never know what was measured or how it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from bench.hardware import Hardware, this_machine

Size = Literal["small", "standard"]
Cell = str | int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A claim that the figures must support."""

    claim: str  # "the gap is at most 1 %"
    ok: bool
    measured: str  # "0.31 % (worst of 5 seeds)"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """One run of one benchmark: what was done, on what, and what came out."""

    name: str
    settings: Mapping[str, Cell]  # workload, seeds and limits: what somebody needs to run it again
    rows: tuple[Mapping[str, Cell], ...]  # the table; every row has the same keys in the same order
    gates: tuple[Gate, ...]
    hardware: Hardware = field(default_factory=this_machine)

    def __post_init__(self) -> None:
        assert self.rows, f"{self.name}: a benchmark reports at least one row"
        assert all(list(row) == list(self.rows[0]) for row in self.rows), f"{self.name}: rows differ in their columns"

    @property
    def ok(self) -> bool:
        return all(gate.ok for gate in self.gates)


Benchmark = Callable[[Size], BenchResult]
