"""The offline problem and its solutions, as numbers: periods, GPUs, prices and budgets; pieces and spans.

Decides what the offline solvers are given and what they answer; must never know names, files or how an answer is found.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from solvers.contents import TypeLimits

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

UNLIMITED = 2**31 - 1
NEVER_ON = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveBudget:
    """Limits on migrations at one epoch boundary."""

    moves: int = UNLIMITED
    out_per_gpu: int = UNLIMITED
    in_per_gpu: int = UNLIMITED
    gib: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineProblem:
    """Active periods to be placed on GPUs over time; problem.md section 5 in numbers.

    Periods are sorted by start. Classes are the profiles in use. GPUs are the physical slots of the pools, those of one
    type adjacent, in the order in which they are preferred.
    """

    start_us: Int64Array = field(repr=False)  # [periods]
    end_us: Int64Array = field(repr=False)  # [periods]
    class_index: Int32Array = field(repr=False)  # [periods]
    priority: Int32Array = field(repr=False)  # [periods], higher first
    home: Int32Array = field(repr=False)  # [periods]: GPU that holds the session at time 0, -1 if none
    epoch_us: int
    epochs: int  # ceil(horizon / epoch)
    types: tuple[TypeLimits, ...]  # [types]
    target_ms: tuple[float, ...]  # [classes]
    state_gib: tuple[float, ...]  # [classes]
    price_per_hour: tuple[float, ...]  # [types], dollars
    startup_us: tuple[int, ...]  # [types]
    gpu_type: Int32Array = field(repr=False)  # [gpus]
    gpu_node: Int32Array = field(repr=False)  # [gpus]
    gpu_always_on: npt.NDArray[np.bool_] = field(repr=False)  # [gpus]: usable throughout [0, horizon)
    gpu_on_us: Int64Array = field(repr=False)  # [gpus]: paid since this instant (<= 0) at time 0, or NEVER_ON
    transfer_same_s: tuple[float, ...]  # [classes]: a migration within a node
    transfer_cross_s: tuple[float, ...]  # [classes]: a migration between nodes
    budget: MoveBudget = MoveBudget()
    earliest_on_us: int = -(2**62)  # no other GPU is switched on before: 0 where time 0 is now

    @property
    def soonest_on_us(self) -> Int64Array:
        """[gpus]: no GPU that is off at time 0 is switched on before; its own start-up before 0 at the earliest."""
        startup_us = np.array(self.startup_us, dtype=np.int64)[self.gpu_type]
        return np.maximum(self.earliest_on_us, -startup_us // self.epoch_us * self.epoch_us)

    @property
    def periods(self) -> int:
        return len(self.start_us)

    @property
    def classes(self) -> int:
        return len(self.target_ms)

    @property
    def gpus(self) -> int:
        return len(self.gpu_type)

    @property
    def horizon_us(self) -> int:
        return int(self.end_us.max(initial=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineSolution:
    """Pieces (a period on a GPU during [start, end)) and spans (a GPU paid during [on, off)).

    Pieces are sorted by (period, start); a period whose pieces leave time uncovered is unserved there. A change of GPU
    between consecutive pieces of a period is a migration, at a multiple of the epoch. Spans are sorted by (gpu, on).
    """

    piece_period: Int32Array = field(repr=False)
    piece_gpu: Int32Array = field(repr=False)
    piece_start_us: Int64Array = field(repr=False)
    piece_end_us: Int64Array = field(repr=False)
    span_gpu: Int32Array = field(repr=False)
    span_on_us: Int64Array = field(repr=False)
    span_off_us: Int64Array = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineObjective:
    """What a solution is worth; compared lexicographically by `key`."""

    unserved_us: tuple[int, ...]  # per priority in use, highest first
    late_us: int
    gpu_dollars: float
    move_dollars: float
    migrations: int
    latency_ms_max: float
    latency_ms_mean: float  # weighted by session-seconds
    gpu_hours: float

    @property
    def dollars(self) -> float:
        return self.gpu_dollars + self.move_dollars

    def cost_key(self) -> tuple[tuple[int, ...], int, float]:
        """`--minimize cost`: unserved by priority, late, dollars."""
        return (self.unserved_us, self.late_us, self.dollars)

    def latency_key(self) -> tuple[tuple[int, ...], float, float, int]:
        """`--minimize latency`: unserved by priority, worst, mean, migrations."""
        return (self.unserved_us, self.latency_ms_max, self.latency_ms_mean, self.migrations)
