"""The exact answer for one class of sessions: sessions are interchangeable, so a GPU is no more than a count.

Decides how many leave, arrive and are placed on each GPU, and proves that nothing beats it; must never know what the
class is, nor use a solver library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from solvers.placement.check import evaluate, violations
from solvers.placement.meter import Meter
from solvers.placement.problem import NEVER_US, NO_TARGET_US, BoolArray, IntArray, Problem
from solvers.placement.registry import Found
from solvers.placement.solution import Bounds, Placement, TierName, better

_WORK_PER_GPU = 0.02  # about 5 ms at 256 GPUs
_PROOF = "closed form"


def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
    """The optimum in every tier down to `move`, if there is one class and nobody has to be late."""
    del seed
    if problem.classes != 1:
        return Found(placement=None, bounds=bounds, end_reason=f"does not apply: {problem.classes} classes")
    meter.spend(_WORK_PER_GPU * problem.gpus)
    fleet = _fleet(problem)
    if isinstance(fleet, str):
        return Found(placement=None, bounds=bounds, end_reason=f"does not apply: {fleet}")
    least_us = fleet.least_limit_us() if problem.tiers.balance else int(fleet.limits_us[-1])
    placement = fleet.placement(fleet.as_good_us(least_us, problem.tiers.balance_tolerance))
    assert not (wrong := violations(problem, placement)), wrong
    value = evaluate(problem, placement)
    if hint is not None and better(problem, evaluate(problem, hint), value):
        placement = hint
    proven: tuple[TierName, ...] = ("repair", "serve", "leave", "balance", "move")
    return Found(
        placement=placement,
        bounds=replace(
            bounds,
            repair=value.repair,
            serve=value.serve,
            leave=value.leave if problem.tiers.leave else 0,
            balance=least_us if problem.tiers.balance else 0,
            move=value.move,
            proofs=bounds.proofs | dict.fromkeys(proven, _PROOF),
        ),
        end_reason="optimal",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fleet:
    """Counts per GPU, and what the tiers before `balance` have settled already.

    A GPU on which sessions both leave and are placed could do without both, so GPUs either give or take.
    """

    latency_us: IntArray  # [types, sessions + 1]; the last column stands for every larger batch
    limits_us: IntArray  # every latency that a GPU can have, ascending
    gpu_type: IntArray
    now: IntArray  # [gpus]
    give_least: IntArray  # [gpus]: what `repair` demands
    give_most: IntArray
    room: IntArray  # [gpus]: sessions that memory and batches let enter
    arrive_most: IntArray
    leaving: BoolArray  # none where the tier `leave` does not count
    moves_most: int
    placed: int  # what `serve` demands
    stay_limit_us: int  # above this someone is late, whose tier comes first
    host_limit_us: int  # the same for sessions that have just arrived by migration
    leave_moves: int  # migrations that `leave` demands, from leaving GPUs

    def most_us(self, limit_us: int) -> IntArray:
        """Sessions that each GPU may have within a latency; -1 if it may not even be empty."""
        fit = (self.latency_us <= limit_us).sum(axis=1) - 1
        everybody = int(self.now.sum()) + self.placed
        most = np.where(fit == self.latency_us.shape[1] - 1, everybody, fit)
        return np.asarray(most[self.gpu_type], dtype=np.int64)

    def gives(self, limit_us: int) -> IntArray:
        """Sessions that have to leave each GPU."""
        surplus = self.now - self.most_us(min(limit_us, self.stay_limit_us))
        return np.asarray(np.maximum(self.give_least, surplus), dtype=np.int64)

    def moves(self, gives: IntArray) -> int:
        """Migrations altogether, if these are the fewest that each GPU has to give."""
        return self.leave_moves + int(gives[~self.leaving].sum())

    def rooms(self, limit_us: int, moves: int) -> tuple[IntArray, IntArray] | None:
        """How many may enter each GPU, and how many of them by migration, so that all fit; None: they cannot."""
        stay_us, host_us = min(limit_us, self.stay_limit_us), min(limit_us, self.host_limit_us)
        enter = np.clip(self.most_us(stay_us) - self.now, 0, self.room)
        hosted = np.clip(self.most_us(host_us) - self.now, 0, self.room)
        arrive = np.minimum(hosted, self.arrive_most)
        chosen = _cheapest_hosts(arrive, enter - hosted, moves)
        if chosen is None:
            return None
        enter, arrive = np.where(chosen, hosted, enter), np.where(chosen, arrive, 0)
        return (enter, arrive) if int(enter.sum()) >= moves + self.placed else None

    def possible(self, limit_us: int) -> bool:
        """Whether no GPU need be slower than this."""
        gives = self.gives(limit_us)
        moves = self.moves(gives)
        return bool(
            (gives <= self.give_most).all()
            and int(gives[self.leaving].sum()) <= self.leave_moves
            and moves <= self.moves_most
            and self.rooms(limit_us, moves) is not None
        )

    def least_limit_us(self) -> int:
        """The least worst latency; the largest of all is always possible."""
        low, high = 0, len(self.limits_us) - 1
        while low < high:
            middle = (low + high) // 2
            if self.possible(int(self.limits_us[middle])):
                high = middle
            else:
                low = middle + 1
        return int(self.limits_us[low])

    def as_good_us(self, limit_us: int, tolerance: float) -> int:
        """The largest latency that counts as equal: fewest migrations are fewer there."""
        equal = self.limits_us - limit_us <= tolerance * self.limits_us
        return int(self.limits_us[equal].max(initial=limit_us))

    def placement(self, limit_us: int) -> Placement:
        """Fewest migrations within a latency; whoever enters goes where it adds least to the squared latencies."""
        gives = self.gives(limit_us)
        moves = self.moves(gives)
        rooms = self.rooms(limit_us, moves)
        assert rooms is not None, "only limits that are possible"
        spare = self.leave_moves - int(gives[self.leaving].sum())
        order = np.flatnonzero(self.leaving)
        order = order[np.argsort((self.now - gives)[order], kind="stable")]  # empty few GPUs, not many a little
        before = np.cumsum((self.give_most - gives)[order]) - (self.give_most - gives)[order]
        gives[order] += np.clip(spare - before, 0, (self.give_most - gives)[order])
        enter, arrive = rooms
        arrived = self._spread(np.zeros_like(self.now), arrive, moves)
        placed = self._spread(arrived, enter - arrived, self.placed)
        return Placement(out=gives[:, None], arrived=arrived[:, None], placed=placed[:, None])

    def _spread(self, entered: IntArray, most: IntArray, sessions: int) -> IntArray:
        """Put so many sessions where squared latencies grow least; at most `most` more on each GPU."""
        most = np.minimum(most, sessions)
        gpu = np.repeat(np.arange(len(most)), most)
        nth = np.arange(len(gpu)) - np.repeat(np.cumsum(most) - most, most)
        last = self.latency_us.shape[1] - 1
        count = (self.now + entered)[gpu] + nth
        before, after = (
            self.latency_us[self.gpu_type[gpu], np.minimum(count + more, last)] / 1000.0 for more in (0, 1)
        )
        order = np.lexsort((nth, after**2 - before**2))[:sessions]
        return np.bincount(gpu[order], minlength=len(most))


def _cheapest_hosts(arrive: IntArray, loss: IntArray, moves: int) -> BoolArray | None:
    """GPUs that together take so many migrations at the least total loss of room; None if all are too few.

    Loss comes from the transfer: where somebody arrives, the batch has to be faster for nobody to be late.
    """
    chosen: BoolArray = (arrive > 0) & (loss == 0)
    open_moves = moves - int(arrive[chosen].sum())
    others = np.flatnonzero((arrive > 0) & (loss > 0))
    if open_moves <= 0:
        return chosen
    if int(arrive[others].sum()) < open_moves:
        return None
    least = np.full(open_moves + 1, np.iinfo(np.int64).max // 2)
    least[0] = 0
    takes = np.zeros((len(others), open_moves + 1), dtype=np.bool_)
    for row, gpu in enumerate(others):  # knapsack: least[j] is the least loss for j migrations or more
        shifted = least[np.maximum(np.arange(open_moves + 1) - arrive[gpu], 0)] + loss[gpu]
        shifted[0] = 0
        takes[row] = shifted < least
        least = np.minimum(least, shifted)
    left = open_moves
    for row in range(len(others) - 1, -1, -1):
        if takes[row, left]:
            chosen[others[row]] = True
            left = max(0, left - int(arrive[others[row]]))
    return chosen


def _fleet(problem: Problem) -> _Fleet | str:
    """Settle the tiers before `balance`, or say why they do not settle in closed form."""
    types, gpu_type = np.unique(problem.gpu_type, return_inverse=True)
    now, state_mib = problem.running[:, 0], int(problem.state_mib[0])
    width = max(problem.tables.alone_us.shape[2], problem.tables.common_us.shape[1])
    counts = np.tile(np.arange(width, dtype=np.int64), len(types))[:, None]
    latency_us = problem.tables.latency_us(np.repeat(types, width), counts).reshape(len(types), width)
    give_most = np.minimum(now, problem.out_max)
    late_us = int(problem.target_us[0]) if problem.tiers.meet else NO_TARGET_US
    by_memory = np.maximum(problem.memory_mib // state_mib - now, 0)
    fleet = _Fleet(
        latency_us=latency_us,
        limits_us=np.unique(latency_us),
        gpu_type=gpu_type.astype(np.int64),
        now=now,
        give_least=_repairs(problem, latency_us, gpu_type.astype(np.int64), give_most),
        give_most=give_most,
        room=np.where(problem.receives, by_memory, 0),
        arrive_most=problem.in_max,
        leaving=problem.leaving & problem.tiers.leave,
        moves_most=min(problem.moves_max, problem.moved_mib_max // state_mib),
        placed=int(problem.waiting[0]),
        stay_limit_us=late_us,
        host_limit_us=late_us - int(problem.transfer_us[0]) if late_us < NO_TARGET_US else NO_TARGET_US,
        leave_moves=0,
    )
    runs = np.clip(fleet.most_us(NEVER_US - 1) - now, 0, fleet.room)
    repairs = int(fleet.give_least.sum())
    if repairs > min(fleet.moves_most, int(np.minimum(runs, fleet.arrive_most).sum()), int(runs.sum())):
        return "the budgets do not allow every repair"
    fleet = replace(fleet, room=runs, placed=min(fleet.placed, int(runs.sum()) - repairs))
    slowest_us = int(fleet.limits_us[-1])
    if not (fleet.gives(slowest_us) <= give_most).all():
        return "sessions stay late whatever is done"
    return _with_leaving(fleet, slowest_us)


def _with_leaving(fleet: _Fleet, slowest_us: int) -> _Fleet | str:
    """Spend on leaving GPUs whatever the tiers before let them have."""
    gives = fleet.gives(slowest_us)
    low = int(gives[fleet.leaving].sum())
    high = int(fleet.give_most[fleet.leaving].sum())
    others = int(gives.sum()) - low
    if others + low > fleet.moves_most or fleet.rooms(slowest_us, others + low) is None:
        return "someone has to be late"
    high = min(high, fleet.moves_most - others)
    while low < high:
        middle = (low + high + 1) // 2
        if fleet.rooms(slowest_us, others + middle) is not None:
            low = middle
        else:
            high = middle - 1
    return replace(fleet, leave_moves=low)


def _repairs(problem: Problem, latency_us: IntArray, gpu_type: IntArray, give_most: IntArray) -> IntArray:
    """The fewest sessions to take from each GPU for as little excess memory and as few stuck batches as can be."""
    now, state_mib, last = problem.running[:, 0], int(problem.state_mib[0]), latency_us.shape[1] - 1

    def broken(given: IntArray) -> IntArray:
        stay = now - given
        stuck = latency_us[gpu_type, np.minimum(stay, last)] >= NEVER_US
        excess_mib: IntArray = np.maximum(stay * state_mib - problem.memory_mib, 0)
        return excess_mib + np.where(stuck, stay, 0)

    gives = np.zeros_like(now)
    best = broken(give_most)
    while (more := broken(gives) > best).any():
        gives[more] += 1
    return gives
