"""How many GPUs of each type are on in each epoch, where there are several: linear programs over the epochs.

Decides the cheapest counts that satisfy every inequality at the worst instant of each epoch, as a bound and as whole
numbers for a plan; must never know sessions or which GPU it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from solvers.needed_cost import least_cost
from solvers.offline_problem import NEVER_ON, OfflineProblem

FloatArray = npt.NDArray[np.float64]
EPSILON = 1e-7
MILP_GAP = 1e-4  # of the counts' cost; their schedule is further from its bound than that


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeNeeds:
    """limits[i] . gpus_on >= sides[i, epoch], for every inequality i and epoch."""

    sides: FloatArray = field(repr=False)  # [inequalities, epochs]
    limits: FloatArray  # [inequalities, types]
    price: FloatArray  # [types], dollars per epoch
    lead: npt.NDArray[np.int64]  # [types], epochs of start-up
    pool: FloatArray  # [types]
    always: FloatArray  # [types]
    on_before: FloatArray  # [types]

    def relaxed(self, high: FloatArray) -> tuple[float, FloatArray | None, npt.NDArray[np.bool_]]:
        """Least dollars with at most `high` GPUs of each type, counts [epochs, types], and which inequalities bind it.

        Inequalities are added as they are violated. Infinity and no counts where `high` is too few.
        """
        epochs = self.sides.shape[1]
        active = (self.sides >= self.sides.max(axis=0) - EPSILON) & (self.sides > 0)
        while True:
            which, epoch = np.nonzero(active)
            bound, counts = least_cost(
                epochs=epochs,
                epoch_cost=self.price,
                start_cost=self.price * self.lead,
                low=self.always,
                high=high,
                before=self.on_before,
                row_epoch=epoch,
                row_weights=self.limits[which],
                row_side=self.sides[which, epoch],
                whole=False,
            )
            if bound is None:
                return 0.0, None, active
            if counts is None:
                return bound, None, active
            missing = np.where(active, -np.inf, self.sides - self.limits @ counts.T)
            worst = missing.argmax(axis=0)
            added = np.flatnonzero(missing[worst, np.arange(epochs)] > EPSILON)
            if not len(added):
                return bound, counts, active
            active[worst[added], added] = True

    def whole(self, reserve: float, milp: str, limit_s: float) -> tuple[npt.NDArray[np.int64], ...]:
        """Whole counts per type [epochs] for a plan; `reserve` is the share of each pool that is left out at first.

        A MILP through PuLP, solved by `milp` (a PuLP solver's name); where it finds nothing within `limit_s`, the LP's
        counts are rounded.
        """
        high = np.maximum(self.always, np.floor(self.pool * (1.0 - reserve)))
        _, relaxed, active = self.relaxed(high)
        if relaxed is None:
            high = self.pool
            _, relaxed, active = self.relaxed(high)
        if relaxed is None:
            return tuple(np.full(self.sides.shape[1], int(most), dtype=np.int64) for most in self.pool)
        found = self._by_milp(active, high, milp, limit_s)
        return self._rounded_up(np.floor(relaxed + 1e-6) if found is None else found)

    def _by_milp(self, active: npt.NDArray[np.bool_], high: FloatArray, milp: str, limit_s: float) -> FloatArray | None:
        """min sum price . on + price * lead . starts with whole counts, for the inequalities that bind the LP."""
        import pulp

        epochs, types = self.sides.shape[1], len(self.price)
        program = pulp.LpProblem("counts", pulp.LpMinimize)
        keys = [(e, t) for e in range(epochs) for t in range(types)]
        on = program.add_variable_dicts("on", keys, 0, None, pulp.LpInteger)
        starts = program.add_variable_dicts("starts", keys, 0)
        for e, t in keys:
            on[e, t].bounds(self.always[t], high[t])
            before = on[e - 1, t] if e else self.on_before[t]
            program += starts[e, t] >= on[e, t] - before
        for i, e in zip(*np.nonzero(active), strict=True):
            program += pulp.lpSum(self.limits[i, t] * on[e, t] for t in range(types)) >= self.sides[i, e]
        program += pulp.lpSum(self.price[t] * (on[e, t] + self.lead[t] * starts[e, t]) for e, t in keys)
        program.solve(pulp.getSolver(milp, msg=False, timeLimit=limit_s, gapRel=MILP_GAP))
        if program.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
            return None
        return np.array([round(on[key].value()) for key in keys], dtype=np.float64).reshape(epochs, types)

    def _rounded_up(self, whole: FloatArray) -> tuple[npt.NDArray[np.int64], ...]:
        """Add GPUs one by one where an inequality is violated, cheapest first."""
        for _ in range(int(self.pool.sum())):
            missing = np.maximum(self.sides - self.limits @ whole.T - EPSILON, 0.0)
            short = np.flatnonzero(missing.max(axis=0) > 0)
            worst = missing[:, short].argmax(axis=0)
            gain = np.minimum(self.limits[worst], missing[worst, short][:, None])
            ratio = np.where(whole[short] < self.pool, gain, 0.0) / np.maximum(self.price, 1e-12)
            pick = ratio.argmax(axis=1)
            useful = ratio[np.arange(len(short)), pick] > 0
            if not useful.any():
                break
            whole[short[useful], pick[useful]] += 1
        return tuple(whole[:, t].astype(np.int64) for t in range(whole.shape[1]))


def usable_milp_solvers() -> list[str]:
    """The MILP solvers that PuLP can call on this machine, by PuLP's names."""
    import pulp

    return [str(name) for name in pulp.listSolvers(onlyAvailable=True)]


def type_needs(problem: OfflineProblem, sides: FloatArray, limits: FloatArray) -> TypeNeeds:
    """The needs of a problem, given what its inequalities ask for."""
    types = len(problem.types)

    def count(chosen: npt.NDArray[np.bool_]) -> FloatArray:
        return np.bincount(problem.gpu_type[chosen], minlength=types).astype(np.float64)

    return TypeNeeds(
        sides=sides,
        limits=limits,
        price=np.array(problem.price_per_hour) * problem.epoch_us / 3.6e9,
        lead=np.array([startup // problem.epoch_us for startup in problem.startup_us]),
        pool=count(np.ones(problem.gpus, dtype=np.bool_)),
        always=count(problem.gpu_always_on),
        on_before=count(problem.gpu_on_us != NEVER_ON),
    )
