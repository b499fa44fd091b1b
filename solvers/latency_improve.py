"""Improving a whole schedule on a fixed fleet, piece by piece, under any potential of the GPUs' contents.

Decides how pieces are fed to the compiled search and how its answer is read back; must never know what is minimised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from solvers import latency_exchange, latency_kernel
from solvers.contents import ContentTable
from solvers.latency_kernel import DONE, Chains, Costs, Lines, Moves
from solvers.offline_problem import OfflineProblem
from solvers.sweep import Pieces

FloatArray = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

LONG_AGO_US = -(2**62)
CHUNK = 20_000  # pieces between two looks at the clock


class Improver:
    """One schedule that is changed in place, potential after potential."""

    def __init__(self, problem: OfflineProblem, tables: Sequence[ContentTable], pieces: Pieces) -> None:
        self._problem = problem
        first = np.cumsum([0, *(table.size for table in tables)])[:-1]
        self._empty = first.astype(np.int32)[problem.gpu_type]
        self._costs = _costs(problem, tables, first)
        self._slots = max(int(table.counts.sum(axis=1).max(initial=0)) for table in tables)
        self._chains = _chains(problem, pieces)
        self._moves = _moves(problem)
        self._touched = np.zeros(
            (problem.gpus, problem.epochs + 1), np.int32
        )  # the pass in which contents changed last
        self._pass = 0
        self._last: tuple[Sequence[FloatArray], bool] | None = None
        per_gpu = np.bincount(pieces.gpu, minlength=problem.gpus)
        self._lines = self._empty_lines(2 * int(per_gpu.max(initial=0)) + 64)
        latency_kernel.build(self._lines, self._chains, self._moves, self._costs)

    def total(self, potential: Sequence[FloatArray]) -> float:
        """The potential [types][contents], summed over GPUs and integrated over time in us."""
        return float(latency_kernel.total(self._lines, self._with(potential)))

    def run(
        self,
        potential: Sequence[FloatArray],
        *,
        split: bool,
        gain_min: float,
        stop: Callable[[], bool],
    ) -> float:
        """Try every piece once; returns the change of the total. `gain_min` is the least that a change must gain.

        The potential must not fall when a session is added, and a session must add at least what it has alone.
        """
        costs = self._with(potential)
        changed, piece = 0.0, 0
        last = int(self._chains.used[0])
        while piece < last and not stop():
            end = min(last, piece + CHUNK)
            reached, change = latency_kernel.improve(
                self._lines,
                self._chains,
                self._moves,
                costs,
                self._touched,
                self._pass,
                piece,
                end,
                gain_min,
                split,
            )
            changed += change
            piece = end if reached == DONE else reached
            self._reserve()
        return changed

    def swap(self, potential: Sequence[FloatArray], *, split: bool, gain_min: float, stop: Callable[[], bool]) -> float:
        """Try to exchange every session with every other that is active when it starts; as `run`.

        A second pass with the same potential leaves alone what has not changed since.
        """
        costs = self._with(potential)
        if self._last is None or self._last[0] is not potential or self._last[1] != split:
            self._touched[:] = self._pass
        self._last = (potential, split)
        used = int(self._chains.used[0])
        order = np.argsort(self._chains.start_us[:used], kind="stable")
        cursor = np.zeros(2, np.int64)
        members = np.zeros((self._problem.gpus, 4 * self._slots + 8), np.int32)
        count = np.zeros(self._problem.gpus, np.int64)
        changed = 0.0
        while cursor[0] < used and not stop():
            last = min(used, int(cursor[0]) + CHUNK // 10)
            _, change = latency_exchange.exchange(
                self._lines,
                self._chains,
                self._moves,
                costs,
                order,
                cursor,
                members,
                count,
                self._touched,
                self._pass,
                last,
                gain_min,
                split,
            )
            changed += change
            self._reserve()
        self._pass += 1
        return changed

    def pieces(self) -> Pieces:
        """The schedule as it is now."""
        used = int(self._chains.used[0])
        chains = self._chains
        alive = np.flatnonzero(chains.start_us[:used] < chains.end_us[:used])
        order = alive[np.lexsort((chains.start_us[alive], chains.period[alive]))]
        return Pieces(
            period=chains.period[order],
            gpu=chains.gpu[order],
            start_us=chains.start_us[order],
            end_us=chains.end_us[order],
        )

    def _with(self, potential: Sequence[FloatArray]) -> Costs:
        stacked = np.concatenate(potential)
        alone = self._costs.add[np.unique(self._empty)]
        values = np.where(alone >= 0, stacked[np.maximum(alone, 0)], np.inf).min(axis=0)
        return self._costs._replace(potential=stacked, alone=np.where(np.isfinite(values), values, 0.0))

    def _empty_lines(self, breaks: int) -> Lines:
        gpus = self._problem.gpus
        lines = Lines(
            at_us=np.zeros((gpus, breaks), np.int64),
            content=np.zeros((gpus, breaks), np.int32),
            size=np.ones(gpus, np.int64),
        )
        lines.at_us[:, 0] = LONG_AGO_US
        lines.content[:, 0] = self._empty
        return lines

    def _reserve(self) -> None:
        """More room for breaks and pieces where it runs out."""
        breaks = self._lines.at_us.shape[1]
        if int(self._lines.size.max(initial=0)) > breaks - 8:
            more = breaks // 2 + 64
            self._lines = self._lines._replace(
                at_us=np.pad(self._lines.at_us, ((0, 0), (0, more))),
                content=np.pad(self._lines.content, ((0, 0), (0, more))),
            )
        size = len(self._chains.gpu)
        if int(self._chains.used[0]) + 8 * self._problem.gpus + 2 > size:
            more = size // 2 + 8 * self._problem.gpus + 64
            self._chains = _longer(self._chains, more)


def _costs(problem: OfflineProblem, tables: Sequence[ContentTable], first: npt.NDArray[np.int64]) -> Costs:
    memory = np.array([limits.memory_gib for limits in problem.types])
    add = [np.where(table.add >= 0, table.add + base, -1) for table, base in zip(tables, first, strict=True)]
    remove = [np.where(table.remove >= 0, table.remove + base, -1) for table, base in zip(tables, first, strict=True)]
    return Costs(
        add=np.concatenate(add).astype(np.int32),
        remove=np.concatenate(remove).astype(np.int32),
        memory_gib=np.concatenate([table.memory_gib for table in tables]),
        potential=np.zeros(sum(table.size for table in tables)),
        alone=np.zeros(problem.classes),
        state_gib=np.array(problem.state_gib, dtype=np.float64),
        gpu_memory_gib=memory[problem.gpu_type],
    )


def _chains(problem: OfflineProblem, pieces: Pieces) -> Chains:
    """Pieces in the order of time, linked within their periods; periods not served throughout are fixed."""
    order = np.argsort(pieces.start_us, kind="stable")
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    same = pieces.period[1:] == pieces.period[:-1]
    before = np.full(len(order), -1, dtype=np.int32)
    after = np.full(len(order), -1, dtype=np.int32)
    before[1:][same] = rank[:-1][same]
    after[:-1][same] = rank[1:][same]
    served = np.zeros(problem.periods, dtype=np.int64)
    np.add.at(served, pieces.period, pieces.end_us - pieces.start_us)
    whole = served == problem.end_us - problem.start_us

    def sorted_(values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        return values[order]

    found = Chains(
        class_index=sorted_(problem.class_index[pieces.period].astype(np.int32)),
        gpu=sorted_(pieces.gpu.astype(np.int32)),
        start_us=sorted_(pieces.start_us),
        end_us=sorted_(pieces.end_us),
        before=sorted_(before),
        after=sorted_(after),
        fixed=sorted_(~whole[pieces.period]),
        pinned=sorted_((problem.home[pieces.period] >= 0) & (pieces.start_us == 0)),
        period=sorted_(pieces.period.astype(np.int32)),
        used=np.array([len(order)], dtype=np.int64),
    )
    return _longer(found, len(order) // 4 + 64)


def _longer(chains: Chains, more: int) -> Chains:
    """Room for that many more pieces."""

    def padded(values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        return np.concatenate([values, np.zeros(more, values.dtype)])

    return Chains(
        class_index=padded(chains.class_index),
        gpu=padded(chains.gpu),
        start_us=padded(chains.start_us),
        end_us=padded(chains.end_us),
        before=padded(chains.before),
        after=padded(chains.after),
        fixed=padded(chains.fixed),
        pinned=padded(chains.pinned),
        period=padded(chains.period),
        used=chains.used,
    )


def _moves(problem: OfflineProblem) -> Moves:
    budget, epochs = problem.budget, problem.epochs + 1
    return Moves(
        made=np.zeros(epochs, np.int64),
        gib=np.zeros(epochs),
        out=np.zeros((problem.gpus, epochs), np.int32),
        into=np.zeros((problem.gpus, epochs), np.int32),
        leaving_gib=np.zeros((problem.gpus, epochs)),
        epoch_us=problem.epoch_us,
        count_max=budget.moves,
        out_max=budget.out_per_gpu,
        in_max=budget.in_per_gpu,
        gib_max=min(budget.gib, 1e18),
    )
