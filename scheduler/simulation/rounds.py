"""The rounds of all GPUs, followed only as far as somebody has to know: members, who is in a round, what came out.

Decides when the compiled rounds are asked and with which members; must never know a plan, a move or a status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from scheduler.simulation.round_costs import RoundCosts
from scheduler.simulation.round_kernel import close_runs, follow
from scheduler.simulation.round_state import (
    G_BEGIN_US,
    G_END_US,
    G_MEMBERS,
    G_RUNNING,
    G_TAKE_PART,
    L_CHUNKS,
    L_RUNS,
    LONG_AGO_US,
    NOBODY,
    P_BEGIN_US,
    P_STALL_US,
    S_AWAY_US,
    S_EMPTY_US,
    S_HAD,
    S_PERIOD,
    S_ROUND_GPU,
    S_TRAVEL_US,
    Ints,
    RoundState,
    a_round_state,
)

_PLACES = 16  # sessions on one GPU, to begin with
_LOG_ROWS = 4096


class Rounds:
    """Sessions, periods and GPUs are meant by their indexes; instants never go back."""

    def __init__(
        self,
        profile_of_session: Sequence[int],
        periods: int,
        type_of_gpu: Sequence[int],
        costs: RoundCosts,
        *,
        skip: bool = True,
        runs: bool = False,
    ) -> None:
        """`skip`: whether equal rounds are skipped by arithmetic. `runs`: whether runs of equal rounds are kept."""
        self._state: RoundState = a_round_state(
            np.array(profile_of_session, np.int64), periods, np.array(type_of_gpu, np.int64), _PLACES, _LOG_ROWS, costs
        )
        self._skip, self._keep_runs = skip, runs
        self._seat = [NOBODY] * len(profile_of_session)  # the GPU that a session is a member of
        self._travels_since: dict[int, int] = {}
        self._away_since: dict[int, int] = {}
        self._latency_chunks: Counter[int] = Counter()  # what was delivered since it was last taken
        self._latency_late: Counter[int] = Counter()
        self._runs: list[Ints] = []

    def seat(self, session: int, gpu: int, now_us: int) -> None:
        """The session is a member of this GPU from now on, and of no other; `NOBODY`: of none."""
        before = self._seat[session]
        if before == gpu:
            return
        if before != NOBODY:
            self.follow(before, now_us)
            self._leave(session, before)
        if gpu != NOBODY:
            self.follow(gpu, now_us)
            self._join(session, gpu)
        self._seat[session] = gpu

    def absent(self, session: int, *, travels: bool, away: bool, now_us: int) -> None:
        """Whether a session is travelling, and whether it is travelling or on no GPU, from now on."""
        own = self._state.session[session]
        for since, is_so, column in (
            (self._travels_since, travels, S_TRAVEL_US),
            (self._away_since, away, S_AWAY_US),
        ):
            if is_so:
                since.setdefault(session, now_us)
            elif session in since:
                own[column] += now_us - since.pop(session)

    def period_begins(self, session: int, period: int, now_us: int) -> None:
        own = self._state.session[session]
        own[S_PERIOD], own[S_HAD], own[S_TRAVEL_US], own[S_AWAY_US] = period, 0, 0, 0
        self._state.period[period, P_BEGIN_US] = now_us
        for since in (self._travels_since, self._away_since):
            if session in since:
                since[session] = now_us

    def period_ends(self, session: int, now_us: int) -> None:
        """The stall under way counts until now; the session's GPU must have been left before."""
        assert self._seat[session] == NOBODY, "who wants no chunks is no member"
        own = self._state.session[session]
        if own[S_HAD] == 1 and now_us > own[S_EMPTY_US]:
            self._state.period[own[S_PERIOD], P_STALL_US] += now_us - own[S_EMPTY_US]
        own[S_PERIOD] = NOBODY

    def in_round_until_us(self, session: int, gpu: int, now_us: int) -> int | None:
        """The end of the round under way on its GPU that it takes part in."""
        self.follow(gpu, now_us)
        if self._state.session[session, S_ROUND_GPU] != gpu:
            return None
        return int(self._state.gpu[gpu, G_END_US])

    def lose(self, gpu: int, now_us: int) -> None:
        """The round under way is lost with its GPU; the next one does not depend on it."""
        self.follow(gpu, now_us)
        row = self._state.gpu[gpu]
        if row[G_RUNNING]:
            self._state.session[self._state.takes_part[gpu, : row[G_TAKE_PART]], S_ROUND_GPU] = NOBODY
            row[G_RUNNING], row[G_BEGIN_US], row[G_END_US] = 0, LONG_AGO_US, LONG_AGO_US

    def slow_down(self, gpu: int, factor: float, now_us: int) -> None:
        """Rounds that begin from now on take so many times as long; 1: as ever."""
        self.follow(gpu, now_us)
        self._state.slowness[gpu] = factor

    def follow(self, gpu: int, now_us: int) -> None:
        while not follow(self._state, gpu, gpu + 1, now_us, self._skip):
            self._empty_logs()

    def follow_all(self, now_us: int) -> None:
        while not follow(self._state, 0, len(self._state.gpu), now_us, self._skip):
            self._empty_logs()

    def taken_chunks(self, now_us: int) -> tuple[Counter[int], Counter[int]]:
        """What was delivered since the last call, until now: chunks by latency, and those of them that were late."""
        self.follow_all(now_us)
        self._empty_logs()
        taken = self._latency_chunks, self._latency_late
        self._latency_chunks, self._latency_late = Counter(), Counter()
        return taken

    def taken_runs(self) -> Ints:
        """Runs of equal rounds that have ended, as rows of `RoundState.runs`."""
        while not close_runs(self._state):
            self._empty_logs()
        self._empty_logs()
        return np.concatenate([self._state.runs[:0], *self._runs])

    def of_periods(self) -> Ints:
        """What users saw: rows of `RoundState.period`."""
        return self._state.period

    def _join(self, session: int, gpu: int) -> None:
        place = int(self._state.gpu[gpu, G_MEMBERS])
        if place == self._state.member.shape[1]:
            self._widen()
        self._state.member[gpu, place] = session
        self._state.gpu[gpu, G_MEMBERS] = place + 1

    def _leave(self, session: int, gpu: int) -> None:
        count = int(self._state.gpu[gpu, G_MEMBERS])
        row = self._state.member[gpu]
        place = row[:count].tolist().index(session)
        row[place] = row[count - 1]
        self._state.gpu[gpu, G_MEMBERS] = count - 1

    def _widen(self) -> None:
        """Twice as many sessions on one GPU."""
        old = self._state
        more = np.full_like(old.member, NOBODY)
        places = 2 * old.member.shape[1]
        rows = max(len(old.chunks), 4 * places)
        self._empty_logs()
        self._state = old._replace(
            member=np.ascontiguousarray(np.hstack([old.member, more])),
            takes_part=np.ascontiguousarray(np.hstack([old.takes_part, more])),
            chosen=np.zeros(places, np.int64),
            chunks=np.zeros((rows, old.chunks.shape[1]), np.int64),
        )

    def _empty_logs(self) -> None:
        length = self._state.length
        for latency_us, chunks, late in self._state.chunks[: length[L_CHUNKS]].tolist():
            self._latency_chunks[latency_us] += chunks
            if late:
                self._latency_late[latency_us] += late
        if self._keep_runs:
            self._runs.append(self._state.runs[: length[L_RUNS]].copy())
        length[:] = 0
