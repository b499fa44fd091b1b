"""What no schedule on a fixed fleet can undercut: worst latency, mean latency and unserved time.

Decides which class weights are tried and what they prove; must never know a schedule beyond its unserved time and its
worst latency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solvers.contents import TOLERANCE, ContentTable
from solvers.demand import Demand
from solvers.latency_programs import MeanProgram, PackingProgram, ShortfallProgram
from solvers.offline_problem import OfflineObjective, OfflineProblem

FloatArray = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]

SLACK = 1e-7  # sessions: what an LP's answer may be off by, given away
ROUND = 60  # demands asked for weights between two looks at the mean bound
ROUNDS_MAX = 20
MEAN_GAP = 1e-4  # relative: how close the weights found come to the programs' own values
PEAKS = 48  # demands asked where some sessions stay unserved
CELLS_MAX = 20_000_000  # of a matrix at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstBound:
    """No schedule with so little unserved time has a lower worst latency."""

    latency_ms: float
    weights: tuple[tuple[float, ...], ...]  # class weights that were tried
    proof: tuple[float, ...] | None  # the weights that exclude the next lower latency; None: a program without integers
    method: str


def no_check() -> bool:
    return False


def gpus_per_type(problem: OfflineProblem) -> FloatArray:
    return np.bincount(problem.gpu_type, minlength=len(problem.types)).astype(np.float64)


def lattice_of(tables: Sequence[ContentTable]) -> FloatArray:
    """Every latency that some content has, ascending; those equal but for rounding count as the lowest of them."""
    values = np.unique(np.concatenate([table.latency_ms for table in tables]))
    return np.asarray(values[np.diff(values, prepend=-1.0) > TOLERANCE])


def lasts_us(problem: OfflineProblem, demand: Demand) -> npt.NDArray[np.int64]:
    """How long each demand lasts."""
    return np.diff(demand.at_us, append=problem.epochs * problem.epoch_us)


class _Capacities:
    """The most that weights can make of the whole fleet, for every latency of the lattice at once."""

    def __init__(self, problem: OfflineProblem, tables: Sequence[ContentTable], lattice: FloatArray) -> None:
        self._gpus = gpus_per_type(problem)
        self._counts, self._last = [], []
        for table in tables:
            order = np.argsort(table.latency_ms, kind="stable")
            self._counts.append(table.counts[order].astype(np.float64))
            self._last.append(np.searchsorted(table.latency_ms[order], lattice + TOLERANCE, side="right") - 1)

    def of(self, weights: FloatArray) -> FloatArray:
        """sum_t gpus[t] * max over contents x with f(x) <= L of weights . x, for each L [lattice]."""
        parts = [
            np.maximum.accumulate(counts @ weights)[last] for counts, last in zip(self._counts, self._last, strict=True)
        ]
        return np.asarray(self._gpus @ np.array(parts))


def worst_bound(
    problem: OfflineProblem,
    tables: Sequence[ContentTable],
    demand: Demand,
    *,
    unserved_us: float = 0.0,
    stop: Callable[[], bool] = no_check,
) -> WorstBound:
    """The least latency L for which no weights exceed what contents with f <= L can hold.

    `tables` hold physical contents. A schedule with worst latency L and at most `unserved_us` of session-time unserved
    has, for all weights y >= 0 and the capacity c of contents up to L: integral (y . demand - c)^+ <= max(y) *
    unserved_us; without unserved time, y . demand <= c at every instant. Weights are the duals of the least shortfall
    at the fullest instants.
    """
    lattice = lattice_of(tables)
    capacities = _Capacities(problem, tables, lattice)
    gpus = gpus_per_type(problem)
    front = fullest(demand.counts)
    tried: list[FloatArray] = []
    index, proof = 0, None

    def add(weights: FloatArray) -> int:
        tried.append(weights)
        if unserved_us > 0:
            return _least_by_integral(problem, demand, weights, capacities.of(weights), unserved_us)
        need = float((front @ weights).max(initial=0.0))
        return int(np.searchsorted(capacities.of(weights), need - SLACK * max(1.0, float(weights.max()))))

    for weights in (np.ones(problem.classes), *np.eye(problem.classes)):
        reached = min(add(weights), len(lattice) - 1)
        if reached > index:
            index, proof = reached, weights
    program = ShortfallProgram(tables, gpus, lattice[index])
    for counts in front[: PEAKS if unserved_us > 0 else None]:
        while index < len(lattice) - 1 and not stop():
            shortfall, weights = program.shortfall(counts)
            if shortfall <= SLACK:
                break
            reached = min(add(weights), len(lattice) - 1)
            if reached <= index:
                break
            index, proof = reached, weights
            program = ShortfallProgram(tables, gpus, lattice[index])
    return WorstBound(
        latency_ms=float(lattice[index]) if len(front) else 0.0,
        weights=tuple(tuple(weights.tolist()) for weights in tried),
        proof=None if proof is None else tuple(proof.tolist()),
        method="the least latency whose contents hold the fullest instants (weights: duals of the least shortfall)",
    )


def _least_by_integral(
    problem: OfflineProblem, demand: Demand, weights: FloatArray, capacity: FloatArray, unserved_us: float
) -> int:
    """The first latency at which the weighted session-time beyond capacity is at most that unserved."""
    weighted = demand.counts @ weights
    lasts = lasts_us(problem, demand)
    low, high = 0, len(capacity)
    while low < high:
        middle = (low + high) // 2
        beyond = float(np.maximum(weighted - capacity[middle] - SLACK, 0.0) @ lasts)
        low, high = (low, middle) if beyond <= float(weights.max()) * unserved_us else (middle + 1, high)
    return low


def fullest(counts: Int32Array) -> Int32Array:
    """The demands that no other covers, largest first."""
    rest = np.unique(counts, axis=0)
    rest = rest[np.argsort(-rest.sum(axis=1), kind="stable")]
    rest = rest[rest.any(axis=1)]
    kept = []
    while len(rest):
        kept.append(rest[0])
        rest = rest[(rest > rest[0]).any(axis=1)]
    return np.array(kept, dtype=np.int32).reshape(-1, counts.shape[1])


def raised_by_packing(
    problem: OfflineProblem,
    tables: Sequence[ContentTable],
    demand: Demand,
    bound: WorstBound,
    value_ms: float,
    *,
    limit_s: float,
    stop: Callable[[], bool] = no_check,
) -> WorstBound:
    """Raise the bound while some instant provably has no packing in whole sessions; everybody is served.

    Asks at the fullest instants, those first that leave the least room by the bound's weights. `limit_s` bounds each of
    the integer programs, which claims nothing when it runs out of time.
    """
    gpus = gpus_per_type(problem)
    lattice = lattice_of(tables)
    front = fullest(demand.counts)
    weights = np.array(bound.proof if bound.proof is not None else np.ones(problem.classes))
    front = front[np.argsort(-(front @ weights), kind="stable")][:PEAKS]
    latency_ms = bound.latency_ms
    while latency_ms < value_ms - TOLERANCE and not stop():
        program = PackingProgram(tables, gpus, latency_ms)
        if not any(not stop() and program.impossible(counts, limit_s) for counts in front):
            break
        latency_ms = float(lattice[np.searchsorted(lattice, latency_ms + TOLERANCE, side="right")])
    if latency_ms <= bound.latency_ms:
        return bound
    return WorstBound(
        latency_ms=latency_ms,
        weights=bound.weights,
        proof=None,
        method=f"{bound.method}, raised where an integer program has no packing",
    )


def mean_bound(
    problem: OfflineProblem,
    tables: Sequence[ContentTable],
    demand: Demand,
    worst_ms: float,
    *,
    unserved_us: float = 0.0,
    seed: int = 0,
    stop: Callable[[], bool] = no_check,
) -> float:
    """A mean latency over session-time, in ms, that no schedule with f <= `worst_ms` undercuts.

    At every instant, for all weights y >= 0: sum_g n_g f_g >= y . demand - sum_t gpus[t] * max_x (y . x - n(x) f(x)),
    x over contents of type t with f <= worst_ms. The largest right side over the weights found is integrated; weights
    come from the linear program at instants drawn by how long they last. Unserved session-time weighs at most max(y).
    `demand` is complete.
    """
    lasts = lasts_us(problem, demand)
    distinct, which = np.unique(demand.counts, axis=0, return_inverse=True)
    time_us = np.bincount(which.ravel(), weights=lasts, minlength=len(distinct))
    total_us = float((problem.end_us - problem.start_us).sum())
    time_us[~distinct.any(axis=1)] = 0.0
    if total_us <= 0 or not time_us.any():
        return 0.0
    gpus = gpus_per_type(problem)
    program = MeanProgram(tables, gpus, worst_ms)
    best = np.zeros(len(distinct))
    heaviest = 0.0
    random = np.random.default_rng(seed)
    order = np.flatnonzero(time_us)
    for _ in range(ROUNDS_MAX):
        chosen = random.choice(
            order, size=min(ROUND, len(order)), replace=False, p=time_us[order] / time_us[order].sum()
        )
        found, values = _weights_at(program, distinct[chosen], stop)
        short = np.maximum(values - best[chosen][: len(values)], 0.0)
        for weights, paid in found:
            best = np.maximum(best, distinct @ weights - paid)
            heaviest = max(heaviest, float(weights.max()))
        if stop() or len(order) <= ROUND or short.sum() <= MEAN_GAP * values.sum():
            break
    return max(0.0, float(best @ time_us) - heaviest * unserved_us) / total_us


def _weights_at(
    program: MeanProgram, demands: Int32Array, stop: Callable[[], bool]
) -> tuple[list[tuple[FloatArray, float]], FloatArray]:
    """Weights, each with what the fleet takes off, and the programs' values at these demands."""
    found: dict[tuple[float, ...], tuple[FloatArray, float]] = {}
    values = []
    for counts in demands:
        if stop():
            break
        weights = program.weights(counts)
        if weights is None:
            values.append(0.0)
            continue
        paid = program.paid(weights)
        values.append(float(counts @ weights) - paid)
        found[tuple(np.round(weights, 6).tolist())] = (weights, paid)
    return list(found.values()), np.array(values)


def unserved_bound_us(
    problem: OfflineProblem, tables: Sequence[ContentTable], demand: Demand, *, stop: Callable[[], bool] = no_check
) -> float:
    """Session-time that every schedule leaves unserved: at each instant the weighted excess over what the fleet holds.

    `tables` hold physical contents, `demand` is complete.
    """
    lattice = lattice_of(tables)
    gpus = gpus_per_type(problem)
    capacities = _Capacities(problem, tables, lattice)
    program = ShortfallProgram(tables, gpus, lattice[-1])
    excess = np.zeros(len(demand.counts))
    front = fullest(demand.counts)
    shortfalls = [np.ones(problem.classes), *np.eye(problem.classes)]
    for counts in front[:PEAKS]:
        if stop():
            break
        shortfall, weights = program.shortfall(counts)
        if shortfall > SLACK:
            shortfalls.append(weights)
    for weights in shortfalls:
        over = (demand.counts @ weights - capacities.of(weights)[-1]) / float(weights.max())
        excess = np.maximum(excess, over - SLACK)
    return float(excess @ lasts_us(problem, demand))


def mandatory(problem: OfflineProblem, objective: OfflineObjective) -> tuple[npt.NDArray[np.bool_], float]:
    """Periods that every schedule at least as good must serve but for some session-time, and that time in us.

    Priorities above the highest that has unserved time are served throughout, and that one at least as well as here;
    nothing is known about lower ones.
    """
    priorities = np.unique(problem.priority)[::-1]
    short = np.flatnonzero(np.array(objective.unserved_us) > 0)
    if not len(short):
        return np.ones(problem.periods, dtype=np.bool_), 0.0
    return problem.priority >= priorities[short[0]], float(objective.unserved_us[short[0]])
