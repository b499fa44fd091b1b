"""What no schedule can undercut: bounds on cost, unserved and late time of the offline problem.

Decides which inequalities are looked at and what they prove; must never know a schedule beyond its unserved and late
time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from solvers.contents import ContentTable
from solvers.demand import Demand
from solvers.horizon import least_paid_epochs
from solvers.offline_problem import NEVER_ON, OfflineProblem
from solvers.type_counts import TypeNeeds, type_needs
from solvers.weights import Inequality, Weigher

EPSILON = 1e-9
LEAST_PRICE = 1e-9  # dollars per epoch, where weights are sought: GPUs that cost nothing are still to be few
_SHARE_STEP = 10  # every so many epochs the shares of the types are looked at
PRICE_TILTS = (1.0, 0.8, 1.25, 0.6, 1.6)  # other exchange rates between types, as start-ups and layers make them


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededRows:
    """In epoch[i], at at_us[i]: limits[i] . gpus_on >= weights[i] . demand."""

    epoch: npt.NDArray[np.int64]
    at_us: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64] = field(repr=False)  # [rows, classes]
    limits: npt.NDArray[np.float64] = field(repr=False)  # [rows, types]
    side: npt.NDArray[np.float64] = field(repr=False)  # [rows]: weights . demand


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBound:
    """A cost that no schedule without unserved or late time undercuts."""

    dollars: float
    rows: NeededRows
    counts: tuple[npt.NDArray[np.int64], ...]  # [types][epochs] with one type: GPUs needed
    needs: TypeNeeds | None  # with several types
    inequality: Inequality  # the one that binds most often
    shares: npt.NDArray[np.float64]  # [types, classes]: which part of a class a cheapest packing has on each type
    method: str


def cost_bound(
    problem: OfflineProblem,
    tables: Sequence[ContentTable],
    demand: Demand,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> CostBound:
    """Bound the cost by what the contents of a GPU admit at the worst instant of each epoch (problem.md section 5).

    `tables` hold on-time contents. With one GPU type the right sides are rounded up and the program over the epochs is
    solved in closed form; with several its LP relaxation is. Migrations are counted as free.
    """
    prices = [price * problem.epoch_us / 3.6e9 for price in problem.price_per_hour]
    pool = [int(np.count_nonzero(problem.gpu_type == t)) for t in range(len(problem.types))]
    weigher = Weigher(tables, np.maximum(prices, LEAST_PRICE).tolist(), pool)
    _find_inequalities(problem, weigher, demand, stop)
    if not weigher.found:  # nobody can be served on time
        nothing = Inequality(weights=(0.0,) * problem.classes, limit=(1.0,) * len(problem.types))
        if len(problem.types) > 1:
            return _several_types(problem, [nothing], demand, np.ones((len(problem.types), problem.classes)))
        return _one_type(problem, [nothing], demand, prices[0])
    if len(problem.types) == 1:
        return _one_type(problem, weigher.found, demand, prices[0])
    peaks = demand.counts[np.unique(weigher_instants(weigher.found[0], demand))[::_SHARE_STEP]]
    return _several_types(problem, weigher.found, demand, weigher.shares(peaks))


def _find_inequalities(problem: OfflineProblem, weigher: Weigher, demand: Demand, stop: Callable[[], bool]) -> None:
    """Ask the configuration LP at the tightest instants, until nothing new is found or time is up."""
    if problem.classes == 1 and len(problem.types) == 1:
        weigher.add(np.ones(1))
        return
    base = np.maximum([price * problem.epoch_us / 3.6e9 for price in problem.price_per_hour], LEAST_PRICE)
    start = demand.counts[np.argmax(demand.counts.sum(axis=1))]
    for tilt in _tilts(len(base)):
        weigher.strongest(start, base * tilt)
    known = 0
    while len(weigher.found) > known and not stop():
        known_before = len(weigher.found)
        instants: list[npt.NDArray[np.int64]] = []
        for inequality in weigher.found[known:][:8]:
            _, at = demand.peak_per_epoch(np.array(inequality.weights))
            instants.append(at)
        known = known_before
        distinct = np.unique(demand.counts[np.unique(np.concatenate(instants))], axis=0)
        if len(distinct) > 4000:
            distinct = distinct[:: len(distinct) // 4000 + 1]
        for tilt in _tilts(len(base)):
            for counts in distinct:
                weigher.strongest(counts, base * tilt)
                if stop() or len(weigher.found) > 64:
                    return


def weigher_instants(inequality: Inequality, demand: Demand) -> npt.NDArray[np.int64]:
    """The fullest instant of each epoch."""
    return demand.peak_per_epoch(np.array(inequality.weights))[1]


def _tilts(types: int) -> list[npt.NDArray[np.float64]]:
    if types == 1:
        return [np.ones(1)]
    tilts = [np.ones(types)]
    for t in range(types):
        tilts += [np.where(np.arange(types) == t, factor, 1.0) for factor in PRICE_TILTS[1:]]
    return tilts


def _one_type(problem: OfflineProblem, found: Sequence[Inequality], demand: Demand, price: float) -> CostBound:
    sides, at = _peaks(problem, found, demand)
    best = sides.argmax(axis=0)
    epochs = np.arange(problem.epochs)
    need = np.ceil(sides[best, epochs] - EPSILON).astype(np.int64)
    need = np.clip(need, int(np.count_nonzero(problem.gpu_always_on)), problem.gpus)  # more there is not
    lead = problem.startup_us[0] // problem.epoch_us
    on_before = int(np.count_nonzero(problem.gpu_on_us != NEVER_ON))
    paid = least_paid_epochs(need, lead, on_before)
    return CostBound(
        dollars=price * paid + sunk_dollars(problem),
        rows=_rows(found, best, epochs, demand.at_us[at[best, epochs]], sides[best, epochs]),
        counts=(need,),
        needs=None,
        inequality=found[int(np.bincount(best, minlength=len(found)).argmax())],
        shares=np.ones((1, problem.classes)),
        method="the GPUs that the fullest instant of each epoch needs (weights of the configuration LP, rounded up), "
        "switched on and off at least cost layer by layer",
    )


def _several_types(
    problem: OfflineProblem, found: Sequence[Inequality], demand: Demand, shares: npt.NDArray[np.float64]
) -> CostBound:
    """The LP over the epochs with every inequality at the worst instant of each epoch."""
    sides, at = _peaks(problem, found, demand)
    needs = type_needs(problem, sides, np.array([inequality.limit for inequality in found]))
    bound, _, active = needs.relaxed(np.full(len(problem.types), np.inf))
    which, epoch = np.nonzero(active)
    return CostBound(
        dollars=bound + sunk_dollars(problem),
        rows=_rows(found, which, epoch, demand.at_us[at[which, epoch]], sides[which, epoch]),
        counts=(),
        needs=needs,
        inequality=found[int(active.sum(axis=1).argmax())],
        shares=shares,
        method="the linear program over the epochs of what the fullest instants need (weights of the configuration "
        "LP), any number of GPUs of each type",
    )


def _peaks(
    problem: OfflineProblem, found: Sequence[Inequality], demand: Demand
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """weights . demand at the worst instant of each epoch [inequalities, epochs], and that instant's index."""
    sides = np.empty((len(found), problem.epochs))
    at = np.empty((len(found), problem.epochs), dtype=np.int64)
    for index, inequality in enumerate(found):
        sides[index], at[index] = demand.peak_per_epoch(np.array(inequality.weights))
    return sides, at


def _rows(
    found: Sequence[Inequality],
    which: npt.NDArray[np.int64],
    epoch: npt.NDArray[np.int64],
    at_us: npt.NDArray[np.int64],
    side: npt.NDArray[np.float64],
) -> NeededRows:
    keep = side > 0
    return NeededRows(
        epoch=epoch[keep],
        at_us=at_us[keep],
        weights=np.array([inequality.weights for inequality in found])[which][keep],
        limits=np.array([inequality.limit for inequality in found])[which][keep],
        side=side[keep],
    )


def sunk_dollars(problem: OfflineProblem) -> float:
    """What GPUs that are on already have cost before time 0."""
    on = np.flatnonzero(problem.gpu_on_us != NEVER_ON)
    prices = np.array(problem.price_per_hour)[problem.gpu_type[on]]
    return float(prices @ -problem.gpu_on_us[on]) / 3.6e9


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBound:
    """Session time that every schedule leaves unserved, and unserved or late."""

    unserved_us: float
    unserved_or_late_us: float


def service_bound(
    problem: OfflineProblem,
    on_time: Sequence[ContentTable],
    physical: Sequence[ContentTable],
    demand: Demand,
) -> ServiceBound:
    """Integrate, over all instants, by how much demand exceeds what all GPUs together can hold (and hold on time).

    For weights y and limits of all GPUs: sessions without a place >= (y . demand - limit . usable) / max(y).
    `demand` is complete.
    """
    return ServiceBound(
        unserved_us=_excess_us(problem, physical, demand),
        unserved_or_late_us=_excess_us(problem, on_time, demand),
    )


def _excess_us(problem: OfflineProblem, tables: Sequence[ContentTable], demand: Demand) -> float:
    types = len(problem.types)
    pool = [int(np.count_nonzero(problem.gpu_type == t)) for t in range(types)]
    weigher = Weigher(tables, [1.0] * types, [10**6] * types)
    weigher.add(np.ones(problem.classes))
    for k in range(problem.classes):
        weigher.add(np.eye(problem.classes)[k])
    peak = demand.counts[np.argsort(-demand.counts.sum(axis=1), kind="stable")[:64]]
    for counts in np.unique(peak, axis=0):
        weigher.strongest(counts)
    usable = _usable(problem, demand.at_us)
    lasts_us = np.diff(demand.at_us, append=problem.horizon_us)
    excess = np.zeros(len(demand.at_us))
    for inequality in weigher.found:
        weights = np.array(inequality.weights)
        over = demand.counts @ weights - usable @ np.array(inequality.limit)
        excess = np.maximum(excess, over / weights.max())
    assert len(pool) == usable.shape[1]
    return float(np.maximum(excess - EPSILON, 0.0) @ lasts_us)


def _usable(problem: OfflineProblem, at_us: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The most GPUs per type that can be usable at each instant [instants, types]."""
    startup_us = np.array(problem.startup_us, dtype=np.int64)[problem.gpu_type]
    on_us = np.where(problem.gpu_on_us != NEVER_ON, problem.gpu_on_us, problem.soonest_on_us)
    ready_us = on_us + startup_us
    usable = np.empty((len(at_us), len(problem.types)))
    for t in range(len(problem.types)):
        usable[:, t] = np.searchsorted(np.sort(ready_us[problem.gpu_type == t]), at_us, side="right")
    return usable


def cost_bound_when_short(problem: OfflineProblem, demand: Demand, short_us: float, inequality: Inequality) -> float:
    """A cost that no schedule undercuts whose unserved and late time together is at most `short_us`.

    In each epoch a capacity c = sum_t limit[t] * gpus_on[t] costs at least its cheapest price per unit; what exceeds
    it, weighted, is unserved or late. The least cost lets demand exceed c during the same share of every epoch, which
    bisection finds. `demand` is complete; start-ups are not counted.
    """
    weights, limit = np.array(inequality.weights), np.array(inequality.limit)
    price = np.array(problem.price_per_hour) / 3.6e9
    unit_price = float(np.min(np.where(limit > 0, price / np.where(limit > 0, limit, 1.0), np.inf)))
    weighted = demand.counts @ weights
    lasts_us = np.diff(demand.at_us, append=problem.epochs * problem.epoch_us).astype(np.float64)
    epoch = np.repeat(np.arange(problem.epochs), np.diff([*demand.first, len(weighted)]))
    order = np.lexsort((-weighted, epoch))
    value, lasts_us = weighted[order], lasts_us[order]
    before = np.cumsum(lasts_us) - lasts_us
    before -= np.repeat(before[demand.first], np.diff([*demand.first, len(weighted)]))
    allowed = float(weights.max()) * short_us
    low, high = 0.0, 1.0  # share of an epoch during which capacity may be exceeded

    def capacity(share: float) -> tuple[npt.NDArray[np.float64], float]:
        exceeded = before + lasts_us <= share * problem.epoch_us
        kept = np.where(exceeded, 0.0, value)
        level = np.maximum.reduceat(kept, demand.first)
        over = np.maximum(value - np.repeat(level, np.diff([*demand.first, len(value)])), 0.0)
        return level, float(over @ lasts_us)

    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if capacity(middle)[1] <= allowed else (low, middle)
    level, used = capacity(low)
    above, used_above = capacity(high)
    share = 1.0 if used_above <= used else min(1.0, (allowed - used) / (used_above - used))
    least = level + share * (above - level)
    floor = float(
        price @ [np.count_nonzero((problem.gpu_type == t) & problem.gpu_always_on) for t in range(len(price))]
    )
    return max(unit_price * float(least.sum()), floor * problem.epochs) * problem.epoch_us + sunk_dollars(problem)
