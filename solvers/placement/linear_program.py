"""A mixed-integer linear program written down as arrays.

Decides how columns, rows and entries are collected without a Python loop over them; must never know what they mean,
nor which solver reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solvers.placement.problem import BoolArray, IntArray

FloatArray = npt.NDArray[np.float64]

ABSENT = -1  # the index of a column that was not needed


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProgram:
    """row_lower <= A x <= row_upper, lower <= x <= upper, some x whole. A is stored by rows."""

    lower: FloatArray  # [columns]
    upper: FloatArray
    whole: BoolArray
    row_lower: FloatArray  # [rows]
    row_upper: FloatArray
    start: IntArray  # [rows + 1]
    index: IntArray  # [entries]: columns
    value: FloatArray

    @property
    def columns(self) -> int:
        return len(self.lower)

    @property
    def rows(self) -> int:
        return len(self.row_lower)


class Sheet:
    """Collects a linear program; every call adds many columns, rows or entries at once."""

    def __init__(self) -> None:
        self.columns = 0
        self.rows = 0
        self._columns: list[tuple[FloatArray, FloatArray, BoolArray]] = []
        self._rows: list[tuple[FloatArray, FloatArray]] = []
        self._entries: list[tuple[IntArray, IntArray, FloatArray]] = []
        self._constants: list[tuple[IntArray, FloatArray]] = []

    def add_columns(
        self, count: int, lower: npt.ArrayLike = 0.0, upper: npt.ArrayLike = np.inf, *, whole: bool | BoolArray = False
    ) -> IntArray:
        """Their indexes."""
        first, self.columns = self.columns, self.columns + count
        self._columns.append((_spread(lower, count), _spread(upper, count), np.broadcast_to(whole, (count,))))
        return np.arange(first, self.columns)

    def add_where(self, wanted: BoolArray, upper: npt.ArrayLike = np.inf, *, whole: bool = False) -> IntArray:
        """A column from 0 to `upper` for each true element; indexes in the shape of `wanted`, `ABSENT` elsewhere."""
        index = np.full(wanted.shape, ABSENT, dtype=np.int64)
        bound = np.broadcast_to(np.asarray(upper, dtype=np.float64), wanted.shape)[wanted]
        index[wanted] = self.add_columns(len(bound), 0.0, bound, whole=whole)
        return index

    def add_rows(self, count: int, lower: npt.ArrayLike = -np.inf, upper: npt.ArrayLike = np.inf) -> IntArray:
        """Their indexes; they have no entries yet."""
        first, self.rows = self.rows, self.rows + count
        self._rows.append((_spread(lower, count), _spread(upper, count)))
        return np.arange(first, self.rows)

    def put(self, rows: npt.ArrayLike, columns: npt.ArrayLike, values: npt.ArrayLike) -> None:
        """Entries, broadcast against each other; those of absent columns are left out. No entry may be put twice."""
        row, column, value = np.broadcast_arrays(
            np.asarray(rows, dtype=np.int64),
            np.asarray(columns, dtype=np.int64),
            np.asarray(values, dtype=np.float64),
        )
        kept = (column != ABSENT) & (value != 0)
        self._entries.append((row[kept], column[kept], value[kept]))

    def subtract(self, rows: IntArray, constants: FloatArray) -> None:
        """What rows contain besides their columns is taken to the sides; each row at most once."""
        self._constants.append((rows, constants))

    def finish(self) -> LinearProgram:
        """What was collected."""
        row = np.concatenate([row for row, _, _ in self._entries])
        order = np.argsort(row, kind="stable")
        moved = np.zeros(self.rows)
        for rows, constants in self._constants:
            moved[rows] += constants
        return LinearProgram(
            lower=np.concatenate([lower for lower, _, _ in self._columns]),
            upper=np.concatenate([upper for _, upper, _ in self._columns]),
            whole=np.concatenate([whole for _, _, whole in self._columns]),
            row_lower=np.concatenate([lower for lower, _ in self._rows]) - moved,
            row_upper=np.concatenate([upper for _, upper in self._rows]) - moved,
            start=np.searchsorted(row[order], np.arange(self.rows + 1)),
            index=np.concatenate([column for _, column, _ in self._entries])[order],
            value=np.concatenate([value for _, _, value in self._entries])[order],
        )


def _spread(value: npt.ArrayLike, count: int) -> FloatArray:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)).copy()
