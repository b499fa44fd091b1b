"""What a GPU can hold: every content (sessions per class) that a GPU type can run, and how contents follow each other.

Decides feasibility of a single GPU at a single instant, for every batching model, once and for all as a table; must
never know time, prices or which GPU it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

CONTENTS_MAX = 400_000
TOLERANCE = 1e-9  # in ms and GiB: sums of decimals are not exact


class TooManyContentsError(Exception):
    """The contents of a GPU type exceed what was allowed: a coarser formulation is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCosts:
    """What a batch round takes on one GPU type; the fields that `batching` does not use are empty.

    Classes that cannot run on this type have an empty table (grouped) or infinity (packed, turboserve).
    """

    batching: Literal["grouped", "packed", "turboserve"]
    tables_ms: tuple[tuple[float, ...], ...] = ()  # grouped: [class][n - 1]
    fixed_ms: float = 0.0  # packed
    per_session_ms: tuple[float, ...] = ()  # packed: [class]
    base_ms: tuple[float, ...] = ()  # turboserve: W [class]
    crowding_ms: tuple[float, ...] = ()  # turboserve: H [n - 1]
    sessions_max: int = 0  # packed and turboserve

    def latency_ms(self, counts: IntArray) -> FloatArray:
        """f_g of each row of `counts` [rows, classes]; infinity where the batch exceeds what was measured."""
        total = counts.sum(axis=1)
        if self.batching == "grouped":
            result = np.zeros(len(counts))
            for class_index, table in enumerate(self.tables_ms):
                padded = np.array([0.0, *table, np.inf])
                result += padded[np.minimum(counts[:, class_index], len(table) + 1)]
            return result
        if self.batching == "packed":
            per_session = np.array(self.per_session_ms, dtype=np.float64)
            possible = np.isfinite(per_session)
            result = np.asarray(self.fixed_ms + counts @ np.where(possible, per_session, 0.0), dtype=np.float64)
            result[(counts[:, ~possible] > 0).any(axis=1)] = np.inf
        else:
            crowding = np.array([0.0, *self.crowding_ms, np.inf])
            base = np.where(counts > 0, np.array(self.base_ms), 0.0).max(axis=1)
            result = base + crowding[np.minimum(total, self.sessions_max + 1)]
        result[total > self.sessions_max] = np.inf
        result[total == 0] = 0.0
        return np.asarray(result, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeLimits:
    """One GPU type as a solver sees it."""

    costs: RoundCosts
    memory_gib: float  # free for states
    state_gib: tuple[float, ...]  # [class]

    def memory_used_gib(self, counts: IntArray) -> FloatArray:
        return np.asarray(counts @ np.array(self.state_gib), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentTable:
    """Contents of one GPU type, closed under removing a session; row 0 is the empty GPU.

    A content is *on time* if f_g meets the target of every class in it; on-time contents are closed under removal, too.
    """

    counts: IntArray  # [contents, classes]
    latency_ms: FloatArray  # [contents]
    memory_gib: FloatArray  # [contents]
    late: npt.NDArray[np.int32]  # [contents]: sessions whose target f_g exceeds; 0 means on time
    add: IntArray  # [contents, classes]: content after one more session, -1 if there is none
    remove: IntArray  # [contents, classes]

    @property
    def size(self) -> int:
        return len(self.counts)

    def maximal(self) -> IntArray:
        """Rows that admit no further session."""
        return np.flatnonzero((self.add < 0).all(axis=1)).astype(np.int32)


def enumerate_contents(
    limits: TypeLimits,
    target_ms: tuple[float, ...],
    *,
    allow_late: bool,
    latency_ms_max: float = np.inf,
    contents_max: int = CONTENTS_MAX,
) -> ContentTable:
    """All contents of a GPU type, breadth first by number of sessions.

    `target_ms` [class]. Without `allow_late` only on-time contents are kept; `latency_ms_max` cuts all others off.
    Raises TooManyContentsError beyond `contents_max`.
    """
    classes = len(target_ms)
    targets = np.array(target_ms)
    units = np.eye(classes, dtype=np.int32)
    layers = [np.zeros((1, classes), dtype=np.int32)]
    size = 1
    while len(layers[-1]):
        last_class = np.where(layers[-1] > 0, np.arange(classes), 0).max(axis=1)
        rows, added = np.nonzero(np.arange(classes) >= last_class[:, None])
        grown = layers[-1][rows] + units[added]  # each content once: its sessions join in the order of their classes
        grown = grown[_fits(grown, limits, targets, allow_late=allow_late, latency_ms_max=latency_ms_max)]
        size += len(grown)
        if size > contents_max:
            raise TooManyContentsError(f"more than {contents_max} contents of a GPU with {classes} classes")
        layers.append(grown)
    counts = np.concatenate(layers)
    latency = limits.costs.latency_ms(counts)
    late = np.where(_is_late(counts, latency, targets), counts, 0).sum(axis=1).astype(np.int32)
    add, remove = _transitions(counts)
    return ContentTable(
        counts=counts,
        latency_ms=latency,
        memory_gib=limits.memory_used_gib(counts),
        late=late,
        add=add,
        remove=remove,
    )


def most_alone(limits: TypeLimits, target_ms: tuple[float, ...]) -> npt.NDArray[np.int64]:
    """[classes]: most sessions of one class that a GPU holds on time with nobody else; 0 where it does not run."""
    costs = limits.costs
    longest = max([costs.sessions_max, *(len(table) for table in costs.tables_ms)])
    numbers = np.arange(1, longest + 1, dtype=np.int32)
    most = np.zeros(len(target_ms), dtype=np.int64)
    for class_index in range(len(target_ms)):
        counts = np.zeros((longest, len(target_ms)), dtype=np.int32)
        counts[:, class_index] = numbers
        fits = _fits(counts, limits, np.array(target_ms), allow_late=False, latency_ms_max=np.inf)
        most[class_index] = longest if fits.all() else int(fits.argmin())
    return most


def _is_late(counts: IntArray, latency_ms: FloatArray, targets: FloatArray) -> npt.NDArray[np.bool_]:
    return (counts > 0) & (latency_ms[:, None] > targets[None, :] + TOLERANCE)


def _fits(
    counts: IntArray, limits: TypeLimits, targets: FloatArray, *, allow_late: bool, latency_ms_max: float
) -> npt.NDArray[np.bool_]:
    latency = limits.costs.latency_ms(counts)
    fits = np.isfinite(latency) & (limits.memory_used_gib(counts) <= limits.memory_gib + TOLERANCE)
    fits &= latency <= latency_ms_max + TOLERANCE
    if not allow_late:
        fits &= ~_is_late(counts, latency, targets).any(axis=1)
    return fits


def _transitions(counts: IntArray) -> tuple[IntArray, IntArray]:
    """`add` and `remove` tables, by looking each neighbour up among the sorted codes of all contents."""
    codes, weights = _codes(counts)
    order = np.argsort(codes, kind="stable")
    add = np.full(counts.shape, -1, dtype=np.int32)
    remove = np.full(counts.shape, -1, dtype=np.int32)
    for class_index, weight in enumerate(weights):
        position = np.searchsorted(codes, codes + weight, sorter=order)
        candidate = order[np.minimum(position, len(codes) - 1)]
        rows = np.flatnonzero(codes[candidate] == codes + weight)
        difference = counts[candidate[rows]] - counts[rows]
        difference[:, class_index] -= 1
        rows = rows[~difference.any(axis=1)]  # codes may wrap around, rows tell the truth
        add[rows, class_index] = candidate[rows]
        remove[candidate[rows], class_index] = rows
    return add, remove


def _codes(counts: IntArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A code of its own for each (distinct) row, linear in the counts, and the weights of the classes.

    Numbers of a base where they fit into 63 bits; for many classes, seeded weights modulo 2^64 with distinct codes.
    """
    classes = counts.shape[1]
    base = int(counts.max(initial=0)) + 2
    if base**classes < 2**62:
        weights = np.array([base**power for power in range(classes)], dtype=np.int64)
        return counts.astype(np.int64) @ weights, weights
    rng = np.random.default_rng(0)
    while True:
        weights = np.asarray(rng.integers(0, 2**62, classes), dtype=np.int64)
        codes = counts.astype(np.int64) @ weights
        if len(np.unique(codes)) == len(codes):
            return codes, weights
