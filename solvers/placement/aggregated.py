"""The placement problem as one mixed-integer linear program: how many of each class leave, arrive and are placed.

Decides the linear formulation, exact but for lateness, which it only forbids; must never know which solver reads it.
Every rule is one method, in the order and with the names that cpsat.py uses. Latencies are in milliseconds here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from solvers.placement.linear_program import ABSENT, FloatArray, LinearProgram, Sheet
from solvers.placement.problem import NEVER_US, NO_TARGET_US, BoolArray, IntArray, Problem
from solvers.placement.reach import Reach
from solvers.placement.solution import Placement
from solvers.placement.tier_by_tier import Step

US_PER_MS = 1000.0
Fill = Callable[[FloatArray, Placement], None]


class AggregatedModel:
    """Columns out, arrived, placed per GPU and class, what follows from them, and one row per tier to hold it.

    `program` is ready to be read; `objective(step)` gives costs and an offset, `tier_row[step]` and `held(step, value)`
    the row that keeps a tier at its value. `on_time_row` are switched on by their upper sides `on_time_upper`.
    """

    def __init__(self, problem: Problem, reach: Reach) -> None:
        self._problem, self._reach = problem, reach
        self._sheet = Sheet()
        self._fills: list[Fill] = []
        self.tier_row: dict[Step, int] = {}
        self.on_time_row = np.zeros(0, dtype=np.int64)
        self.on_time_upper = np.zeros(0)
        self._objective: dict[Step, tuple[IntArray, FloatArray, float]] = {}
        self.program = self.build()

    def build(self) -> LinearProgram:
        """The table of contents of the formulation."""
        self._choose_who_moves()
        self._keep_sessions()
        self._respect_budgets()
        self._respect_memory_during_moves()
        self._mend_what_may_not_run()
        self._measure_rounds()
        self._meet_targets()
        self._count_each_tier()
        return self._sheet.finish()

    def objective(self, step: Step) -> tuple[FloatArray, float]:
        """Costs of all columns, and the constant to add; `balance` is in milliseconds."""
        columns, costs, offset = self._objective[step]
        cost = np.zeros(self.program.columns)
        cost[columns] = costs
        return cost, offset

    def held(self, step: Step, value: float) -> float:
        """The upper side of the tier's row that holds the tier at `value` or less."""
        return value - self._objective[step][2]

    def read(self, values: npt.ArrayLike) -> Placement:
        """The placement that column values stand for."""
        x = np.rint(np.append(np.asarray(values, dtype=np.float64), 0.0)).astype(np.int64)  # ABSENT reads the last
        return Placement(out=x[self._out], arrived=x[self._arrived], placed=x[self._placed])

    def write(self, placement: Placement) -> FloatArray:
        """The column values of a placement that is within reach."""
        values = np.zeros(self.program.columns + 1)
        for fill in self._fills:
            fill(values, placement)
        return values[:-1]

    # The rules ---------------------------------------------------------------------------------------------------

    def _choose_who_moves(self) -> None:
        """Whole numbers per GPU and class: out, arrived, placed."""
        reach, sheet = self._reach, self._sheet
        self._out = sheet.add_where(reach.leave_max > 0, reach.leave_max, whole=True)
        self._arrived = sheet.add_where(reach.arrive_max > 0, reach.arrive_max, whole=True)
        self._placed = sheet.add_where(reach.place_max > 0, reach.place_max, whole=True)
        self._signed = np.stack([self._out, self._arrived, self._placed], axis=2)  # [gpus, classes, 3]

        def fill(values: FloatArray, placement: Placement) -> None:
            values[self._out] = placement.out
            values[self._arrived] = placement.arrived
            values[self._placed] = placement.placed
            values[ABSENT] = 0.0

        self._fills.append(fill)

    def _keep_sessions(self) -> None:
        """Whoever leaves arrives, and nobody is placed who does not wait."""
        sheet, classes = self._sheet, np.arange(self._problem.classes)
        kept = sheet.add_rows(len(classes), 0.0, 0.0)
        sheet.put(kept[None, :], self._out, 1.0)
        sheet.put(kept[None, :], self._arrived, -1.0)
        sheet.put(sheet.add_rows(len(classes), 0.0, self._problem.waiting)[None, :], self._placed, 1.0)

    def _respect_budgets(self) -> None:
        """Migrations in number and size, and per GPU in and out; placing from waiting is free."""
        problem, sheet = self._problem, self._sheet
        if problem.moves_max < self._reach.leave_max.sum():
            sheet.put(sheet.add_rows(1, 0.0, problem.moves_max), self._out, 1.0)
        if problem.moved_mib_max < int(self._reach.leave_max.sum(axis=0) @ problem.state_mib):
            sheet.put(sheet.add_rows(1, 0.0, problem.moved_mib_max), self._out, problem.state_mib[None, :])
        for columns, most, limit in (
            (self._out, self._reach.leave_max, problem.out_max),
            (self._arrived, self._reach.arrive_max, problem.in_max),
        ):
            tight = np.flatnonzero(most.sum(axis=1) > limit)
            rows = sheet.add_rows(len(tight), 0.0, limit[tight])
            sheet.put(rows[:, None], columns[tight], 1.0)

    def _respect_memory_during_moves(self) -> None:
        """A migrating session occupies memory on source and target; MiB beyond memory are counted where they stay."""
        problem, reach, sheet = self._problem, self._reach, self._sheet
        held = problem.running @ problem.state_mib
        enters = (reach.arrive_max + reach.place_max) @ problem.state_mib
        tight = np.flatnonzero(~reach.too_full & (held + enters > problem.memory_mib))
        rows = sheet.add_rows(len(tight), 0.0, (problem.memory_mib - held)[tight])
        sheet.put(rows[:, None, None], self._signed[tight][:, :, 1:], problem.state_mib[None, :, None])

        full = np.flatnonzero(reach.too_full)
        self._excess = sheet.add_columns(len(full))
        rows = sheet.add_rows(len(full), (held - problem.memory_mib)[full])
        sheet.put(rows, self._excess, 1.0)
        sheet.put(rows[:, None], self._out[full], problem.state_mib[None, :])

        def fill(values: FloatArray, placement: Placement) -> None:
            after = placement.after(problem)[full] @ problem.state_mib
            values[self._excess] = np.maximum(after - problem.memory_mib[full], 0)

        self._fills.append(fill)

    def _mend_what_may_not_run(self) -> None:
        """Nobody enters a batch that may not run; the sessions of those that are there already are counted."""
        problem, reach, sheet = self._problem, self._reach, self._sheet
        self._broken_gpu = broken = np.flatnonzero(reach.may_not_run)
        self._broken = sheet.add_columns(len(broken), 0.0, 1.0, whole=True)
        running = problem.running[broken]
        self._stuck = sheet.add_columns(len(broken))
        rows = sheet.add_rows(len(broken), 0.0)  # stuck >= after - (those who are there) * (1 - broken)
        sheet.put(rows, self._stuck, 1.0)
        sheet.put(rows, self._broken, -running.sum(axis=1))
        sheet.put(rows[:, None], self._out[broken], 1.0)
        # Placed and arrived are not stuck: where they are, the batch runs.
        enters = (reach.arrive_max + reach.place_max)[broken]
        rows = sheet.add_rows(len(broken), -np.inf, enters.sum(axis=1))
        sheet.put(rows, self._broken, enters.sum(axis=1))
        sheet.put(rows[:, None, None], self._signed[broken][:, :, 1:], 1.0)
        able, able_total = self._able(broken)
        over = np.maximum(running - able, 0)
        for k in range(problem.classes):
            rows = sheet.add_rows(len(broken), -np.inf, able[:, k] - running[:, k])
            sheet.put(rows, self._broken, -over[:, k])
            sheet.put(rows[:, None], self._signed[broken][:, k], np.array([[-1.0, 1.0, 1.0]]))
        rows = sheet.add_rows(len(broken), -np.inf, able_total - running.sum(axis=1))
        sheet.put(rows, self._broken, -np.maximum(running.sum(axis=1) - able_total, 0))
        sheet.put(rows[:, None, None], self._signed[broken], np.array([[[-1.0, 1.0, 1.0]]]))

        def fill(values: FloatArray, placement: Placement) -> None:
            after = placement.after(problem)
            still = problem.latency_us(after)[broken] >= NEVER_US
            values[self._broken] = still
            values[self._stuck] = after[broken].sum(axis=1) * still

        self._fills.append(fill)

    def _measure_rounds(self) -> None:
        """f of every GPU: what its classes take alone, the largest base present, and what the total adds."""
        problem, sheet = self._problem, self._sheet
        gpus = problem.gpus
        worst_us = np.full(gpus, np.minimum(self._finite_worst_us(), self._reach.cap_us))
        worst_us[self._broken_gpu] = self._finite_worst_us()
        self._worst_ms = worst_us / US_PER_MS
        self._latency = sheet.add_columns(gpus, 0.0, self._worst_ms)
        self._round = sheet.add_rows(gpus, 0.0, 0.0)
        self._fixed_ms = np.zeros(gpus)
        sheet.put(self._round, self._latency, 1.0)
        self._add_what_classes_take_alone()
        self._add_base_and_total()
        sheet.subtract(self._round, -self._fixed_ms)

        def fill(values: FloatArray, placement: Placement) -> None:
            latency = problem.latency_us(placement.after(problem))
            values[self._latency] = np.where(latency >= NEVER_US, self._tables_only_us(placement), latency) / US_PER_MS

        self._fills.append(fill)

    def _meet_targets(self) -> None:
        """No session is on a GPU beyond its target, none that migrated waits beyond it; off until switched on."""
        problem, reach, sheet = self._problem, self._reach, self._sheet
        least, big = self.worst_ms, self._big_ms
        top = least + big
        stay_ms = np.where(problem.target_us >= NO_TARGET_US, np.inf, problem.target_us / US_PER_MS)
        come_ms = stay_ms - problem.transfer_us / US_PER_MS
        promised = np.unique(np.concatenate([stay_ms, come_ms]))
        promised = promised[promised < (top if len(self._broken_gpu) else least)]
        if not problem.tiers.meet or not len(promised):
            return
        gpus = problem.gpus
        stays = np.searchsorted(promised, stay_ms)  # the level of each class; len(promised): never late
        comes = np.searchsorted(promised, come_ms)
        strict = np.stack([sheet.add_columns(gpus, 0.0, 1.0, whole=True) for _ in promised], axis=1)
        for q in range(len(promised) - 1):
            rows = sheet.add_rows(gpus, 0.0)
            sheet.put(rows, strict[:, q + 1], 1.0)
            sheet.put(rows, strict[:, q], -1.0)
        for k in range(problem.classes):
            if stays[k] < len(promised):
                self._force(strict[:, stays[k]], k, self._signed[:, k])
            if comes[k] < len(promised):
                rows = sheet.add_rows(gpus, -np.inf, 0.0)
                sheet.put(rows, self._arrived[:, k], 1.0)
                sheet.put(rows, strict[:, comes[k]], -np.maximum(reach.arrive_max[:, k], 1))
        rows = self.on_time_row = sheet.add_rows(gpus)
        self.on_time_upper = np.full(gpus, top)
        sheet.put(rows, self._latency, 1.0)
        sheet.put(rows[self._broken_gpu], self._broken, big)
        sheet.put(rows[:, None], strict, np.diff(np.append(promised, top))[None, :])

        def fill(values: FloatArray, placement: Placement) -> None:
            after = placement.after(problem)
            for q in range(len(promised)):
                there = (after[:, stays <= q] > 0).any(axis=1) | (placement.arrived[:, comes <= q] > 0).any(axis=1)
                values[strict[:, q]] = there

        self._fills.append(fill)

    def _count_each_tier(self) -> None:
        """One row and one objective for each tier."""
        problem, sheet = self._problem, self._sheet
        worst = sheet.add_columns(1)
        self.worst_column = int(worst[0])
        rows = sheet.add_rows(problem.gpus, 0.0)
        sheet.put(rows, worst, 1.0)
        sheet.put(rows, self._latency, -1.0)
        rows = sheet.add_rows(len(self._broken_gpu), 0.0)
        sheet.put(rows, worst, 1.0)
        sheet.put(rows, self._broken, -self._big_ms)

        def fill(values: FloatArray, placement: Placement) -> None:
            worst_us = problem.latency_us(placement.after(problem)).max(initial=0)
            values[worst] = max(values[self._latency].max(initial=0.0), self._big_ms * float(worst_us >= NEVER_US))
            del placement

        self._fills.append(fill)
        broken = np.concatenate([self._excess, self._stuck])
        self._add_tier(("repair", 0), broken, np.ones(len(broken)), 0.0)
        for rank in range(problem.ranks):
            of_rank = problem.priority_rank == rank
            columns = self._placed[:, of_rank].ravel()
            self._add_tier(("serve", rank), columns, -np.ones(len(columns)), float(problem.waiting[of_rank].sum()))
        there = problem.running[problem.leaving]
        columns = self._out[problem.leaving].ravel()
        self._add_tier(("meet", 0), np.zeros(0, dtype=np.int64), np.zeros(0), 0.0)  # only whether it can be 0
        self._add_tier(("leave", 0), columns, -np.ones(len(columns)), float(there.sum()))
        self._add_tier(("balance", 0), worst, np.ones(1), 0.0)
        sizes = np.broadcast_to(problem.state_mib, self._out.shape)
        self._add_tier(("move", 0), self._out.ravel(), sizes.ravel().astype(np.float64), 0.0)

    # Parts of rules ----------------------------------------------------------------------------------------------

    def _add_tier(self, step: Step, columns: IntArray, costs: FloatArray, offset: float) -> None:
        there = columns != ABSENT
        row = self._sheet.add_rows(1)
        self._sheet.put(row, columns[there], costs[there])
        self.tier_row[step] = int(row[0])
        self._objective[step] = (columns[there], costs[there], offset)

    def _force(self, binary: IntArray, k: int, signed: IntArray) -> None:
        """A class is on a GPU only where the binary is 1."""
        rows = self._sheet.add_rows(len(binary), -np.inf, -self._problem.running[:, k])
        self._sheet.put(rows, binary, -np.maximum(self._reach.most[:, k], 1))
        self._sheet.put(rows[:, None], signed, np.array([[-1.0, 1.0, 1.0]]))

    def _able(self, gpus: IntArray) -> tuple[IntArray, IntArray]:
        """The most sessions of each class, and in all, that may run on these GPUs [gpus, classes], [gpus]."""
        problem, tables = self._problem, self._problem.tables
        kind = problem.gpu_type[gpus]
        alone = (tables.alone_us < NEVER_US).sum(axis=2) - 1
        alone[tables.alone_us[:, :, -1] < NEVER_US] = 1 << 20  # the last column goes on
        able = np.where(tables.base_us >= NEVER_US, 0, alone)[kind]
        total = (tables.common_us[:, 1:] < NEVER_US).sum(axis=1)
        total[tables.common_us[:, -1] < NEVER_US] = 1 << 20
        return able, total[kind]

    def _finite_worst_us(self) -> int:
        """No batch that runs within reach takes longer."""
        tables, reach = self._problem.tables, self._reach
        kind = self._problem.gpu_type[:, None]
        most = np.minimum(reach.most, tables.alone_us.shape[2] - 1)
        alone_us = _finite(tables.alone_us)[kind, np.arange(tables.classes)[None, :], most].sum(axis=1)
        common_us = _finite(tables.common_us).max(axis=1)[self._problem.gpu_type]
        base_us = np.where(tables.base_us >= NEVER_US, 0, tables.base_us).max(axis=1, initial=0)[self._problem.gpu_type]
        return int((alone_us + common_us + base_us).max(initial=0))

    @property
    def worst_ms(self) -> float:
        """No batch that runs within reach takes longer."""
        return float(self._worst_ms.max(initial=0.0))

    @property
    def _big_ms(self) -> float:
        """Stands for `NEVER_US` among latencies: more than any batch that runs."""
        return self.worst_ms + 1.0

    def _tables_only_us(self, placement: Placement) -> IntArray:
        """f where batches that may not run cost as much as the largest that may."""
        problem, tables = self._problem, self._problem.tables
        after, kind = placement.after(problem), problem.gpu_type
        columns = np.minimum(after, tables.alone_us.shape[2] - 1)
        alone = _finite(tables.alone_us)[kind[:, None], np.arange(tables.classes)[None, :], columns].sum(axis=1)
        base = np.where(tables.base_us >= NEVER_US, 0, tables.base_us)
        there = np.where(after > 0, base[kind], 0).max(axis=1, initial=0)
        total = np.minimum(after.sum(axis=1), tables.common_us.shape[1] - 1)
        return np.asarray(alone + there + _finite(tables.common_us)[kind, total], dtype=np.int64)

    def _add_what_classes_take_alone(self) -> None:
        problem, reach = self._problem, self._reach
        tables_ms = _finite(problem.tables.alone_us) / US_PER_MS
        if not tables_ms.any():
            return
        gpu, k = np.nonzero(reach.most > 0)
        kind, low, high = problem.gpu_type[gpu], reach.fewest[gpu, k], reach.most[gpu, k]
        present = np.full(len(gpu), ABSENT, dtype=np.int64)

        def presence(items: IntArray) -> IntArray:
            columns = present[items] = self._sheet.add_columns(len(items), 0.0, 1.0, whole=True)
            rows = self._sheet.add_rows(len(items), -np.inf, -problem.running[gpu[items], k[items]])
            self._sheet.put(rows, columns, -high[items])
            self._sheet.put(rows[:, None], self._signed[gpu[items], k[items]], np.array([[-1.0, 1.0, 1.0]]))
            self._fills.append(lambda values, placement: _set(values, columns, counts(placement)[items] > 0))
            return columns

        def counts(placement: Placement) -> IntArray:
            return placement.after(problem)[gpu, k]

        self._add_cost(
            gpu,
            tables_ms[kind, k],
            low,
            high,
            constant=problem.running[gpu, k],
            columns=self._signed[gpu, k],
            signs=np.array([-1.0, 1.0, 1.0]),
            presence=presence,
            counts=counts,
        )

    def _add_base_and_total(self) -> None:
        """Binaries say whether a class of at least some base is present; the lowest says whether anybody is."""
        problem, reach, sheet = self._problem, self._reach, self._sheet
        tables = problem.tables
        base_ms = np.where(tables.base_us >= NEVER_US, 0, tables.base_us) / US_PER_MS
        common_ms = _finite(tables.common_us) / US_PER_MS
        limited = (tables.common_us >= NEVER_US).any(axis=1)
        if not base_ms.any() and not common_ms.any() and not limited.any():
            return
        gpus = np.arange(problem.gpus)
        for t in range(tables.types):
            mine = gpus[problem.gpu_type == t]
            bases = np.unique(base_ms[t])
            level_of = np.searchsorted(bases, base_ms[t])
            level = np.stack([sheet.add_columns(len(mine), 0.0, 1.0, whole=True) for _ in bases], axis=1)
            sheet.put(self._round[mine][:, None], level, -np.diff(bases, prepend=0.0)[None, :])
            for q in range(1, len(bases)):
                rows = sheet.add_rows(len(mine), 0.0)
                sheet.put(rows, level[:, q - 1], 1.0)
                sheet.put(rows, level[:, q], -1.0)
            for k in range(problem.classes):
                rows = sheet.add_rows(len(mine), -np.inf, -problem.running[mine, k])
                sheet.put(rows, level[:, level_of[k]], -np.maximum(reach.most[mine, k], 1))
                sheet.put(rows[:, None], self._signed[mine, k], np.array([[-1.0, 1.0, 1.0]]))
            self._fills.append(_levels(problem, mine, level, level_of))
            if common_ms[t].any() or limited[t]:
                self._add_total(mine, common_ms[t], level[:, 0])

    def _add_total(self, gpus: IntArray, common_ms: FloatArray, anybody: IntArray) -> None:
        """What the number of sessions adds, whatever their classes."""
        problem, reach, sheet = self._problem, self._reach, self._sheet
        most = self._able(gpus)[1]
        low = reach.fewest[gpus].sum(axis=1)
        high = np.maximum(np.minimum(reach.most[gpus].sum(axis=1), most), low)
        broken = reach.may_not_run[gpus]
        high = np.where(broken, np.maximum(high, problem.running[gpus].sum(axis=1)), high)
        total = sheet.add_columns(len(gpus), low, high)
        rows = sheet.add_rows(len(gpus), problem.running[gpus].sum(axis=1), problem.running[gpus].sum(axis=1))
        sheet.put(rows, total, 1.0)
        sheet.put(rows[:, None, None], self._signed[gpus], np.array([[[1.0, -1.0, -1.0]]]))

        def counts(placement: Placement) -> IntArray:
            return placement.after(problem)[gpus].sum(axis=1)

        self._fills.append(lambda values, placement: _set(values, total, counts(placement)))
        self._add_cost(
            gpus,
            np.broadcast_to(common_ms, (len(gpus), len(common_ms))),
            low,
            high,
            constant=np.zeros(len(gpus), dtype=np.int64),
            columns=total[:, None],
            signs=np.ones(1),
            presence=lambda items: anybody[items],
            counts=counts,
        )

    def _add_cost(
        self,
        gpu: IntArray,
        tables_ms: FloatArray,
        low: IntArray,
        high: IntArray,
        *,
        constant: IntArray,
        columns: IntArray,
        signs: FloatArray,
        presence: Callable[[IntArray], IntArray],
        counts: Callable[[Placement], IntArray],
    ) -> None:
        """Add table[count] to the rounds of `gpu`; count = constant + signs . columns, from low to high.

        tables_ms [items, counts]. As a straight line, as tangents where the table is convex (from 1 on: times a
        binary), or else with one binary per count: exact in every case, for latencies are only ever pressed down.
        """
        span = int((high - low).max(initial=0)) + 1
        at = np.minimum(np.minimum(low[:, None] + np.arange(span)[None, :], high[:, None]), tables_ms.shape[1] - 1)
        cost = np.take_along_axis(tables_ms, at, axis=1)
        within = low[:, None] + np.arange(1, span)[None, :] <= high[:, None]  # of the steps between counts
        slope = np.diff(cost, axis=1)
        rises = (np.diff(slope, axis=1) >= -1e-9) | ~within[:, 1:]
        straight = ((np.abs(np.diff(slope, axis=1)) <= 1e-9) | ~within[:, 1:]).all(axis=1)
        convex = rises.all(axis=1) & ~straight
        later = rises[:, 1:].all(axis=1) if span > 2 else np.ones(len(gpu), dtype=np.bool_)
        convex_from_one = later & (low == 0) & ~straight & ~convex
        by_count = np.flatnonzero(~(straight | convex | convex_from_one))
        self._add_lines(gpu, cost, low, np.flatnonzero(straight), constant, columns, signs, slope)
        bent = (gpu, cost, low, within, slope, constant, columns, signs)
        self._add_tangents(*bent, np.flatnonzero(convex), None, counts)
        from_one = np.flatnonzero(convex_from_one)
        if len(from_one):
            self._add_tangents(*bent, from_one, presence(from_one), counts)
        if len(by_count):
            self._add_by_count(gpu, cost, low, within, constant, columns, signs, by_count, counts)

    def _add_lines(
        self,
        gpu: IntArray,
        cost: FloatArray,
        low: IntArray,
        items: IntArray,
        constant: IntArray,
        columns: IntArray,
        signs: FloatArray,
        slope: FloatArray,
    ) -> None:
        steep = slope[items, 0] if slope.shape[1] else np.zeros(len(items))
        np.add.at(self._fixed_ms, gpu[items], cost[items, 0] + steep * (constant[items] - low[items]))
        self._sheet.put(self._round[gpu[items]][:, None], columns[items], -steep[:, None] * signs[None, :])

    def _add_tangents(
        self,
        gpu: IntArray,
        cost: FloatArray,
        low: IntArray,
        within: BoolArray,
        slope: FloatArray,
        constant: IntArray,
        columns: IntArray,
        signs: FloatArray,
        items: IntArray,
        present: IntArray | None,
        counts: Callable[[Placement], IntArray],
    ) -> None:
        """cost >= tangent, through every step; with `present`, only through those from 1 on, and 0 if absent."""
        if not len(items):
            return
        sheet = self._sheet
        taken = sheet.add_columns(len(items))
        sheet.put(self._round[gpu[items]], taken, -1.0)
        for step in range(slope.shape[1]):
            used = within[items, step].copy()
            if step > (0 if present is None else 1):
                used &= np.abs(slope[items, step] - slope[items, step - 1]) > 1e-9
            if present is not None and step == 0:
                continue
            some = np.flatnonzero(used)
            chosen = items[some]
            steep = slope[chosen, step]
            start = cost[chosen, step] - steep * (low[chosen] + step)
            fixed = steep * constant[chosen] + (start if present is None else 0.0)
            rows = sheet.add_rows(len(some), fixed)
            sheet.put(rows, taken[some], 1.0)
            sheet.put(rows[:, None], columns[chosen], -steep[:, None] * signs[None, :])
            if present is not None:
                sheet.put(rows, present[some], -start)

        def fill(values: FloatArray, placement: Placement) -> None:
            step = np.minimum(counts(placement)[items] - low[items], cost.shape[1] - 1)
            values[taken] = cost[items, step]

        self._fills.append(fill)

    def _add_by_count(
        self,
        gpu: IntArray,
        cost: FloatArray,
        low: IntArray,
        within: BoolArray,
        constant: IntArray,
        columns: IntArray,
        signs: FloatArray,
        items: IntArray,
        counts: Callable[[Placement], IntArray],
    ) -> None:
        """One binary per count above the lowest."""
        sheet = self._sheet
        one = sheet.add_where(within[items], 1.0, whole=True)  # [items, steps]
        steps = np.arange(1, one.shape[1] + 1)
        np.add.at(self._fixed_ms, gpu[items], cost[items, 0])
        sheet.put(self._round[gpu[items]][:, None], one, -(cost[items, 1:] - cost[items, :1]))
        rows = sheet.add_rows(len(items), (constant - low)[items], (constant - low)[items])
        sheet.put(rows[:, None], one, steps[None, :])
        sheet.put(rows[:, None], columns[items], -signs[None, :])
        sheet.put(sheet.add_rows(len(items), 0.0, 1.0)[:, None], one, 1.0)

        def fill(values: FloatArray, placement: Placement) -> None:
            above = counts(placement)[items] - low[items]
            _set(values, one, above[:, None] == steps[None, :])

        self._fills.append(fill)


def _finite(table: IntArray) -> IntArray:
    """Counts that may not run cost what the largest count before them costs; the rules keep batches away from them."""
    return np.maximum.accumulate(np.where(table >= NEVER_US, 0, table), axis=-1)


def _set(values: FloatArray, columns: IntArray, what: npt.NDArray[np.generic]) -> None:
    values[columns] = what
    values[ABSENT] = 0.0


def _levels(problem: Problem, gpus: IntArray, level: IntArray, level_of: npt.NDArray[np.integer]) -> Fill:
    def fill(values: FloatArray, placement: Placement) -> None:
        there = placement.after(problem)[gpus] > 0
        for q in range(level.shape[1]):
            values[level[:, q]] = there[:, level_of >= q].any(axis=1)

    return fill
