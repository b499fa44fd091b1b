"""The placement problem of one control epoch: what is given, in whole numbers.

Decides what a well-formed problem is; must never know sessions, names, time or how it is solved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

Batching = Literal["grouped", "packed", "turboserve"]

NEVER_US = 1 << 40  # a latency that no batch may have: the class cannot run there, or the batch is too large
NO_TARGET_US = 1 << 50  # a target that is always met
UNLIMITED = 1 << 40  # a budget without a limit


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTables:
    """What a batch round takes; one formula for every batching model.

    f = sum_k alone_us[t, k, x_k] + max over present k of base_us[t, k] + common_us[t, sum_k x_k], and 0 if empty.
    grouped uses `alone_us` only; packed has b * n in it and its fixed part in `common_us`; turboserve has W in
    `base_us` and H in `common_us`. Non-decreasing in every count; 0 for 0 sessions; at least `NEVER_US` where a batch
    may not run. A count beyond the last column is the last column, so that is `NEVER_US` if counts can reach it.
    """

    batching: Batching
    alone_us: IntArray  # [types, classes, sessions + 1]
    base_us: IntArray  # [types, classes]
    common_us: IntArray  # [types, sessions + 1]

    @property
    def types(self) -> int:
        return int(self.alone_us.shape[0])

    @property
    def classes(self) -> int:
        return int(self.alone_us.shape[1])

    def steps_us(self) -> tuple[IntArray, IntArray]:
        """What one session more adds by its class [types, classes, sessions] and by number [types, sessions].

        `NEVER_US` where the larger batch may not run; beyond the last column nothing is added.
        """
        alone = np.concatenate([self.alone_us, self.alone_us[:, :, -1:]], axis=2)
        common = np.concatenate([self.common_us, self.common_us[:, -1:]], axis=1)
        own = np.where(alone[:, :, 1:] < NEVER_US, np.diff(alone, axis=2), NEVER_US)
        shared = np.where(common[:, 1:] < NEVER_US, np.diff(common, axis=1), NEVER_US)
        return own.astype(np.int64), shared.astype(np.int64)

    def latency_us(self, gpu_type: npt.NDArray[np.integer], counts: IntArray) -> IntArray:
        """f of each row: types [rows], counts [rows, classes] -> microseconds [rows], at most about `NEVER_US`."""
        last = self.alone_us.shape[2] - 1
        total = counts.sum(axis=1)
        columns = np.minimum(counts, last)
        alone = self.alone_us[gpu_type[:, None], np.arange(self.classes)[None, :], columns].sum(axis=1)
        base = np.where(counts > 0, self.base_us[gpu_type], 0).max(axis=1, initial=0)
        common = self.common_us[gpu_type, np.minimum(total, self.common_us.shape[1] - 1)]
        return np.where(total > 0, np.minimum(alone + base + common, NEVER_US), 0).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """Which tiers of the objective count; `repair` and `serve` always do."""

    meet: bool = True
    leave: bool = True
    balance: bool = True
    move: bool = True
    smooth: bool = True
    balance_gain_min: float = (
        0.01  # below the target, migrations only count if they lower the worst latency by this share
    )
    balance_tolerance: float = 0.001  # two worst latencies this close are equal
    smooth_moves: int = 0  # migrations that smoothing may spend


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Who is where, who waits, and what may move.

    Sessions of one class are interchangeable. `running` counts active sessions; idle ones are no part of the problem:
    they can be offloaded, so they never hold up a placement. Those that cannot are taken off `memory_mib`.
    """

    tables: RoundTables
    gpu_type: npt.NDArray[np.int32]  # [gpus]
    running: IntArray  # [gpus, classes]: active sessions on each GPU now
    waiting: IntArray  # [classes]: active sessions without a GPU
    receives: BoolArray  # [gpus]: may take sessions
    leaving: BoolArray  # [gpus]: to be emptied (drained); never receives
    memory_mib: IntArray  # [gpus]: for states of active sessions; what others hold is taken off
    state_mib: IntArray  # [classes], > 0
    target_us: IntArray  # [classes]; NO_TARGET_US: none
    transfer_us: IntArray  # [classes]: what a migrated session waits before its next chunk
    lateness_weight: IntArray  # [classes], >= 1
    priority_rank: npt.NDArray[np.int32]  # [classes]: 0 is served first; ranks are 0, 1, 2 ... without holes
    moves_max: int  # migrations
    moved_mib_max: int
    out_max: IntArray  # [gpus]: migrations out of each GPU
    in_max: IntArray  # [gpus]: migrations into each GPU
    tiers: Tiers = Tiers()

    def __post_init__(self) -> None:
        gpus, classes = self.running.shape
        assert self.gpu_type.shape == (gpus,)
        assert self.receives.shape == self.leaving.shape == self.memory_mib.shape == (gpus,)
        assert self.out_max.shape == self.in_max.shape == (gpus,)
        assert self.tables.classes == classes
        assert (
            self.waiting.shape == self.state_mib.shape == self.target_us.shape == self.transfer_us.shape == (classes,)
        )
        assert self.lateness_weight.shape == self.priority_rank.shape == (classes,)
        assert (self.running >= 0).all()
        assert (self.waiting >= 0).all()
        assert not (self.receives & self.leaving).any(), "a GPU that is to be emptied receives nothing"

    @property
    def gpus(self) -> int:
        return int(self.running.shape[0])

    @property
    def classes(self) -> int:
        return int(self.running.shape[1])

    @property
    def ranks(self) -> int:
        return int(self.priority_rank.max(initial=-1)) + 1

    def latency_us(self, counts: IntArray) -> IntArray:
        """f of every GPU for counts [gpus, classes]."""
        return self.tables.latency_us(self.gpu_type, counts)
