"""The sweep stage: schedules for traces of any size, improved while there is time.

Decides which variant of the compiled sweep is kept for each stretch of time; must never know where prices, needs
or names come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solvers.contents import ContentTable
from solvers.offline_problem import OfflineProblem
from solvers.sweep_inputs import Worth, fleet_of, limits_of, plan_matrix, stacked_tables, work_of, worth_of
from solvers.sweep_kernel import run_epochs
from solvers.sweep_lane import Lane, Pieces, Saved
from solvers.sweep_state import FAR, I_ARRIVAL, I_WAITING, N_LATE, N_MOVES, N_UNSERVED

__all__ = ["BASE_WEIGHTS", "Pieces", "Sweep", "SweepCost", "Worth", "plan_matrix", "worth_of"]

# waste, misfit, slack, room, misfit length, align, move, improve; found by search on the workloads of bench/offline.py
BASE_WEIGHTS = (3.0, 0.1, 0.02, 0.05, 0.1, 0.03, 0.1, 0.0)
THREADS = 2
BLOCK_EPOCHS = 12  # epochs per rollout
SPREAD = 0.7  # of the logarithm of each weight in a variant


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepCost:
    """Compared lexicographically: who is unserved, who is late, GPU-epochs beyond the plan in dollars."""

    unserved: int
    late: int
    dollars: float

    def key(self) -> tuple[int, int, float]:
        return (self.unserved, self.late, self.dollars)


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
        self._work = work_of(problem)
        self._tables, first = stacked_tables(tables, worth, problem)
        self._fleet = fleet_of(problem, tables, first, planned)
        self._limits = limits_of(problem)
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

    def _serves(self, lane: Lane, weights: npt.NDArray[np.float64], first: int, last: int) -> bool:
        """Sweep [first, last); if somebody is unserved, go back to where it started."""
        start = lane.save()
        self._sweep(lane, weights, first, last)
        if self._cost(lane, first, last).unserved == 0:
            return True
        lane.restore(start)
        return False

    def _best_of(
        self,
        lanes: list[Lane],
        candidates: list[npt.NDArray[np.float64]],
        first: int,
        last: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        """Sweep [first, last) with every candidate from the same state; leave lane 0 at the end of the best."""
        start = lanes[0].save()
        shares = [candidates[lane :: len(lanes)] for lane in range(len(lanes))]

        def best_in(lane: Lane, share: list[npt.NDArray[np.float64]]) -> tuple[tuple[int, int, float], int, Saved]:
            best: tuple[tuple[int, int, float], int, Saved] | None = None
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

    def _sweep(self, lane: Lane, weights: npt.NDArray[np.float64], first: int, last: int) -> None:
        step = max(1, min(last - first, 1 + 200_000 // (4 * self._problem.gpus + 1)))
        for begin in range(first, last, step):
            end = min(last, begin + step)
            arrivals = np.searchsorted(self._work.start_us, end * self._problem.epoch_us) - lane.state.cursor[I_ARRIVAL]
            held = int(lane.state.members.sum() + lane.state.cursor[I_WAITING])
            lane.reserve(int(5 * arrivals + 3 * held + 4 * self._problem.gpus * (end - begin) + 1024))
            run_epochs(lane.state, self._work, self._tables, self._fleet, self._limits, weights, lane.trail, begin, end)

    def _cost(self, lane: Lane, first: int, last: int) -> SweepCost:
        counts = lane.trail.counts[first:last]
        opened = lane.trail.opened[:, first:last]
        edges = opened.copy()
        edges[:, 1:] &= ~(opened[:, :-1] | self._fleet.planned[:, first : last - 1])
        edges[:, :-1] &= ~self._fleet.planned[:, first + 1 : last]
        dollars = float(self._price @ opened.sum(axis=1) + (self._price * self._fleet.lead) @ edges.sum(axis=1))
        waiting = int(lane.state.cursor[I_WAITING])
        move_dollars = float(counts[:, N_MOVES].sum()) * self._move_dollars()
        return SweepCost(
            unserved=int(counts[:, N_UNSERVED].sum()) + waiting,
            late=int(counts[:, N_LATE].sum()),
            dollars=dollars + move_dollars,
        )

    def _move_dollars(self) -> float:
        return max(self._problem.transfer_cross_s) * max(self._problem.price_per_hour) / 3600

    def _lane(self) -> Lane:
        return Lane(self._problem, self._fleet.empty, self._slots)


def _vary(base: npt.NDArray[np.float64], random: np.random.Generator) -> npt.NDArray[np.float64]:
    varied = base * np.exp(SPREAD * random.standard_normal(len(base)))
    return np.where(base >= FAR, base, varied)
