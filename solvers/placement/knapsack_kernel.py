"""What may enter GPUs whose sessions add up (`packed`), for every room at once, compiled.

Decides the dearest filling of any room by dynamic programming, from above and from below; must never know which GPU
has which room. Rooms and sessions are counted in equal widths: from above sessions are rounded down, from below up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solvers.numba_kernel import inner, kernel
from solvers.placement.problem import IntArray

RealArray = npt.NDArray[np.float64]

WIDTHS = 4096  # of the largest room
ARRIVALS_MAX = 4  # by migration into one GPU; beyond, the search of `columns_kernel` is used instead
NOBODY, SAME = -1, -2  # of those who enter: none, or as with one width less


class Fillings(NamedTuple):
    """The dearest fillings by GPU type, arrivals by migration that may be among them, and widths of room."""

    width_us: int
    size_us: IntArray  # [types, classes]: the most that a session adds to f, 0 where the class cannot run
    upper: RealArray  # [types, arrivals + 1, widths + 1]: no filling is worth more
    lower: RealArray  # [types, arrivals + 1, widths + 1]: this one is
    choice: IntArray  # [types, arrivals + 1, widths + 1]: who enters: 2 * class + (1 by migration), or NOBODY


@inner
def _fill_rooms(size: IntArray, placing: RealArray, arriving: RealArray, worth: RealArray, choice: IntArray) -> None:
    """worth, choice [arrivals + 1, widths + 1] of one type, for sizes in widths; 0 is a class that cannot run."""
    for room in range(1, worth.shape[1]):
        for arrivals in range(worth.shape[0]):
            best = worth[arrivals, room - 1]
            who = SAME
            for k in range(size.shape[0]):
                if size[k] == 0 or size[k] > room:
                    continue
                by_waiting = placing[k] + worth[arrivals, room - size[k]]
                if by_waiting > best:
                    best, who = by_waiting, 2 * k
                if arrivals > 0:
                    by_migration = arriving[k] + worth[arrivals - 1, room - size[k]]
                    if by_migration > best:
                        best, who = by_migration, 2 * k + 1
            worth[arrivals, room] = best
            choice[arrivals, room] = who


@kernel
def fillings(
    least_us: IntArray, most_us: IntArray, level_us: int, arrivals: int, placing: RealArray, arriving: RealArray
) -> Fillings:
    """For all rooms up to a level; a session adds from `least_us` to `most_us` [types, classes] to f."""
    types, classes = most_us.shape
    width_us = max(1, -(-level_us // WIDTHS))
    shape = (types, arrivals + 1, WIDTHS + 1)
    upper, lower = np.zeros(shape), np.zeros(shape)
    choice = np.full(shape, NOBODY, np.int64)
    unused = np.full(shape, NOBODY, np.int64)
    size = np.zeros(classes, np.int64)
    for t in range(types):
        for k in range(classes):
            size[k] = max(1, least_us[t, k] // width_us) if least_us[t, k] > 0 else 0
        _fill_rooms(size, placing, arriving, upper[t], unused[t])
        for k in range(classes):
            size[k] = -(-most_us[t, k] // width_us)
        _fill_rooms(size, placing, arriving, lower[t], choice[t])
    return Fillings(width_us, most_us, upper, lower, choice)


@inner
def take_filling(rooms: Fillings, gpu_type: int, arrivals: int, room_us: int, entering: IntArray) -> None:
    """entering [2, classes]: who is in the dearest filling from below, arrived and placed."""
    entering[:] = 0
    room = min(room_us // rooms.width_us, WIDTHS)
    while room > 0:
        who = rooms.choice[gpu_type, arrivals, room]
        if who == NOBODY:
            return
        if who == SAME:
            room -= 1
            continue
        k = who // 2
        entering[0 if who % 2 else 1, k] += 1
        room -= -(-rooms.size_us[gpu_type, k] // rooms.width_us)
        arrivals -= who % 2
