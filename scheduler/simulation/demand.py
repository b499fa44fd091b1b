"""What users do in a run: active periods that begin and end, session by session.

Decides the order of begins and ends at one instant; must never know a GPU, a plan or a chunk.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.cluster import SessionId
from scheduler.fleet import Fleet
from scheduler.formulate_offline import session_classes
from scheduler.simulation.instants import FAR_US
from traces.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """The trace as columns; sessions and periods by their index in it."""

    session_ids: tuple[SessionId, ...]
    session_index: dict[SessionId, int]
    profiles: tuple[str, ...]  # by session
    tenants: tuple[str, ...]
    priorities: tuple[int, ...]
    period_session: array[int]  # by period
    start_us: array[int]
    end_us: array[int]
    is_first: tuple[bool, ...]  # the session opens with it
    is_last: tuple[bool, ...]  # the session closes with it
    horizon_us: int

    @classmethod
    def of(cls, trace: Trace, fleet: Fleet) -> Users:
        """Raises `BadInputError` for sessions without a profile and for unknown ones."""
        class_index, used = session_classes(trace, fleet)
        sessions = trace.sessions
        ids = tuple(SessionId(name) for name in sessions["session_id"].to_list())
        owner = trace.periods["session_index"].to_numpy().astype(np.int64)
        order = np.lexsort((trace.periods["start_us"].to_numpy(), owner))
        by_session = owner[order]
        first, last = np.ones(len(owner), np.bool_), np.ones(len(owner), np.bool_)
        first[order[1:]] = by_session[1:] != by_session[:-1]
        last[order[:-1]] = by_session[1:] != by_session[:-1]
        return cls(
            session_ids=ids,
            session_index={name: index for index, name in enumerate(ids)},
            profiles=tuple(used[k] for k in class_index.tolist()),
            tenants=tuple(sessions["tenant"].fill_null("").to_list()),
            priorities=tuple(sessions["priority"].to_list()),
            period_session=_packed(owner),
            start_us=_packed(trace.periods["start_us"].to_numpy()),
            end_us=_packed(trace.periods["end_us"].to_numpy()),
            is_first=tuple(first.tolist()),
            is_last=tuple(last.tolist()),
            horizon_us=trace.horizon_us,
        )


class Demand:
    """Begins and ends of periods as time goes by: sessions at one instant in the order of the trace."""

    def __init__(self, users: Users) -> None:
        self._users = users
        end_us, session = np.array(users.end_us, np.int64), np.array(users.period_session, np.int64)
        self._by_end = _packed(np.lexsort((session, end_us)))
        self._begun = 0
        self._ended = 0

    @property
    def next_us(self) -> int:
        users = self._users
        start_us = users.start_us[self._begun] if self._begun < len(users.start_us) else FAR_US
        end_us = users.end_us[self._by_end[self._ended]] if self._ended < len(self._by_end) else FAR_US
        return min(start_us, end_us)

    def ends(self, now_us: int) -> Iterator[int]:
        """Periods that end now."""
        while self._ended < len(self._by_end) and self._users.end_us[self._by_end[self._ended]] <= now_us:
            self._ended += 1
            yield self._by_end[self._ended - 1]

    def begins(self, now_us: int) -> Iterator[int]:
        """Periods that begin now."""
        while self._begun < len(self._users.start_us) and self._users.start_us[self._begun] <= now_us:
            self._begun += 1
            yield self._begun - 1

    @property
    def begun(self) -> int:
        """Periods that have begun so far: they come first in the trace."""
        return self._begun


def _packed(values: NDArray[np.integer]) -> array[int]:
    """Eight bytes each, and read like a list."""
    return array("q", values.astype(np.int64).tobytes())
