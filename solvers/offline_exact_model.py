"""The offline problem as a CP-SAT model: problem.md's rules, one method each.

Decides which schedules exist and what each tier counts; must never know limits of time or in which order tiers are
solved.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from solvers.offline_exact_grid import ContentChoices, Grid
from solvers.offline_problem import NEVER_ON, OfflineProblem, OfflineSolution

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

SCALE_MAX = 2**40  # largest value of a tier that is not an integer by nature
GIB_UNITS = 10**9

Key = TypeVar("Key", bound=tuple[int, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class Strictness:
    """Which part of the schedules a model admits; the strictest part that is not empty holds an optimum."""

    everyone_served: bool
    on_time: bool


class ExactModel:
    """Variables and rules; `tiers` lists what to minimise, most important first.

    `on[p, e, g]`: period p may be on GPU g in epoch e; `last[p, e, g]`: g is where p was last at the end of e;
    `served[p, i, g]`: p is on g in interval i; `holds[g, i]`: one Boolean per content.
    """

    def __init__(
        self,
        problem: OfflineProblem,
        grid: Grid,
        contents: ContentChoices,
        model: cp_model.CpModel,
        *,
        minimize: Literal["cost", "latency"],
        strictness: Strictness,
    ) -> None:
        self.problem, self.grid, self.contents, self.model = problem, grid, contents, model
        self.minimize, self.strictness = minimize, strictness
        self.gpus = range(problem.gpus)
        self.epochs_of = [
            range(int(start) // problem.epoch_us, (int(end) - 1) // problem.epoch_us + 1)
            for start, end in zip(problem.start_us, problem.end_us, strict=True)
        ]
        self.first_interval = {
            epoch: interval
            for interval, epoch in enumerate(grid.epoch)
            if grid.cut_us[interval] == epoch * problem.epoch_us
        }
        self.on: dict[tuple[int, int, int], cp_model.IntVar] = {}
        self.last: dict[tuple[int, int, int], cp_model.IntVar] = {}
        self.served: dict[tuple[int, int, int], cp_model.IntVar] = {}
        self.out: dict[tuple[int, int, int], cp_model.IntVar] = {}
        self.enter: dict[tuple[int, int, int], cp_model.IntVar] = {}
        self.paid: dict[tuple[int, int], cp_model.IntVar] = {}
        self.usable: dict[tuple[int, int, int], cp_model.IntVar] = {}
        self.late_terms: list[tuple[int, cp_model.IntVar]] = []
        self.latency_terms: list[tuple[float, cp_model.IntVar]] = []
        self.dollar_terms: list[tuple[float, cp_model.IntVar]] = []
        self.chosen: list[list[tuple[float, cp_model.IntVar]]] = []  # per (GPU, interval): latency and choice

    def build(self) -> None:
        self._be_on_one_gpu_per_epoch()
        self._remember_the_last_gpu()
        self._migrate_at_epoch_boundaries()
        self._pay_for_gpus()
        self._hold_feasible_contents()
        self._use_enough_gpus()
        self._respect_memory_during_moves()
        self._respect_move_budgets()
        self._price_migrations()
        self._begin_at_home()
        self._use_equal_gpus_in_order()

    def tiers(self) -> list[cp_model.LinearExpr]:
        """What to minimise, most important first; tiers that are 0 for every schedule of this model are left out."""
        tiers: list[cp_model.LinearExpr] = []
        if not self.strictness.everyone_served:
            tiers += self._unserved_by_priority()
        if self.minimize == "latency":
            return [*tiers, *self._worst_and_mean_latency(), _total([(1, move) for move in self.out.values()])]
        if not self.strictness.on_time:
            tiers.append(_total(self.late_terms))
        return [*tiers, _total(_scaled(self.dollar_terms))]

    # -- rules ---------------------------------------------------------------------------------------------------------

    def _be_on_one_gpu_per_epoch(self) -> None:
        """Within an epoch an active period is on at most one GPU, and served at each interval or not."""
        for period, epochs in enumerate(self.epochs_of):
            for epoch in epochs:
                here = [self._flag(self.on, (period, epoch, gpu)) for gpu in self.gpus]
                if self.strictness.everyone_served:
                    self.model.add_exactly_one(here)
                else:
                    self.model.add_at_most_one(here)
        for interval, active in enumerate(self.grid.active):
            for period in active:
                for gpu in self.gpus:
                    on = self.on[period, self.grid.epoch[interval], gpu]
                    if self.strictness.everyone_served:
                        self.served[period, interval, gpu] = on
                    else:
                        self.model.add_implication(self._flag(self.served, (period, interval, gpu)), on)

    def _remember_the_last_gpu(self) -> None:
        """A period that is on no GPU in an epoch keeps the one where it was last: a later change is a migration."""
        if self.strictness.everyone_served:
            self.last = self.on
            return
        for period, epochs in enumerate(self.epochs_of):
            for epoch in epochs:
                now = [self._flag(self.last, (period, epoch, gpu)) for gpu in self.gpus]
                self.model.add_at_most_one(now)
                for gpu in self.gpus:
                    on = self.on[period, epoch, gpu]
                    self.model.add_implication(on, now[gpu])
                    before = self.last[period, epoch - 1, gpu] if epoch > epochs[0] else 0
                    self.model.add(now[gpu] <= before + on)
                if epoch > epochs[0]:
                    self.model.add(sum(now) >= sum(self.last[period, epoch - 1, gpu] for gpu in self.gpus))

    def _migrate_at_epoch_boundaries(self) -> None:
        """Whoever changes its GPU leaves one and enters another, where it is served from the boundary on."""
        for period, epochs in enumerate(self.epochs_of):
            for _, epoch in pairwise(epochs):
                for gpu in self.gpus:
                    before, now = self.last[period, epoch - 1, gpu], self.last[period, epoch, gpu]
                    out = self._flag(self.out, (period, epoch, gpu))
                    self.model.add(out >= before - now)
                    self.model.add_implication(out, before)
                    self.model.add_implication(out, now.negated())
                    enter = self._flag(self.enter, (period, epoch, gpu))
                    self.model.add_implication(enter, now)
                    self.model.add_implication(enter, before.negated())
                    self.model.add_implication(enter, self.served[period, self.first_interval[epoch], gpu])
                left = sum(self.out[period, epoch, gpu] for gpu in self.gpus)
                self.model.add(sum(self.enter[period, epoch, gpu] for gpu in self.gpus) == left)

    def _pay_for_gpus(self) -> None:
        """A GPU is paid per epoch; GPUs always on are paid anyway, and those on at 0 for one epoch at least."""
        problem = self.problem
        for gpu in self.gpus:
            if problem.gpu_always_on[gpu]:
                continue
            gpu_type = int(problem.gpu_type[gpu])
            known = int(problem.gpu_on_us[gpu])
            first = 0 if known != NEVER_ON else int(problem.soonest_on_us[gpu]) // problem.epoch_us
            price = problem.price_per_hour[gpu_type] * problem.epoch_us / 3.6e9
            for epoch in range(first, max(self.grid.epoch, default=-1) + 1):
                self.dollar_terms.append((price, self._flag(self.paid, (gpu, epoch))))
            if known == 0 and (gpu, 0) in self.paid:
                self.model.add(self.paid[gpu, 0] == 1)

    def _usable(self, gpu: int, interval: int) -> cp_model.IntVar:
        """True only if the GPU is paid from a start-up before the interval until its end."""
        problem = self.problem
        startup_us = problem.startup_us[problem.gpu_type[gpu]]
        known = int(problem.gpu_on_us[gpu])
        at_us, epoch = self.grid.cut_us[interval], self.grid.epoch[interval]
        since = (at_us - startup_us) // problem.epoch_us
        if known != NEVER_ON and (since < 0 or problem.gpu_always_on[gpu]) and at_us < known + startup_us:
            return self.model.new_constant(0)
        if known == NEVER_ON and since * problem.epoch_us < problem.soonest_on_us[gpu]:
            return self.model.new_constant(0)
        if problem.gpu_always_on[gpu]:
            return self.model.new_constant(1)
        if known != NEVER_ON:
            since = max(since, 0)
        if (gpu, since, epoch) not in self.usable:
            usable = self._flag(self.usable, (gpu, since, epoch))
            for paid_epoch in range(since, epoch + 1):
                self.model.add_implication(usable, self.paid[gpu, paid_epoch])
        return self.usable[gpu, since, epoch]

    def _hold_feasible_contents(self) -> None:
        """At every interval a usable GPU holds one of the contents that its type can run, any other GPU nothing."""
        maximal = self.strictness.on_time  # then only whether a content fits matters, so it may be any larger one
        needless = self._needless_intervals() if maximal else frozenset()
        for interval, active in enumerate(self.grid.active):
            if interval in needless:
                continue
            classes = [int(self.problem.class_index[period]) for period in active]
            sessions = tuple(classes.count(k) for k in range(self.problem.classes))
            for gpu in self.gpus if active else ():
                choices = self.contents.among(int(self.problem.gpu_type[gpu]), sessions, maximal=maximal)
                holds = [self.model.new_bool_var("") for _ in range(len(choices.counts))]
                self.model.add(sum(holds) <= self._usable(gpu, interval))
                for k in range(self.problem.classes):
                    here = sum(
                        self.served[p, interval, gpu] for p, own in zip(active, classes, strict=True) if own == k
                    )
                    held = sum(int(n) * hold for n, hold in zip(choices.counts[:, k], holds, strict=True) if n)
                    if sessions[k]:
                        self.model.add(here <= held if maximal else here == held)
                duration_us = self.grid.duration_us(interval)
                self.late_terms += [
                    (int(n) * duration_us, hold) for n, hold in zip(choices.late, holds, strict=True) if n
                ]
                session_ms = choices.latency_ms * choices.counts.sum(axis=1) * duration_us
                self.latency_terms += zip(session_ms.tolist(), holds, strict=True)
                self.chosen.append(list(zip(choices.latency_ms.tolist(), holds, strict=True)))

    def _use_enough_gpus(self) -> None:
        """Where all are served on time, so many GPUs are usable as their contents take: implied, but a better bound."""
        if not self.strictness.on_time:
            return
        needless = self._needless_intervals()
        for interval, active in enumerate(self.grid.active):
            if active and interval not in needless:
                classes = [int(self.problem.class_index[period]) for period in active]
                needed = self.contents.gpus_needed(tuple(classes.count(k) for k in range(self.problem.classes)))
                self.model.add(sum(self._usable(gpu, interval) for gpu in self.gpus) >= needed)

    def _needless_intervals(self) -> frozenset[int]:
        """Intervals in which nobody is active who is not active in an earlier one of the same epoch, too.

        Where everybody is served on time, the earlier one asks for as much of every GPU, and of its start-up.
        """
        needless: set[int] = set()
        needed: dict[int, list[set[int]]] = {}
        for interval, (epoch, active) in enumerate(zip(self.grid.epoch, self.grid.active, strict=True)):
            before = needed.setdefault(epoch, [])
            if any(set(active) <= other for other in before):
                needless.add(interval)
            before.append(set(active))
        return frozenset(needless)

    def suggest(self, solution: OfflineSolution) -> None:
        """Begin the search at a known schedule."""
        epoch_us, cut_us = self.problem.epoch_us, self.grid.cut_us
        on: set[tuple[int, int, int]] = set()
        served: set[tuple[int, int, int]] = set()
        columns = (solution.piece_period, solution.piece_gpu, solution.piece_start_us, solution.piece_end_us)
        for period, gpu, start_us, end_us in zip(*(column.tolist() for column in columns), strict=True):
            on.update((period, epoch, gpu) for epoch in range(start_us // epoch_us, (end_us - 1) // epoch_us + 1))
            intervals = range(bisect_left(cut_us, start_us), bisect_right(cut_us, end_us) - 1)
            served.update((period, interval, gpu) for interval in intervals)
        for key, flag in self.on.items():
            self.model.add_hint(flag, key in on)
        if not self.strictness.everyone_served:
            for key, flag in self.served.items():
                self.model.add_hint(flag, key in served)
        spans = (solution.span_gpu, solution.span_on_us, solution.span_off_us)
        paid = {
            (gpu, epoch)
            for gpu, on_us, off_us in zip(*(column.tolist() for column in spans), strict=True)
            for epoch in range(on_us // epoch_us, off_us // epoch_us)
        }
        for (gpu, epoch), flag in self.paid.items():
            self.model.add_hint(flag, (gpu, epoch) in paid)

    def _respect_memory_during_moves(self) -> None:
        """At a boundary the states that leave a GPU are in its memory besides those of all sessions then on it."""
        problem = self.problem
        state = [round(problem.state_gib[k] * GIB_UNITS) for k in problem.class_index.tolist()]
        for epoch, interval in self.first_interval.items():
            active = self.grid.active[interval]
            leaving = [period for period in active if (period, epoch, 0) in self.out]
            for gpu in self.gpus if leaving else ():
                memory = round(problem.types[problem.gpu_type[gpu]].memory_gib * GIB_UNITS) + 1
                if sum(state[period] for period in active) > memory:
                    staying = sum(state[period] * self.served[period, interval, gpu] for period in active)
                    left = sum(state[period] * self.out[period, epoch, gpu] for period in leaving)
                    self.model.add(staying + left <= memory)

    def _respect_move_budgets(self) -> None:
        """Moves and GiB per epoch boundary, moves out of and into each GPU."""
        problem, budget = self.problem, self.problem.budget
        for epoch in self.first_interval:
            movers = [period for period in range(problem.periods) if (period, epoch, 0) in self.out]
            if len(movers) > budget.moves:
                self.model.add(
                    sum(self.out[period, epoch, gpu] for period in movers for gpu in self.gpus) <= budget.moves
                )
            state = {p: round(problem.state_gib[problem.class_index[p]] * GIB_UNITS) for p in movers}
            if sum(state.values()) > budget.gib * GIB_UNITS:
                moved = sum(state[p] * self.out[p, epoch, gpu] for p in movers for gpu in self.gpus)
                self.model.add(moved <= round(budget.gib * GIB_UNITS) + 1)
            for gpu in self.gpus:
                if len(movers) > budget.out_per_gpu:
                    self.model.add(sum(self.out[period, epoch, gpu] for period in movers) <= budget.out_per_gpu)
                if len(movers) > budget.in_per_gpu:
                    self.model.add(sum(self.enter[period, epoch, gpu] for period in movers) <= budget.in_per_gpu)

    def _price_migrations(self) -> None:
        """A migration costs its transfer's time on the target; less or more if it stays within a node."""
        problem = self.problem
        node, gpu_type = problem.gpu_node.tolist(), problem.gpu_type.tolist()
        for (period, epoch, gpu), enter in self.enter.items():
            k = int(problem.class_index[period])
            price = problem.price_per_hour[gpu_type[gpu]] / 3600
            same, cross = problem.transfer_same_s[k] * price, problem.transfer_cross_s[k] * price
            near = [self.out[period, epoch, other] for other in self.gpus if other != gpu and node[other] == node[gpu]]
            if not near or same == cross:
                self.dollar_terms.append((cross, enter))
                continue
            within, across = self.model.new_bool_var(""), self.model.new_bool_var("")
            self.model.add(within + across == enter)
            self.model.add(within <= sum(near))
            self.model.add(within >= enter + sum(near) - 1)
            self.dollar_terms += [(same, within), (cross, across)]

    def _begin_at_home(self) -> None:
        """A session that a GPU holds at time 0 begins there, or begins later."""
        for period, home in enumerate(self.problem.home.tolist()):
            if home >= 0 and self.problem.start_us[period] == 0:
                for gpu in self.gpus:
                    if gpu != home:
                        self.model.add(self.served[period, 0, gpu] == 0)

    def _use_equal_gpus_in_order(self) -> None:
        """GPUs that nothing tells apart are first used in their order: every other order is the same."""
        for group in _equal_gpus(self.problem):
            for first, second in pairwise(group):
                used = self.model.new_constant(0)
                for (period, epoch), on in self._in_time_order(second):
                    self.model.add(on <= used)
                    so_far = self.model.new_bool_var("")
                    self.model.add(so_far <= used + self.on[period, epoch, first])
                    used = so_far

    def _in_time_order(self, gpu: int) -> list[tuple[tuple[int, int], cp_model.IntVar]]:
        keys = sorted((epoch, period) for period, epochs in enumerate(self.epochs_of) for epoch in epochs)
        return [((period, epoch), self.on[period, epoch, gpu]) for epoch, period in keys]

    # -- tiers ---------------------------------------------------------------------------------------------------------

    def _unserved_by_priority(self) -> list[cp_model.LinearExpr]:
        tiers: list[cp_model.LinearExpr] = []
        for priority in sorted(set(self.problem.priority.tolist()), reverse=True):
            terms = [
                (self.grid.duration_us(interval), self.served[period, interval, gpu])
                for interval, active in enumerate(self.grid.active)
                for period in active
                if self.problem.priority[period] == priority
                for gpu in self.gpus
            ]
            own = self.problem.priority == priority
            wanted_us = int((self.problem.end_us - self.problem.start_us)[own].sum())
            tiers.append(wanted_us - _total(terms))
        return tiers

    def _worst_and_mean_latency(self) -> list[cp_model.LinearExpr]:
        """The rank of the worst latency among all that can occur, and the sum over session-time (scaled)."""
        values = sorted({latency for choices in self.chosen for latency, _ in choices})
        rank = {latency: position + 1 for position, latency in enumerate(values)}
        worst = self.model.new_int_var(0, len(values), "worst")
        for choices in self.chosen:
            self.model.add(worst >= sum(rank[latency] * hold for latency, hold in choices))
        return [worst, _total(_scaled(self.latency_terms))]

    def _flag(self, flags: dict[Key, cp_model.IntVar], key: Key) -> cp_model.IntVar:
        flags[key] = self.model.new_bool_var("")
        return flags[key]


def _equal_gpus(problem: OfflineProblem) -> list[list[int]]:
    """Groups of interchangeable GPUs; nodes matter only where a migration within one costs something else."""
    nodes_matter = problem.transfer_same_s != problem.transfer_cross_s
    homes = set(problem.home.tolist())
    groups: dict[tuple[int, ...], list[int]] = {}
    for gpu in range(problem.gpus):
        if gpu not in homes:
            node = int(problem.gpu_node[gpu]) if nodes_matter else -1
            key = (int(problem.gpu_type[gpu]), node, int(problem.gpu_always_on[gpu]), int(problem.gpu_on_us[gpu]))
            groups.setdefault(key, []).append(gpu)
    return [group for group in groups.values() if len(group) > 1]


def _scaled(terms: list[tuple[float, cp_model.IntVar]]) -> list[tuple[int, cp_model.IntVar]]:
    """Integer coefficients: exact decimals if the largest possible total allows it, else that total is `SCALE_MAX`."""
    weights = np.array([weight for weight, _ in terms])
    largest = float(weights.sum())
    factor = SCALE_MAX / largest if largest > 0 else 0.0
    for digits in range(12):
        exact = weights * 10.0**digits
        if largest * 10.0**digits <= SCALE_MAX and np.allclose(exact, np.round(exact), rtol=0, atol=1e-6):
            factor = 10.0**digits
            break
    return [(round(weight * factor), term) for weight, term in terms]


def _total(terms: list[tuple[int, cp_model.IntVar]]) -> cp_model.LinearExpr:
    from ortools.sat.python import cp_model

    used = [(weight, term) for weight, term in terms if weight]
    expression = cp_model.LinearExpr.weighted_sum([term for _, term in used], [weight for weight, _ in used])
    return cp_model.LinearExpr.sum([expression])
