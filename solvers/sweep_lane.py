"""Where one thread's sweep stands and what it left behind, to be saved and gone back to.

Decides how much of it is copied; must never know how epochs are swept or compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from solvers.offline_problem import OfflineProblem
from solvers.sweep_state import I_COUNT, I_ROW, I_WAITING, N_COLUMNS, State, Trail

_Number = TypeVar("_Number", np.int32, np.int64)
_PER_PERIOD = frozenset({"gpu_of", "waiting", "last_gpu"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Periods on GPUs, sorted by (period, start)."""

    period: npt.NDArray[np.int32]
    gpu: npt.NDArray[np.int32]
    start_us: npt.NDArray[np.int64]
    end_us: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Saved:
    """A state that can be gone back to, and the trail since then."""

    state: State
    row: int
    rows_from: int
    rows: tuple[npt.NDArray[Any], ...]
    counts: npt.NDArray[np.int64] | None
    opened: npt.NDArray[np.bool_] | None
    epochs: tuple[int, int]


class Lane:
    """State and trail of one thread."""

    def __init__(self, problem: OfflineProblem, empty: npt.NDArray[np.int32], slots: int) -> None:
        gpus, classes, periods = problem.gpus, problem.classes, problem.periods
        self.state = State(
            cursor=np.zeros(I_COUNT, np.int64),
            content=empty.copy(),
            member=np.full((gpus, slots), -1, np.int32),
            since_us=np.zeros((gpus, slots), np.int64),
            moved=np.zeros((gpus, slots), np.bool_),
            members=np.zeros(gpus, np.int32),
            off_us=np.zeros(gpus, np.int64),
            active=np.zeros(gpus, np.bool_),
            ready_us=np.zeros(gpus, np.int64),
            last_end_us=np.zeros(gpus, np.int64),
            blocked_us=np.zeros((gpus, classes), np.int64),
            gpu_of=np.full(periods, -1, np.int32),
            waiting=np.zeros(periods, np.int32),
            last_gpu=np.full(periods, -1, np.int32),
            boundary_gib=np.zeros(gpus, np.float64),
            on_list=np.zeros(gpus, np.int32),
        )
        self.trail = Trail(
            opened=np.zeros((gpus, problem.epochs), np.bool_),
            counts=np.zeros((problem.epochs, N_COLUMNS), np.int64),
            period=np.zeros(0, np.int32),
            gpu=np.zeros(0, np.int32),
            start_us=np.zeros(0, np.int64),
            end_us=np.zeros(0, np.int64),
        )

    def reserve(self, rows: int) -> None:
        """Room for that many more rows."""
        wanted = int(self.state.cursor[I_ROW]) + rows
        if wanted > len(self.trail.period):
            size = max(wanted, len(self.trail.period) * 3 // 2)
            trail = self.trail
            self.trail = trail._replace(
                period=_grown(trail.period, size),
                gpu=_grown(trail.gpu, size),
                start_us=_grown(trail.start_us, size),
                end_us=_grown(trail.end_us, size),
            )

    def save(self, rows_from: int = 0, epochs: tuple[int, int] = (0, 0)) -> Saved:
        """A copy of everything that a sweep changes; large arrays only as far as they matter."""
        state = self.state
        small = {name: getattr(state, name).copy() for name in State._fields if name not in _PER_PERIOD}
        waiting = int(state.cursor[I_WAITING])
        row = int(state.cursor[I_ROW])
        first, last = epochs
        kept = tuple(part[rows_from:row].copy() for part in self._rows()) if last else ()
        return Saved(
            state=state._replace(
                **small,
                waiting=state.waiting[:waiting].copy(),
                last_gpu=state.last_gpu[state.waiting[:waiting]].copy(),
            ),
            row=row,
            rows_from=rows_from,
            rows=kept,
            counts=self.trail.counts[first:last].copy() if last else None,
            opened=self.trail.opened[:, first:last].copy() if last else None,
            epochs=epochs,
        )

    def restore(self, saved: Saved) -> None:
        """Go back to where `save` was called; with the trail where it was saved, too."""
        state = self.state
        for name in State._fields:
            if name not in _PER_PERIOD:
                getattr(state, name)[...] = getattr(saved.state, name)
        waiting = len(saved.state.waiting)
        state.waiting[:waiting] = saved.state.waiting
        state.last_gpu[saved.state.waiting] = saved.state.last_gpu
        for gpu in np.flatnonzero(state.members):
            state.gpu_of[state.member[gpu, : state.members[gpu]]] = gpu
        state.gpu_of[state.waiting[:waiting]] = -1
        if saved.counts is not None and saved.opened is not None:
            first, last = saved.epochs
            self.trail.counts[first:last] = saved.counts
            self.trail.opened[:, first:last] = saved.opened
            self.reserve(max(0, saved.row - int(state.cursor[I_ROW])))
            for part, kept in zip(self._rows(), saved.rows, strict=True):
                if len(part) < saved.row:
                    raise AssertionError("rows were not reserved")
                part[saved.rows_from : saved.row] = kept

    def pieces(self) -> Pieces:
        """What the trail holds so far."""
        rows = int(self.state.cursor[I_ROW])
        period, gpu = self.trail.period[:rows], self.trail.gpu[:rows]
        start_us, end_us = self.trail.start_us[:rows], self.trail.end_us[:rows]
        order = np.lexsort((start_us, period))
        return Pieces(period=period[order], gpu=gpu[order], start_us=start_us[order], end_us=end_us[order])

    def _rows(self) -> tuple[npt.NDArray[Any], ...]:
        return (self.trail.period, self.trail.gpu, self.trail.start_us, self.trail.end_us)


def _grown(part: npt.NDArray[_Number], size: int) -> npt.NDArray[_Number]:
    larger = np.zeros(size, part.dtype)
    larger[: len(part)] = part
    return larger
