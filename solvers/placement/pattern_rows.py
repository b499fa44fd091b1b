"""Rows that the patterns of all GPUs have to satisfy together: slots for all who need one, and the budgets.

Decides what a pattern adds to each row; must never know which patterns there are, nor how they are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from solvers.placement.pattern_ground import Ground
from solvers.placement.problem import BoolArray, IntArray

FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """sum over GPUs of gain >= least; gain = slots (by kind, cap and who stays) + what who leaves adds."""

    wide: BoolArray  # [rows, levels]: Q1, whose migrants count
    narrow: BoolArray  # [rows, levels]: Q2, whose waiting sessions count
    slot_gain: IntArray  # [rows, kinds, caps + 1, sessions + 1]; cap 0: nobody enters
    give_gain: IntArray  # [rows, levels]
    leaving_gain: IntArray  # [rows]: for each session that leaves a GPU to be emptied
    moved_gain: IntArray  # [rows]: for each MiB that leaves
    least: IntArray  # [rows]
    unit: FloatArray  # [rows]: what counts as one unit of slack

    @property
    def count(self) -> int:
        return len(self.least)

    def for_least_moved(self, share: float) -> Rows:
        """The same rows, but slack of others than the migrated size counts for this share only."""
        return replace(self, unit=np.where(self.moved_gain == 0, share * self.unit, self.unit))


def cover_rows(
    wide: BoolArray, narrow: BoolArray, waiting: IntArray, slots: IntArray, kinds: IntArray, admits: BoolArray
) -> Rows:
    """Enough slots, by memory too, for those of `narrow` who wait and those of `wide` who migrate."""
    room = np.where(wide[:, None, :], kinds[:, 3:], 0).max(axis=2)[:, :, None, None]
    slots = np.minimum(slots, room)
    hosts = np.minimum(slots, kinds[:, 1][:, None, None])
    for_all = (admits @ narrow.T).transpose(2, 0, 1)[:, kinds[:, 0], :, None]
    for_migrants = (admits @ wide.T).transpose(2, 0, 1)[:, kinds[:, 0], :, None]
    return Rows(
        wide=wide,
        narrow=narrow,
        slot_gain=np.where(for_all, slots, np.where(for_migrants, hosts, 0)),
        give_gain=-wide.astype(np.int64),
        leaving_gain=np.zeros(len(wide), dtype=np.int64),
        moved_gain=np.zeros(len(wide), dtype=np.int64),
        least=narrow @ waiting,
        unit=np.ones(len(wide)),
    )


def budget_rows(given: Ground, levels: int, shape: tuple[int, ...], *, sizes: bool) -> Rows:
    """Migrations in number, away from GPUs that are to be emptied, and in size."""
    total_mib = int(given.running.sum(axis=0) @ given.state_mib)
    # For each row: for each session that leaves, for each that leaves such a GPU, for each MiB, least, unit.
    table = [(-1, 0, 0, -min(given.moves_max, int(given.running.sum())), 1.0)]
    if given.leave_least > 0:
        table.append((0, 1, 0, given.leave_least, 1.0))
    if sizes:
        mean_mib = float(given.state_mib[given.present].mean())
        table.append((0, 0, -1, -min(given.moved_mib_max, total_mib), mean_mib))
    give, leaving, moved, least = (np.array([row[i] for row in table], dtype=np.int64) for i in range(4))
    nobody = np.zeros((len(table), levels), dtype=np.bool_)
    return Rows(
        wide=nobody,
        narrow=nobody,
        slot_gain=np.zeros((len(table), *shape), dtype=np.int64),
        give_gain=np.repeat(give[:, None], levels, axis=1),
        leaving_gain=leaving,
        moved_gain=moved,
        least=least,
        unit=np.array([row[4] for row in table]),
    )


def join(first: Rows, second: Rows) -> Rows:
    """All rows of both."""
    return Rows(
        wide=np.concatenate([first.wide, second.wide]),
        narrow=np.concatenate([first.narrow, second.narrow]),
        slot_gain=np.concatenate([first.slot_gain, second.slot_gain]),
        give_gain=np.concatenate([first.give_gain, second.give_gain]),
        leaving_gain=np.concatenate([first.leaving_gain, second.leaving_gain]),
        moved_gain=np.concatenate([first.moved_gain, second.moved_gain]),
        least=np.concatenate([first.least, second.least]),
        unit=np.concatenate([first.unit, second.unit]),
    )
