"""The users of a trace, beside a live controller: what they want when, and what they feel.

Decides when a session wants its next chunk and what a chunk's latency is, by the rules of docs/simulation.md; must
never know a worker or a socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from scheduler.fleet import Fleet
from scheduler.simulation.settings import SimulationSettings
from traces.trace import Trace

AHEAD_CHUNKS = SimulationSettings().ahead_chunks

Where = Literal["served", "travels", "away"]  # somebody may compute its chunks; its state is on its way; neither


@dataclass(slots=True, kw_only=True)
class User:
    """One session of the trace. Times are seconds of the run's clock."""

    session_id: str
    profile: str
    chunk_s: float
    target_s: float
    periods: list[tuple[float, float]]
    wants: bool = False
    period: int = -1  # the one that has begun last, by number
    period_begin_s: float = 0.0
    chunks_in_period: int = 0
    buffer_end_s: float = 0.0  # when all that was delivered in this period would have been shown
    where: Where = "away"
    where_since_s: float = 0.0
    ownership: int = 0  # epoch of whoever has said so
    stood_s: float = 0.0  # before the next chunk's round: times without anybody who may compute it
    travelled_s: float = 0.0  # the part of it in which its state was on its way
    number: int = 0  # of its next chunk


@dataclass(slots=True, kw_only=True)
class Felt:
    """What all users have felt together."""

    latencies_s: list[float] = field(default_factory=list)
    late: int = 0
    judged: int = 0  # chunks that are not the first of their period
    first_s: list[float] = field(default_factory=list)


class Users:
    """All sessions of one trace."""

    def __init__(self, trace: Trace, fleet: Fleet) -> None:
        index = trace.periods["session_index"].to_numpy()
        begins = trace.periods["start_us"].to_numpy() / 1e6
        ends = trace.periods["end_us"].to_numpy() / 1e6
        self.by_id: dict[str, User] = {}
        for row, (session_id, profile) in enumerate(trace.sessions.select("session_id", "profile").iter_rows()):
            name = profile or fleet.default_profile
            assert name is not None, "every session of a workload has a profile"
            mine = np.flatnonzero(index == row).tolist()
            self.by_id[session_id] = User(
                session_id=session_id,
                profile=name,
                chunk_s=fleet.profiles[name].chunk_s,
                target_s=fleet.target_ms(name) / 1000,
                periods=[(float(begins[at]), float(ends[at])) for at in mine],
            )
        self.felt = Felt()

    def changes(self) -> Iterator[tuple[float, str, str]]:
        """When who begins to want chunks, rests, or leaves: (seconds, what, whom)."""
        for user in self.by_id.values():
            for begin_s, end_s in user.periods:
                yield begin_s, "active", user.session_id
                yield end_s, "end" if end_s == user.periods[-1][1] else "idle", user.session_id

    def begins(self, session_id: str, now_s: float) -> None:
        user = self.by_id[session_id]
        user.wants, user.chunks_in_period, user.stood_s, user.travelled_s = True, 0, 0.0, 0.0
        user.period, user.period_begin_s = user.period + 1, now_s

    def rests(self, session_id: str) -> None:
        self.by_id[session_id].wants = False

    def is_now(self, session_id: str, where: Where, ownership: int, now_s: float) -> None:
        """As a worker has it; what one says who owned the session before is of the past."""
        user = self.by_id[session_id]
        if ownership < user.ownership:
            return
        user.ownership = ownership
        if user.where == where:
            return
        if user.wants and user.where != "served":
            since_s = max(user.where_since_s, user.period_begin_s)
            user.stood_s += now_s - since_s
            user.travelled_s += now_s - since_s if user.where == "travels" else 0.0
        user.where, user.where_since_s = where, now_s

    def wants_at_s(self, session_id: str) -> float | None:
        """From when on it wants a chunk; None: it does not."""
        user = self.by_id[session_id]
        if not user.wants:
            return None
        return float("-inf") if user.chunks_in_period == 0 else user.buffer_end_s - AHEAD_CHUNKS * user.chunk_s

    def left_out(self, session_id: str, round_s: float) -> None:
        self.by_id[session_id].stood_s += round_s

    def delivered(self, session_id: str, period: int, round_s: float, now_s: float) -> None:
        """A chunk whose round began in that period; one that comes after its end is felt by nobody."""
        user, felt = self.by_id[session_id], self.felt
        user.number += 1
        if user.period != period or not user.wants:
            return
        latency_s = round_s + (user.stood_s if user.chunks_in_period else user.travelled_s)
        user.stood_s = user.travelled_s = 0.0
        felt.latencies_s.append(latency_s)
        if user.chunks_in_period == 0:
            felt.first_s.append(now_s - user.period_begin_s)
            user.buffer_end_s = now_s + user.chunk_s
        else:
            felt.judged += 1
            felt.late += latency_s > user.target_s + 1e-9
            user.buffer_end_s = max(user.buffer_end_s, now_s) + user.chunk_s
        user.chunks_in_period += 1
