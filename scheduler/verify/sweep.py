"""Sorting and searching many groups of times at once.

Decides which entry of a group is in force at a time; must never know what groups and times stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

EXAMPLES_MAX = 3  # findings of one kind that are told in full
_KEY_MAX = 2**62


def microseconds(seconds: pl.Series) -> Ints:
    """Whole microseconds; not-a-number and infinities become 0 and are to be refused before."""
    values = seconds.to_numpy() * 1e6
    return np.rint(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)).astype(np.int64)


def keys(groups: list[Ints], times: list[Ints]) -> list[Ints]:
    """One sortable integer per (group, time), comparable across the given arrays."""
    everything = np.concatenate(times)
    low, high = (int(everything.min()), int(everything.max())) if everything.size else (0, 0)
    most = max((int(group.max()) for group in groups if group.size), default=0)
    if (most + 1) * (high - low + 1) < _KEY_MAX:
        return [group * (high - low + 1) + (time - low) for group, time in zip(groups, times, strict=True)]
    distinct = np.unique(everything)
    return [group * distinct.size + np.searchsorted(distinct, time) for group, time in zip(groups, times, strict=True)]


def last_at_or_before(group: Ints, time: Ints, asked_group: Ints, asked_time: Ints) -> Ints:
    """For each question the index of the latest entry of its group at or before its time; -1 where there is none."""
    if not group.size:
        return np.full(asked_group.size, -1, dtype=np.int64)
    have, asked = keys([group, asked_group], [time, asked_time])
    order = np.argsort(have, kind="stable")
    place = np.searchsorted(have[order], asked, side="right") - 1
    found = order[np.maximum(place, 0)]
    return np.where((place >= 0) & (group[found] == asked_group), found, -1)


def most_at_once(group: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Per group (0 to its largest number) the most intervals [start, end) that hold at one instant, and the instant."""
    groups = int(group.max()) + 1 if group.size else 0
    key, _ = keys([np.tile(group, 2), group], [np.concatenate([start, end]), start])
    delta = np.repeat(np.array([1, -1], dtype=np.int64), group.size)
    order = np.lexsort((delta, key))
    owner, at = np.tile(group, 2)[order], np.concatenate([start, end])[order]
    count = np.cumsum(delta[order])  # every group ends at 0, so the next one begins at 0
    most, when = np.zeros(groups, dtype=np.int64), np.zeros(groups, dtype=np.int64)
    np.maximum.at(most, owner, count)
    top = np.flatnonzero(count == most[owner])[::-1]
    when[owner[top]] = at[top]
    return most, when


def examples(wrong: Bools | Ints, tell: Callable[[int], str]) -> Iterator[str]:
    """The first few findings of one kind, and how many more there are; takes a mask or indices."""
    indices = np.flatnonzero(wrong) if wrong.dtype == np.bool_ else wrong
    for index in indices[:EXAMPLES_MAX]:
        yield tell(int(index))
    if indices.size > EXAMPLES_MAX:
        yield f"... and {indices.size - EXAMPLES_MAX} more of this kind"


def seconds(time_us: int | np.int64) -> str:
    """`12.5`, without trailing zeros."""
    return f"{int(time_us) / 1e6:.6f}".rstrip("0").rstrip(".")
