"""The sweep stage: schedules for traces of any size, improved while there is time.

Decides how the compiled sweep is fed, and which of its variants is kept for each stretch of time; must never know where
prices, needs or names come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from solvers import sweep_kernel
from solvers.contents import ContentTable
from solvers.offline_problem import NEVER_ON, OfflineProblem
from solvers.sweep_kernel import Fleet, Limits, State, Tables, Trail, Work

NO_GAIN = 1e300  # a weight that forbids

# waste, misfit, slack, room, misfit length, align, move, improve; found by search on the workloads of bench/offline.py
BASE_WEIGHTS = (3.0, 0.1, 0.02, 0.05, 0.1, 0.03, 0.1, 0.0)
RELUCTANCE = 0.5  # part of a session's value that is waste on a GPU type that a cheapest packing does not use
THREADS = 2
BLOCK_EPOCHS = 12  # epochs per rollout
SPREAD = 0.7  # of the logarithm of each weight in a variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Periods on GPUs, sorted by (period, start)."""

    period: npt.NDArray[np.int32]
    gpu: npt.NDArray[np.int32]
    start_us: npt.NDArray[np.int64]
    end_us: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What the sweep's score is made of, per type's contents and per class."""

    waste: tuple[npt.NDArray[np.float64], ...]  # [types][contents]
    room: tuple[npt.NDArray[np.float64], ...]  # [types][contents]
    class_value: npt.NDArray[np.float64]  # [classes]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepCost:
    """Compared lexicographically: who is unserved, who is late, GPU-epochs beyond the plan in dollars."""

    unserved: int
    late: int
    dollars: float

    def key(self) -> tuple[int, int, float]:
        return (self.unserved, self.late, self.dollars)


def worth_of(
    tables: Sequence[ContentTable],
    values: Sequence[float],
    limits: Sequence[float],
    shares: npt.NDArray[np.float64] | None = None,
) -> Worth:
    """Worth by class values (an inequality's weights): waste is the value that no completion of a content can reach.

    `shares` [types, classes] says where a cheapest packing has each class; elsewhere its sessions count as waste, too.
    """
    value = np.array(values)
    top = max(limits)
    waste, room = [], []
    for t, (table, limit) in enumerate(zip(tables, limits, strict=True)):
        own = table.counts @ value
        completion = own.copy()
        for row in range(table.size - 1, -1, -1):
            after = table.add[row][table.add[row] >= 0]
            if len(after):
                completion[row] = max(completion[row], completion[after].max())
        reluctance = np.zeros(len(value)) if shares is None else RELUCTANCE * (1.0 - shares[t]) * value
        waste.append((limit - completion + table.counts @ reluctance) / top)
        room.append(1.0 - own / limit if limit > 0 else np.ones(table.size))
    return Worth(waste=tuple(waste), room=tuple(room), class_value=value / top)


class Sweep:
    """One problem, one plan of GPUs on, ready to be swept with any weights."""

    def __init__(
        self,
        problem: OfflineProblem,
        tables: Sequence[ContentTable],
        worth: Worth,
        planned: npt.NDArray[np.bool_],
    ) -> None:
        self._problem = problem
        self._work = Work(
            start_us=problem.start_us,
            end_us=problem.end_us,
            class_index=problem.class_index.astype(np.int32),
            priority=problem.priority.astype(np.int32),
            home=problem.home.astype(np.int32),
            by_end=np.argsort(problem.end_us, kind="stable").astype(np.int32),
        )
        self._tables, first = _stack(tables, worth, problem)
        self._fleet = _fleet(problem, tables, first, planned)
        budget = problem.budget
        self._limits = Limits(
            epoch_us=problem.epoch_us,
            moves=budget.moves,
            out_per_gpu=budget.out_per_gpu,
            in_per_gpu=budget.in_per_gpu,
            gib=min(budget.gib, 1e18),
        )
        self._slots = 1 + max(int(table.counts.sum(axis=1).max(initial=0)) for table in tables)
        self._price = np.array([problem.price_per_hour[t] for t in problem.gpu_type]) * problem.epoch_us / 3.6e9

    def run(
        self,
        weights: Sequence[float] = BASE_WEIGHTS,
        *,
        variants: int = 1,
        seed: int = 0,
        stop: Callable[[], bool] = lambda: False,
        until_served: bool = False,
    ) -> tuple[Pieces, SweepCost, npt.NDArray[np.bool_]]:
        """Sweep all epochs. With several variants of the weights, each block of epochs keeps the best of them.

        With `until_served` a block is swept with variants only if the weights as given leave somebody unserved.
        Returns the pieces, what they cost beyond the plan, and which GPUs were on [gpus, epochs]. When `stop` says so,
        the rest is swept with one variant.
        """
        random = np.random.default_rng(seed)
        epochs = self._problem.epochs
        lanes = [self._lane() for _ in range(min(THREADS, variants))]
        block = epochs if variants == 1 else BLOCK_EPOCHS
        base = np.array(weights, dtype=np.float64)
        with ThreadPoolExecutor(max_workers=len(lanes)) as pool:
            for first in range(0, epochs, block):
                last = min(epochs, first + block)
                if variants == 1 or stop():
                    self._sweep(lanes[0], base, first, epochs)
                    break
                if until_served and self._serves(lanes[0], base, first, last):
                    continue
                candidates = [base, *(_vary(base, random) for _ in range(variants - 1))]
                self._best_of(lanes, candidates, first, last, pool)
        pieces = lanes[0].pieces()
        on = self._fleet.planned | lanes[0].trail.opened
        return pieces, self._cost(lanes[0], 0, epochs), on

    def _serves(self, lane: _Lane, weights: npt.NDArray[np.float64], first: int, last: int) -> bool:
        """Sweep [first, last); if somebody is unserved, go back to where it started."""
        start = lane.save()
        self._sweep(lane, weights, first, last)
        if self._cost(lane, first, last).unserved == 0:
            return True
        lane.restore(start)
        return False

    def _best_of(
        self,
        lanes: list[_Lane],
        candidates: list[npt.NDArray[np.float64]],
        first: int,
        last: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        """Sweep [first, last) with every candidate from the same state; leave lane 0 at the end of the best."""
        start = lanes[0].save()
        shares = [candidates[lane :: len(lanes)] for lane in range(len(lanes))]

        def best_in(lane: _Lane, share: list[npt.NDArray[np.float64]]) -> tuple[tuple[int, int, float], int, _Saved]:
            best: tuple[tuple[int, int, float], int, _Saved] | None = None
            for index, weights in enumerate(share):
                lane.restore(start)
                self._sweep(lane, weights, first, last)
                key = self._cost(lane, first, last).key()
                if best is None or key < best[0]:
                    best = (key, index, lane.save(rows_from=start.row, epochs=(first, last)))
            assert best is not None
            return best

        results = [
            r.result() for r in [pool.submit(best_in, lane, share) for lane, share in zip(lanes, shares, strict=True)]
        ]
        lanes[0].restore(min(results, key=lambda r: (r[0], r[1]))[2])

    def _sweep(self, lane: _Lane, weights: npt.NDArray[np.float64], first: int, last: int) -> None:
        step = max(1, min(last - first, 1 + 200_000 // (4 * self._problem.gpus + 1)))
        for begin in range(first, last, step):
            end = min(last, begin + step)
            arrivals = np.searchsorted(self._work.start_us, end * self._problem.epoch_us) - lane.state.cursor[0]
            held = int(lane.state.members.sum() + lane.state.cursor[3])
            lane.reserve(int(5 * arrivals + 3 * held + 4 * self._problem.gpus * (end - begin) + 1024))
            sweep_kernel.run_epochs(
                lane.state, self._work, self._tables, self._fleet, self._limits, weights, lane.trail, begin, end
            )

    def _cost(self, lane: _Lane, first: int, last: int) -> SweepCost:
        counts = lane.trail.counts[first:last]
        opened = lane.trail.opened[:, first:last]
        edges = opened.copy()
        edges[:, 1:] &= ~(opened[:, :-1] | self._fleet.planned[:, first : last - 1])
        edges[:, :-1] &= ~self._fleet.planned[:, first + 1 : last]
        dollars = float(self._price @ opened.sum(axis=1) + (self._price * self._fleet.lead) @ edges.sum(axis=1))
        waiting = int(lane.state.cursor[3])
        move_dollars = float(counts[:, 3].sum()) * self._move_dollars()
        return SweepCost(
            unserved=int(counts[:, 4].sum()) + waiting, late=int(counts[:, 5].sum()), dollars=dollars + move_dollars
        )

    def _move_dollars(self) -> float:
        return max(self._problem.transfer_cross_s) * max(self._problem.price_per_hour) / 3600

    def _lane(self) -> _Lane:
        return _Lane(self._problem, self._fleet.empty, self._slots)


@dataclass(frozen=True, slots=True)
class _Saved:
    """A state that can be gone back to, and the trail since then."""

    state: State
    row: int
    rows_from: int
    rows: tuple[npt.NDArray[Any], ...]
    counts: npt.NDArray[np.int64] | None
    opened: npt.NDArray[np.bool_] | None
    epochs: tuple[int, int]


class _Lane:
    """State and trail of one thread."""

    def __init__(self, problem: OfflineProblem, empty: npt.NDArray[np.int32], slots: int) -> None:
        gpus, classes, periods = problem.gpus, problem.classes, problem.periods
        self.state = State(
            cursor=np.zeros(5, np.int64),
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
            counts=np.zeros((problem.epochs, 6), np.int64),
            period=np.zeros(0, np.int32),
            gpu=np.zeros(0, np.int32),
            start_us=np.zeros(0, np.int64),
            end_us=np.zeros(0, np.int64),
        )

    def reserve(self, rows: int) -> None:
        """Room for that many more rows."""
        wanted = int(self.state.cursor[2]) + rows
        if wanted > len(self.trail.period):
            size = max(wanted, len(self.trail.period) * 3 // 2)
            trail = self.trail
            self.trail = trail._replace(
                period=_grown(trail.period, size),
                gpu=_grown(trail.gpu, size),
                start_us=_grown(trail.start_us, size),
                end_us=_grown(trail.end_us, size),
            )

    def save(self, rows_from: int = 0, epochs: tuple[int, int] = (0, 0)) -> _Saved:
        """A copy of everything that a sweep changes; large arrays only as far as they matter."""
        state = self.state
        small = {name: getattr(state, name).copy() for name in State._fields if name not in _PER_PERIOD}
        waiting = int(state.cursor[3])
        row = int(state.cursor[2])
        first, last = epochs
        kept = tuple(part[rows_from:row].copy() for part in self._rows()) if last else ()
        return _Saved(
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

    def restore(self, saved: _Saved) -> None:
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
            self.reserve(max(0, saved.row - int(state.cursor[2])))
            for part, kept in zip(self._rows(), saved.rows, strict=True):
                if len(part) < saved.row:
                    raise AssertionError("rows were not reserved")
                part[saved.rows_from : saved.row] = kept

    def _rows(self) -> tuple[npt.NDArray[Any], ...]:
        return (self.trail.period, self.trail.gpu, self.trail.start_us, self.trail.end_us)

    def pieces(self) -> Pieces:
        rows = int(self.state.cursor[2])
        period, gpu = self.trail.period[:rows], self.trail.gpu[:rows]
        start_us, end_us = self.trail.start_us[:rows], self.trail.end_us[:rows]
        order = np.lexsort((start_us, period))
        return Pieces(period=period[order], gpu=gpu[order], start_us=start_us[order], end_us=end_us[order])


_Number = TypeVar("_Number", np.int32, np.int64)
_PER_PERIOD = frozenset({"gpu_of", "waiting", "last_gpu"})


def _grown(part: npt.NDArray[_Number], size: int) -> npt.NDArray[_Number]:
    larger = np.zeros(size, part.dtype)
    larger[: len(part)] = part
    return larger


def _vary(base: npt.NDArray[np.float64], random: np.random.Generator) -> npt.NDArray[np.float64]:
    varied = base * np.exp(SPREAD * random.standard_normal(len(base)))
    return np.where(base >= NO_GAIN, base, varied)


def _stack(tables: Sequence[ContentTable], worth: Worth, problem: OfflineProblem) -> tuple[Tables, list[int]]:
    """All types' contents one after another; returns also the row of each type's empty content."""
    first = np.cumsum([0, *(table.size for table in tables)])
    add = [np.where(table.add >= 0, table.add + base, -1) for table, base in zip(tables, first, strict=False)]
    remove = [np.where(table.remove >= 0, table.remove + base, -1) for table, base in zip(tables, first, strict=False)]
    stacked = Tables(
        add=np.concatenate(add).astype(np.int32),
        remove=np.concatenate(remove).astype(np.int32),
        late=np.concatenate([table.late for table in tables]).astype(np.int32),
        memory_gib=np.concatenate([table.memory_gib for table in tables]),
        waste=np.concatenate(worth.waste),
        room=np.concatenate(worth.room),
        class_value=np.asarray(worth.class_value, dtype=np.float64),
        to_eject=np.concatenate([_to_eject(table, worth.class_value) for table in tables]),
        state_gib=np.array(problem.state_gib, dtype=np.float64),
    )
    return stacked, [int(base) for base in first[:-1]]


def _to_eject(table: ContentTable, class_value: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """[contents, classes]: fewest sessions of lighter classes to remove so that one more fits on time; 99: never."""
    never = 99
    fewest = np.full(table.add.shape, never, dtype=np.int32)
    for k in range(table.add.shape[1]):
        fits = (table.add[:, k] >= 0) & (table.late[np.maximum(table.add[:, k], 0)] == 0)
        fewest[fits, k] = 0
        for row in range(table.size):  # contents are sorted by size, so what removal leads to comes first
            for lighter in np.flatnonzero(class_value < class_value[k]):
                before = table.remove[row, lighter]
                if before >= 0:
                    fewest[row, k] = min(fewest[row, k], fewest[before, k] + 1)
    return fewest


def _fleet(
    problem: OfflineProblem, tables: Sequence[ContentTable], first: list[int], planned: npt.NDArray[np.bool_]
) -> Fleet:
    types = problem.gpu_type
    startup_us = np.array(problem.startup_us, dtype=np.int64)
    memory = np.array([t.memory_gib for t in problem.types])
    largest = np.array([table.memory_gib.max(initial=0.0) for table in tables])
    on_before = problem.gpu_on_us != NEVER_ON
    usable_us = np.where(on_before, problem.gpu_on_us, problem.soonest_on_us) + startup_us[types]
    return Fleet(
        planned=planned,
        empty=np.array(first, dtype=np.int32)[types],
        usable_us=np.where(usable_us <= 0, -(2**62), usable_us),
        offset_us=np.where(problem.gpu_always_on | on_before, 0, (startup_us % problem.epoch_us)[types]),
        memory_gib=memory[types],
        open_cost=np.array(problem.price_per_hour)[types],
        lead=(startup_us // problem.epoch_us).astype(np.int32)[types],
        roomy=(2 * largest <= memory)[types],
    )


def plan_matrix(problem: OfflineProblem, counts: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.bool_]:
    """GPUs meant to be on [gpus, epochs] for counts per type and epoch: the first of each type, and those always on."""
    planned = np.zeros((problem.gpus, problem.epochs), np.bool_)
    for type_index, count in enumerate(counts):
        mine = np.flatnonzero(problem.gpu_type == type_index)
        planned[mine] = np.arange(len(mine))[:, None] < count[None, :]
    planned[problem.gpu_always_on] = True
    return planned
