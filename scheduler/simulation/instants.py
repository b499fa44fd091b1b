"""Whole microseconds, and what is due when.

Decides how seconds are rounded and in which order things come that are due at one instant; must never know what.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

SECOND_US = 1_000_000
FAR_US = 2**62  # later than anything

Item = TypeVar("Item")


def to_us(seconds: float) -> int:
    return round(seconds * SECOND_US)


def to_s(us: int) -> float:
    return us / SECOND_US


class Agenda(Generic[Item]):
    """Things that are due, by instant, then by `order`, then as they were written down."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Item]] = []
        self._written = 0

    @property
    def next_us(self) -> int:
        return self._heap[0][0] if self._heap else FAR_US

    def add(self, at_us: int, item: Item, order: int = 0) -> None:
        heappush(self._heap, (at_us, order, self._written, item))
        self._written += 1

    def due(self, now_us: int) -> Iterator[Item]:
        """Takes out what is due, also what is added for now meanwhile."""
        while self._heap and self._heap[0][0] <= now_us:
            yield heappop(self._heap)[3]
