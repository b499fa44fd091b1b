"""Demand in two halves: what sessions look like inside, and when they come.

Decides how session bodies and arrivals are held; must never know which public set they are from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from traces.trace import Trace

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """Sessions without a place in time: body i has the periods `[offsets[i]:offsets[i + 1]]`, its first starts at 0."""

    name: str
    offsets: Ints = field(repr=False)  # one more than there are bodies
    start_us: Ints = field(repr=False)
    end_us: Ints = field(repr=False)

    def __post_init__(self) -> None:
        assert len(self.offsets) > 1, "there is at least one body"
        assert (np.diff(self.offsets) > 0).all(), "every body has a period"

    @property
    def count(self) -> int:
        return len(self.offsets) - 1

    @property
    def active_us(self) -> Ints:
        """Time that each body is active."""
        return np.add.reduceat(self.end_us - self.start_us, self.offsets[:-1])

    @property
    def duration_us(self) -> Ints:
        """Time from each body's opening to its close."""
        return self.end_us[self.offsets[1:] - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Sorted times in a window [0, length_us), each with the index of its tenant."""

    name: str
    length_us: int
    times_us: Ints = field(repr=False)
    tenant_index: Ints = field(repr=False)
    tenants: tuple[str, ...] = field(repr=False)  # one name, "", where the source has no tenants


class ArrivalSource(Protocol):
    """Something that sessions can be made to arrive like, at any rate and for any length."""

    def draw(self, *, rate_per_s: float, length_us: int, before_us: int, rng: np.random.Generator) -> Arrivals:
        """Arrivals in [-before_us, length_us) at a mean rate; time 0 is the start of the source's own clock."""
        ...


def bodies_from_periods(name: str, session_index: Ints, start_us: Ints, end_us: Ints) -> Bodies:
    """Bodies from periods that are sorted by (session_index, start_us); each is moved to begin at 0."""
    opens = np.flatnonzero(np.diff(session_index, prepend=session_index[0] - 1))
    counts = np.diff(opens, append=len(session_index))
    begin = np.repeat(start_us[opens], counts)
    return Bodies(
        name=name, offsets=np.append(opens, len(session_index)), start_us=start_us - begin, end_us=end_us - begin
    )


def bodies_of(trace: Trace) -> Bodies:
    """The sessions of a trace, each from its own start."""
    periods = trace.periods.sort("session_index", "start_us")
    index, start, end = (periods[column].cast(pl.Int64).to_numpy() for column in periods.columns)
    return bodies_from_periods(trace.name, index, start, end)


def arrivals_of(trace: Trace) -> Arrivals:
    """The opening times of a trace's sessions, with their tenants."""
    opens = trace.periods.group_by("session_index").agg(pl.col("start_us").min()).sort("start_us", "session_index")
    named = trace.sessions["tenant"].gather(opens["session_index"]).fill_null("")
    tenants = tuple(named.unique().sort())
    index = named.replace_strict(list(tenants), list(range(len(tenants))), return_dtype=pl.Int64)
    return Arrivals(
        name=trace.name,
        length_us=trace.horizon_us,
        times_us=opens["start_us"].to_numpy(),
        tenant_index=index.to_numpy(),
        tenants=tenants,
    )
