"""The placement problem as one mixed-integer linear program: how many of each class leave, arrive and are placed.

Decides the linear formulation, exact but for lateness, which it only forbids; must never know which solver reads it.
Every rule is one method, in the order and with the names that cpsat.py uses. Latencies are in milliseconds here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from solvers.placement.batch_limits import able, finite, finite_base, runnable_us, worst_us
from solvers.placement.linear_program import ABSENT, FloatArray, LinearProgram, Sheet
from solvers.placement.piecewise import Counts, Fill, add_costs
from solvers.placement.problem import NEVER_US, NO_TARGET_US, IntArray, Problem
from solvers.placement.reach import Reach
from solvers.placement.solution import Placement
from solvers.placement.tier_by_tier import Step

US_PER_MS = 1000.0
SIGNS = np.array([-1.0, 1.0, 1.0])  # of out, arrived and placed in a count


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
        most, most_total = (limit[broken] for limit in able(problem))
        over = np.maximum(running - most, 0)
        for k in range(problem.classes):
            rows = sheet.add_rows(len(broken), -np.inf, most[:, k] - running[:, k])
            sheet.put(rows, self._broken, -over[:, k])
            sheet.put(rows[:, None], self._signed[broken][:, k], SIGNS[None, :])
        rows = sheet.add_rows(len(broken), -np.inf, most_total - running.sum(axis=1))
        sheet.put(rows, self._broken, -np.maximum(running.sum(axis=1) - most_total, 0))
        sheet.put(rows[:, None, None], self._signed[broken], SIGNS[None, None, :])

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
        worst = worst_us(problem, self._reach.most)
        self._worst_ms = np.full(gpus, min(worst, self._reach.cap_us) / US_PER_MS)
        self._worst_ms[self._broken_gpu] = worst / US_PER_MS
        self._latency = sheet.add_columns(gpus, 0.0, self._worst_ms)
        self._round = sheet.add_rows(gpus, 0.0, 0.0)
        self._fixed_ms = np.zeros(gpus)
        sheet.put(self._round, self._latency, 1.0)
        self._add_what_classes_take_alone()
        self._add_base_and_total()
        sheet.subtract(self._round, -self._fixed_ms)

        def fill(values: FloatArray, placement: Placement) -> None:
            latency = problem.latency_us(placement.after(problem))
            values[self._latency] = (
                np.where(latency >= NEVER_US, runnable_us(problem, placement.after(problem)), latency) / US_PER_MS
            )

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
            stuck = problem.latency_us(placement.after(problem)).max(initial=0) >= NEVER_US
            values[worst] = max(values[self._latency].max(initial=0.0), self._big_ms * float(stuck))

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
        self._sheet.put(rows[:, None], signed, SIGNS[None, :])

    @property
    def worst_ms(self) -> float:
        """No batch that runs within reach takes longer."""
        return float(self._worst_ms.max(initial=0.0))

    @property
    def _big_ms(self) -> float:
        """Stands for `NEVER_US` among latencies: more than any batch that runs."""
        return self.worst_ms + 1.0

    def _add_what_classes_take_alone(self) -> None:
        problem, reach, sheet = self._problem, self._reach, self._sheet
        tables_ms = finite(problem.tables.alone_us) / US_PER_MS
        if not tables_ms.any():
            return
        gpu, k = np.nonzero(reach.most > 0)
        counts = Counts(
            row=self._round[gpu],
            low=reach.fewest[gpu, k],
            high=reach.most[gpu, k],
            constant=problem.running[gpu, k],
            columns=self._signed[gpu, k],
            signs=SIGNS,
            of=lambda placement: placement.after(problem)[gpu, k],
        )

        def presence(items: IntArray) -> IntArray:
            some = counts.some(items)
            columns = sheet.add_columns(len(items), 0.0, 1.0, whole=True)
            rows = sheet.add_rows(len(items), -np.inf, -some.constant)
            sheet.put(rows, columns, -some.high)
            sheet.put(rows[:, None], some.columns, SIGNS[None, :])

            def fill(values: FloatArray, placement: Placement) -> None:
                values[columns] = some.of(placement) > 0

            self._fills.append(fill)
            return columns

        self._add_costs(gpu, counts, tables_ms[problem.gpu_type[gpu], k], presence)

    def _add_base_and_total(self) -> None:
        """Binaries say whether a class of at least some base is present; the lowest says whether anybody is."""
        problem, reach, sheet = self._problem, self._reach, self._sheet
        tables = problem.tables
        base_ms, common_ms = finite_base(tables) / US_PER_MS, finite(tables.common_us) / US_PER_MS
        for t in range(tables.types):
            limited = bool((tables.common_us[t] >= NEVER_US).any())
            if not base_ms[t].any() and not common_ms[t].any() and not limited:
                continue
            mine = np.flatnonzero(problem.gpu_type == t)
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
                sheet.put(rows[:, None], self._signed[mine, k], SIGNS[None, :])
            self._fills.append(_levels(problem, mine, level, level_of))
            self._add_total(mine, common_ms[t], level[:, 0])

    def _add_total(self, gpus: IntArray, common_ms: FloatArray, anybody: IntArray) -> None:
        """What the number of sessions adds, whatever their classes."""
        problem, reach, sheet = self._problem, self._reach, self._sheet
        running = problem.running[gpus].sum(axis=1)
        low = reach.fewest[gpus].sum(axis=1)
        high = np.maximum(np.minimum(reach.most[gpus].sum(axis=1), able(problem)[1][gpus]), low)
        high = np.where(reach.may_not_run[gpus], np.maximum(high, running), high)
        total = sheet.add_columns(len(gpus), low, high)
        rows = sheet.add_rows(len(gpus), running, running)
        sheet.put(rows, total, 1.0)
        sheet.put(rows[:, None, None], self._signed[gpus], -SIGNS[None, None, :])
        counts = Counts(
            row=self._round[gpus],
            low=low,
            high=high,
            constant=np.zeros(len(gpus), dtype=np.int64),
            columns=total[:, None],
            signs=np.ones(1),
            of=lambda placement: placement.after(problem)[gpus].sum(axis=1),
        )

        def fill(values: FloatArray, placement: Placement) -> None:
            values[total] = counts.of(placement)

        self._fills.append(fill)
        tables_ms = np.broadcast_to(common_ms, (len(gpus), len(common_ms)))
        self._add_costs(gpus, counts, tables_ms, lambda items: anybody[items])

    def _add_costs(
        self, gpu: IntArray, counts: Counts, tables_ms: FloatArray, presence: Callable[[IntArray], IntArray]
    ) -> None:
        constants, fills = add_costs(self._sheet, counts, tables_ms, presence)
        np.add.at(self._fixed_ms, gpu, constants)
        self._fills += fills


def _levels(problem: Problem, gpus: IntArray, level: IntArray, level_of: npt.NDArray[np.integer]) -> Fill:
    def fill(values: FloatArray, placement: Placement) -> None:
        there = placement.after(problem)[gpus] > 0
        for q in range(level.shape[1]):
            values[level[:, q]] = there[:, level_of >= q].any(axis=1)

    return fill
