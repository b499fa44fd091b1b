"""A rule for GPU counts where a GPU can hold too many different contents to look at each.

Decides counts that suffice as if every class had GPUs of its own, whole ones; must never know time, forecasts or GPUs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from solvers.weights import Inequality

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

EPSILON = 1e-7


class CoarseCapacity:
    """Sufficient, not necessary: classes that share GPUs may need fewer.

    A GPU of the type that holds fewest sessions of a class is the unit; a type that holds more of every class counts
    for more, by the least of its advantages. For every set of types, those that run nowhere else must find room there.
    """

    def __init__(self, alone: IntArray) -> None:
        """`alone` [types, classes]: most sessions of one class on a GPU; 0 where it does not run. All run somewhere."""
        runs = alone > 0
        assert runs.any(axis=0).all(), "a class runs nowhere"
        fewest = np.where(runs, alone, np.iinfo(np.int64).max).min(axis=0)
        worth = np.where(runs, alone / fewest, np.inf).min(axis=1)
        worth = np.where(np.isfinite(worth), worth, 0.0)
        self._rows: list[Inequality] = []
        for types in _unions(runs):
            only_there = ~(runs & ~types[:, None]).any(axis=0)
            self._rows.append(
                Inequality(
                    weights=tuple(np.where(only_there, 1.0 / fewest, 0.0).tolist()),
                    limit=tuple(np.where(types, worth, 0.0).tolist()),
                )
            )

    def restart(self) -> None:
        """Answers never depend on what was asked before."""

    def strongest(self, demand: FloatArray) -> Inequality | None:
        """The rule of all types together; None for no demand."""
        return max(self._rows, key=lambda row: float(np.dot(row.weights, demand))) if (demand > EPSILON).any() else None

    def violated(
        self, demand: FloatArray, gpus: FloatArray, within: npt.NDArray[np.bool_] | None = None
    ) -> Inequality | None:
        """A rule that these GPUs break, of those on fewest types, or None if they suffice.

        With `within` [types] only rules that more GPUs of one of these types would help to keep.
        """
        for row in self._rows:  # what rules on fewer types ask for helps the others, too
            helps = within is None or bool((np.array(row.limit)[within] > 0).any())
            if helps and self.missing(row, demand, gpus) > EPSILON:
                return row
        return None

    def missing(self, row: Inequality, demand: FloatArray, gpus: FloatArray) -> float:
        """Units that a rule wants beyond these GPUs."""
        units = float(np.dot(row.weights, demand) + self.rounding(row, demand))
        return units - float(np.dot(row.limit, gpus))

    def rounding(self, row: Inequality, demand: FloatArray) -> FloatArray:
        """What whole GPUs for each class are more than parts of them: demand [..., classes] -> [...]."""
        parts = demand * np.array(row.weights)
        return np.asarray((np.ceil(parts - EPSILON) - parts).sum(axis=-1), dtype=np.float64)


def _unions(runs: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """Every union of the sets of types on which classes run, the smallest first."""
    unions: set[tuple[bool, ...]] = set()
    for column in {tuple(column.tolist()) for column in runs.T}:
        unions |= {tuple(a or b for a, b in zip(column, known, strict=True)) for known in unions} | {column}
    return [np.array(types) for types in sorted(unions, key=lambda types: (sum(types), types))]
