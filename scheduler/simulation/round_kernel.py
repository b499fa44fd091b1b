"""The rounds of a GPU from one change to the next, in compiled code; rounds that are alike are skipped by arithmetic.

Decides when a round begins, who takes part and how long it takes; must never know why members come and go.
"""

from __future__ import annotations

import numpy as np

from scheduler.simulation.playout import (
    alike_with,
    alike_without,
    deliver,
    deliver_alike,
    take_part,
    wants_from_us,
)
from scheduler.simulation.round_costs import K_CHUNK_US
from scheduler.simulation.round_state import (
    G_BEGIN_US,
    G_END_US,
    G_MEMBERS,
    G_NOW_US,
    G_RUN_BEGIN_US,
    G_RUN_EVERY_US,
    G_RUN_LAST_US,
    G_RUN_ROUNDS,
    G_RUN_SESSIONS,
    G_RUN_US,
    G_RUNNING,
    G_TAKE_PART,
    G_TYPE,
    L_CHUNKS,
    L_RUNS,
    NEVER_US,
    P_BEGIN_US,
    R_BEGIN_US,
    R_EVERY_US,
    R_GPU,
    R_LATENCY_US,
    R_ROUNDS,
    R_SESSIONS,
    S_AWAY_US,
    S_EMPTY_US,
    S_HAD,
    S_PERIOD,
    S_PROFILE,
    RoundState,
)
from solvers.numba_kernel import inner, kernel

_RUNS_MAX = 3  # rows of `runs` that one step adds at most


@kernel
def follow(state: RoundState, first: int, last: int, until_us: int, skip: bool) -> bool:
    """Follow the rounds of GPUs `first` up to `last`, exclusive, until an instant.

    Rounds that end then have delivered, rounds that begin then have not begun. False where the logs are full: they are
    to be emptied, and the call repeated. Without `skip` every round is taken by itself.
    """
    for gpu in range(first, last):
        row = state.gpu[gpu]
        while True:
            if row[G_RUNNING] == 1:
                if row[G_END_US] > until_us:
                    break
                if _is_full(state):
                    return False
                _end(state, gpu)
                continue
            at_us = _next_begin_us(state, gpu)
            if at_us >= until_us:
                break
            if _is_full(state):
                return False
            _begin(state, gpu, at_us, until_us, skip)
        row[G_NOW_US] = until_us
    return True


@inner
def _is_full(state: RoundState) -> bool:
    places = state.member.shape[1]
    too_many_chunks = state.length[L_CHUNKS] + places > state.chunks.shape[0]
    return bool(too_many_chunks or state.length[L_RUNS] + _RUNS_MAX > state.runs.shape[0])


@inner
def _next_begin_us(state: RoundState, gpu: int) -> int:
    """When the next round begins if nothing changes; `NEVER_US` where nobody will want a chunk."""
    row = state.gpu[gpu]
    wanted_us, shortest_us = NEVER_US, NEVER_US
    for place in range(row[G_MEMBERS]):
        session = state.member[gpu, place]
        profile = state.session[session, S_PROFILE]
        shortest_us = min(shortest_us, state.costs.profile[profile, K_CHUNK_US])
        if state.costs.runs_alone[row[G_TYPE], profile]:
            wanted_us = min(wanted_us, wants_from_us(state, session))
    if wanted_us == NEVER_US:
        return NEVER_US
    return int(max(wanted_us, row[G_NOW_US], row[G_END_US], row[G_BEGIN_US] + shortest_us))


@inner
def _begin(state: RoundState, gpu: int, at_us: int, until_us: int, skip: bool) -> None:
    """A round begins; if it and others like it end in time, all of them are done with at once."""
    row = state.gpu[gpu]
    wanting = 0
    state.counts[:] = 0
    shortest_us = NEVER_US
    for place in range(row[G_MEMBERS]):
        session = state.member[gpu, place]
        profile = state.session[session, S_PROFILE]
        shortest_us = min(shortest_us, state.costs.profile[profile, K_CHUNK_US])
        if state.costs.runs_alone[row[G_TYPE], profile] and wants_from_us(state, session) <= at_us:
            state.chosen[wanting] = session
            state.counts[profile] += 1
            wanting += 1
    takes_ms = _content_ms(state, row[G_TYPE], wanting)
    chosen = wanting
    if np.isinf(takes_ms):
        chosen = _choose(state, row[G_TYPE], wanting)
        takes_ms = _content_ms(state, row[G_TYPE], chosen)
    round_us = int(np.rint(1000.0 * takes_ms))
    if state.slowness[gpu] > 1.0:
        round_us = int(np.ceil(round_us * state.slowness[gpu]))
    if skip and chosen == wanting:
        every_us = max(round_us, shortest_us)
        rounds = _alike(state, gpu, chosen, at_us, until_us, every_us, round_us)
        if rounds > 0:
            for place in range(chosen):
                deliver_alike(state, state.chosen[place], at_us, every_us, round_us, rounds)
            row[G_BEGIN_US] = at_us + (rounds - 1) * every_us
            row[G_END_US] = row[G_BEGIN_US] + round_us
            _note(state, gpu, at_us, every_us, rounds, round_us, chosen)
            return
    for place in range(chosen):
        take_part(state, state.chosen[place], gpu, round_us)
        state.takes_part[gpu, place] = state.chosen[place]
    for place in range(chosen, wanting):
        state.session[state.chosen[place], S_AWAY_US] += round_us
    row[G_RUNNING], row[G_TAKE_PART] = 1, chosen
    row[G_BEGIN_US], row[G_END_US] = at_us, at_us + round_us


@inner
def _end(state: RoundState, gpu: int) -> None:
    row = state.gpu[gpu]
    for place in range(row[G_TAKE_PART]):
        deliver(state, state.takes_part[gpu, place], row[G_END_US])
    row[G_RUNNING] = 0
    _note(state, gpu, row[G_BEGIN_US], 0, 1, row[G_END_US] - row[G_BEGIN_US], row[G_TAKE_PART])


@inner
def _alike(state: RoundState, gpu: int, chosen: int, at_us: int, until_us: int, every_us: int, round_us: int) -> int:
    """How many rounds like this one end in time; 0 where not even this one does, or where it has to be looked at."""
    shortest_us = max(round_us, 1)  # a round that takes no time must not begin at `until_us`
    if at_us + shortest_us > until_us:
        return 0
    rounds = (until_us - shortest_us - at_us) // every_us + 1
    for place in range(chosen):
        rounds = min(rounds, alike_with(state, state.chosen[place], at_us, every_us, round_us))
    row = state.gpu[gpu]
    for place in range(row[G_MEMBERS]):
        session = state.member[gpu, place]
        able = state.costs.runs_alone[row[G_TYPE], state.session[session, S_PROFILE]]
        if able and wants_from_us(state, session) > at_us:
            rounds = min(rounds, alike_without(state, session, at_us, every_us))
    return int(rounds)


@inner
def _content_ms(state: RoundState, gpu_type: int, sessions: int) -> float:
    """f of the counts in `counts`; the sums are taken in the order of `scheduler.latency`."""
    costs = state.costs
    last = costs.common_ms.shape[1] - 1
    common_ms = costs.common_ms[gpu_type, min(sessions, last)]
    total_ms = 0.0 if costs.by_max else common_ms
    for profile in range(len(state.counts)):
        own_ms = costs.alone_ms[gpu_type, profile, min(state.counts[profile], last)]
        total_ms = max(total_ms, own_ms) if costs.by_max else total_ms + own_ms
    return float(total_ms + common_ms if costs.by_max else total_ms)


@inner
def _choose(state: RoundState, gpu_type: int, wanting: int) -> int:
    """One by one, who needs it most first; whoever makes the batch impossible goes to the end of `chosen`."""
    for place in range(1, wanting):
        session, to = state.chosen[place], place
        while to > 0 and _needs_more(state, session, state.chosen[to - 1]):
            state.chosen[to] = state.chosen[to - 1]
            to -= 1
        state.chosen[to] = session
    state.counts[:] = 0
    taken = 0
    for place in range(wanting):
        session = state.chosen[place]
        profile = state.session[session, S_PROFILE]
        state.counts[profile] += 1
        if np.isinf(_content_ms(state, gpu_type, taken + 1)):
            state.counts[profile] -= 1
        else:
            state.chosen[place] = state.chosen[taken]
            state.chosen[taken] = session
            taken += 1
    return taken


@inner
def _needs_more(state: RoundState, one: int, other: int) -> bool:
    """Before whom a session comes: those without a chunk in this period, then whose buffer runs empty first."""
    first, second = state.session[one], state.session[other]
    if first[S_HAD] != second[S_HAD]:
        return bool(first[S_HAD] < second[S_HAD])
    if first[S_HAD] == 0:
        since = state.period[first[S_PERIOD], P_BEGIN_US] - state.period[second[S_PERIOD], P_BEGIN_US]
    else:
        since = first[S_EMPTY_US] - second[S_EMPTY_US]
    return bool(since < 0 or (since == 0 and one < other))


@inner
def _note(state: RoundState, gpu: int, at_us: int, every_us: int, rounds: int, round_us: int, sessions: int) -> None:
    """Rounds that have ended join the run of equal ones before, however they were followed."""
    row = state.gpu[gpu]
    begin_us, left = at_us, rounds
    while left > 0:
        equal = row[G_RUN_ROUNDS] > 0 and row[G_RUN_US] == round_us and row[G_RUN_SESSIONS] == sessions
        gap_us = begin_us - row[G_RUN_LAST_US]
        if equal and (row[G_RUN_ROUNDS] == 1 or row[G_RUN_EVERY_US] == gap_us):
            row[G_RUN_EVERY_US] = gap_us
            step = left if gap_us == every_us else 1
            row[G_RUN_ROUNDS] += step
        else:
            close_run(state, gpu)
            row[G_RUN_BEGIN_US], row[G_RUN_US], row[G_RUN_SESSIONS] = begin_us, round_us, sessions
            row[G_RUN_ROUNDS] = step = 1
        begin_us += step * every_us
        left -= step
        row[G_RUN_LAST_US] = begin_us - every_us


@inner
def close_run(state: RoundState, gpu: int) -> None:
    """Tell the run of equal rounds that has come to its end."""
    row = state.gpu[gpu]
    if row[G_RUN_ROUNDS] == 0:
        return
    at = state.length[L_RUNS]
    state.runs[at, R_GPU] = gpu
    state.runs[at, R_BEGIN_US] = row[G_RUN_BEGIN_US]
    state.runs[at, R_EVERY_US] = row[G_RUN_EVERY_US] if row[G_RUN_ROUNDS] > 1 else 0
    state.runs[at, R_ROUNDS] = row[G_RUN_ROUNDS]
    state.runs[at, R_LATENCY_US] = row[G_RUN_US]
    state.runs[at, R_SESSIONS] = row[G_RUN_SESSIONS]
    state.length[L_RUNS] = at + 1
    row[G_RUN_ROUNDS] = 0


@kernel
def close_runs(state: RoundState) -> bool:
    """Tell all runs that are under way; False where the log is full: it is to be emptied, and the call repeated."""
    for gpu in range(len(state.gpu)):
        if _is_full(state):
            return False
        close_run(state, gpu)
    return True
