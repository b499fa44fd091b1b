"""The cases of the placement benchmark: what is planned, at which fleet sizes, how often and how long.

Decides sizes, seeds and epochs; must never know how a case is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.placement_workloads import DRIFTS, PlacementWorkload
from bench.result import Size
from solvers.placement.problem import Batching

RAW_SOLVERS = (
    "cpsat",
    "highs",
)  # on the aggregated model of the whole problem, from the reference's placement, without bounds
RAW_DEADLINE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of fleet, at any number of GPUs."""

    batching: Batching
    classes: int
    types: int
    gap_wanted: float = 0.001  # what the planner is asked for

    @property
    def name(self) -> str:
        return f"{self.batching}-{self.classes}" + (f"-{self.types}types" if self.types > 1 else "")

    def workload(self, gpus: int, seed: int) -> PlacementWorkload:
        """Consecutive seeds go through the drifts in turn."""
        return PlacementWorkload(
            gpus=gpus,
            classes=self.classes,
            batching=self.batching,
            types=self.types,
            drift=DRIFTS[seed % len(DRIFTS)],
            seed=seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much of it a size runs. One-shot problems have seeds 0, 1, ...; closed loops begin with them."""

    gpus: tuple[int, ...]
    cases: tuple[str, ...]
    deadlines_s: tuple[float, ...]
    seeds: int  # one-shot problems per case
    chains: int  # closed loops per case
    epochs: int  # of each closed loop, at the longest deadline
    raw_seeds: int  # of the one-shot problems are given to each raw solver
    raw_gpus: tuple[int, ...]
    raw_cases: tuple[str, ...]
    plain_gpus_max: int  # the plain writing of the reference is timed up to this size


_ALL = tuple(
    Case(batching=batching, classes=classes, types=types, gap_wanted=0.0 if classes == 1 else 0.001)
    for batching in ("turboserve", "grouped", "packed")
    for classes in (1, 4, 12)
    for types in (1, 3)
)
CASES: Mapping[str, Case] = {case.name: case for case in _ALL}

EXTENTS: Mapping[Size, Extent] = {
    "small": Extent(
        gpus=(4, 64),
        cases=("turboserve-1", "turboserve-4", "grouped-4", "packed-4-3types"),
        deadlines_s=(1.0,),
        seeds=3,
        chains=1,
        epochs=3,
        raw_seeds=1,
        raw_gpus=(4,),
        raw_cases=("turboserve-4", "grouped-4"),
        plain_gpus_max=64,
    ),
    "standard": Extent(
        gpus=(4, 16, 64, 256, 1024),
        cases=tuple(CASES),
        deadlines_s=(0.1, 1.0),
        seeds=6,
        chains=1,
        epochs=50,
        raw_seeds=3,
        raw_gpus=(16, 256, 1024),
        raw_cases=("turboserve-4", "turboserve-12", "grouped-4", "grouped-12", "packed-4"),
        plain_gpus_max=256,
    ),
}
