"""What a chunk does to whoever waits for it: buffers, stalls, lateness, one chunk or many alike at once.

Decides E, stalls and what is late, in compiled code; must never know how long a round takes or who takes part.
"""

from __future__ import annotations

from scheduler.simulation.round_costs import K_AHEAD_US, K_CHUNK_US, K_TARGET_US
from scheduler.simulation.round_state import (
    C_CHUNKS,
    C_LATE,
    C_LATENCY_US,
    L_CHUNKS,
    NEVER_US,
    NOBODY,
    P_BEGIN_US,
    P_CHUNKS,
    P_FIRST_US,
    P_LATE,
    P_STALL_US,
    S_AWAY_US,
    S_EMPTY_US,
    S_HAD,
    S_PERIOD,
    S_PROFILE,
    S_ROUND_FIRST,
    S_ROUND_GPU,
    S_ROUND_PERIOD,
    S_ROUND_US,
    S_TRAVEL_US,
    RoundState,
)
from solvers.numba_kernel import inner


@inner
def tell_chunks(state: RoundState, latency_us: int, chunks: int, late: int) -> None:
    """Equal ones in a row share one row of the log."""
    row = state.length[L_CHUNKS]
    if row > 0 and state.chunks[row - 1, C_LATENCY_US] == latency_us:
        row -= 1
    else:
        state.length[L_CHUNKS] = row + 1
        state.chunks[row, C_LATENCY_US] = latency_us
        state.chunks[row, C_CHUNKS] = 0
        state.chunks[row, C_LATE] = 0
    state.chunks[row, C_CHUNKS] += chunks
    state.chunks[row, C_LATE] += late


@inner
def wants_from_us(state: RoundState, session: int) -> int:
    """The first instant at which a member wants a chunk, if it is given none before."""
    own = state.session[session]
    if own[S_HAD] == 0:
        return int(state.period[own[S_PERIOD], P_BEGIN_US])
    return int(own[S_EMPTY_US] - state.costs.profile[own[S_PROFILE], K_AHEAD_US] + 1)


@inner
def take_part(state: RoundState, session: int, gpu: int, round_us: int) -> None:
    """A round begins: what its chunk will have taken is known, because nobody travels during a round."""
    own = state.session[session]
    own[S_ROUND_GPU] = gpu
    own[S_ROUND_PERIOD] = own[S_PERIOD]
    if own[S_HAD] == 0:
        own[S_ROUND_FIRST] = 1
        own[S_ROUND_US] = round_us + own[S_TRAVEL_US]
    else:
        own[S_ROUND_FIRST] = 0
        own[S_ROUND_US] = round_us + own[S_AWAY_US]


@inner
def deliver(state: RoundState, session: int, at_us: int) -> None:
    """The chunk of the round that has ended; after its period's end it only counts."""
    own = state.session[session]
    profile = state.costs.profile[own[S_PROFILE]]
    its = own[S_ROUND_PERIOD]
    latency_us, late = own[S_ROUND_US], 0
    state.period[its, P_CHUNKS] += 1
    if own[S_ROUND_FIRST] == 1:
        state.period[its, P_FIRST_US] = at_us - state.period[its, P_BEGIN_US]
    elif latency_us > profile[K_TARGET_US]:
        late = 1
        state.period[its, P_LATE] += 1
    own[S_ROUND_GPU] = NOBODY
    tell_chunks(state, latency_us, 1, late)
    if own[S_PERIOD] != its:
        return
    if own[S_HAD] == 0:
        own[S_HAD] = 1
        own[S_EMPTY_US] = at_us + profile[K_CHUNK_US]
    elif at_us > own[S_EMPTY_US]:
        state.period[its, P_STALL_US] += at_us - own[S_EMPTY_US]
        own[S_EMPTY_US] = at_us + profile[K_CHUNK_US]
    else:
        own[S_EMPTY_US] += profile[K_CHUNK_US]
    own[S_TRAVEL_US] = 0
    own[S_AWAY_US] = 0


@inner
def alike_with(state: RoundState, session: int, at_us: int, every_us: int, round_us: int) -> int:
    """How many rounds, the first at `at_us`, a session that wants a chunk of the first takes part in, all alike.

    Let x be how long its buffer lasts when a round begins. Then x' = max(x, round) + chunk - every at the next begin,
    and it wants a chunk while x is below what it holds ahead.
    """
    own = state.session[session]
    profile = state.costs.profile[own[S_PROFILE]]
    if own[S_HAD] == 0 or own[S_AWAY_US] > 0:
        return 0
    lasts_us = max(own[S_EMPTY_US] - at_us, round_us)
    slower_us = every_us - profile[K_CHUNK_US]
    left_us = profile[K_AHEAD_US] - lasts_us
    if slower_us < 0:
        return int(1 + max(0, (left_us - 1) // -slower_us))
    return NEVER_US if left_us + slower_us > 0 else 1


@inner
def alike_without(state: RoundState, session: int, at_us: int, every_us: int) -> int:
    """How many rounds, the first at `at_us`, a member sits out that does not want a chunk of the first."""
    return int((wants_from_us(state, session) - 1 - at_us) // every_us + 1)


@inner
def deliver_alike(state: RoundState, session: int, at_us: int, every_us: int, round_us: int, rounds: int) -> None:
    """The chunks of so many rounds in closed form; stalls as long as the last one ends behind the buffer."""
    own = state.session[session]
    profile = state.costs.profile[own[S_PROFILE]]
    its = own[S_PERIOD]
    late = rounds if round_us > profile[K_TARGET_US] else 0
    state.period[its, P_CHUNKS] += rounds
    state.period[its, P_LATE] += late
    tell_chunks(state, round_us, rounds, late)
    lag_us = at_us + round_us - own[S_EMPTY_US]
    slower_us = every_us - profile[K_CHUNK_US]
    if slower_us > 0:
        lag_us += (rounds - 1) * slower_us
    stall_us = max(0, lag_us)
    state.period[its, P_STALL_US] += stall_us
    own[S_EMPTY_US] += rounds * profile[K_CHUNK_US] + stall_us
