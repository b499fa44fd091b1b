"""What the compiled rounds work on: sessions, periods and GPUs as rows of whole numbers.

Decides what each column means; must never know why a session is on a GPU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduler.simulation.round_costs import RoundCosts

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# These numbers become part of compiled code: that `solvers.numba_kernel` is named here renews its cache when they
# change.

NOBODY = -1
LONG_AGO_US = -(2**60)
NEVER_US = 2**62

# Columns of RoundState.session
S_PROFILE = 0
S_PERIOD = 1  # the active period under way; NOBODY
S_HAD = 2  # 1: it has had a chunk in this period
S_EMPTY_US = 3  # E: when its buffer runs empty, once it has had a chunk
S_TRAVEL_US = 4  # travelled since the last chunk, or since the period's begin
S_AWAY_US = 5  # travelled, was on no GPU, or was left out, since then
S_ROUND_GPU = 6  # where it takes part in a round that has begun; NOBODY
S_ROUND_PERIOD = 7  # the period in which that round began
S_ROUND_US = 8  # the latency that its chunk will have
S_ROUND_FIRST = 9  # 1: the first chunk of that period
S_COLUMNS = 10

# Columns of RoundState.period
P_BEGIN_US = 0
P_CHUNKS = 1
P_LATE = 2
P_STALL_US = 3
P_FIRST_US = 4  # from its begin to its first chunk; NOBODY
P_COLUMNS = 5

# Columns of RoundState.gpu
G_TYPE = 0
G_NOW_US = 1  # its rounds have been followed until here: what begins now has not begun
G_MEMBERS = 2
G_RUNNING = 3  # 1: a round is under way
G_BEGIN_US = 4  # of the last round
G_END_US = 5
G_TAKE_PART = 6  # sessions in the round under way
G_RUN_BEGIN_US = 7  # of the first of a run of equal rounds that have ended
G_RUN_LAST_US = 8  # begin of the last one
G_RUN_EVERY_US = 9  # 0: one round only
G_RUN_ROUNDS = 10
G_RUN_US = 11  # what one takes
G_RUN_SESSIONS = 12
G_COLUMNS = 13

# Columns of RoundState.chunks and of RoundState.runs
C_LATENCY_US = 0
C_CHUNKS = 1
C_LATE = 2
C_COLUMNS = 3
R_GPU = 0
R_BEGIN_US = 1
R_EVERY_US = 2
R_ROUNDS = 3
R_LATENCY_US = 4
R_SESSIONS = 5
R_COLUMNS = 6

# Positions of RoundState.length
L_CHUNKS = 0
L_RUNS = 1


class RoundState(NamedTuple):
    """Everything that changes as rounds go by, and the costs, which do not."""

    session: Ints  # [session, S_*]
    period: Ints  # [period, P_*]
    gpu: Ints  # [gpu, G_*]
    slowness: Floats  # [gpu]: a straggler's rounds take so many times as long
    member: Ints  # [gpu, place]: sessions
    takes_part: Ints  # [gpu, place]: sessions in the round under way
    chosen: Ints  # [place]: scratch, who takes part in the round to come
    counts: Ints  # [profile]: scratch, how many of each
    chunks: Ints  # [row, C_*]: chunks that were delivered and not told yet
    runs: Ints  # [row, R_*]: runs of equal rounds that were not told yet
    length: Ints  # [2]: rows in `chunks` and `runs`
    costs: RoundCosts


def a_round_state(
    profile_of_session: Ints, periods: int, type_of_gpu: Ints, places: int, log_rows: int, costs: RoundCosts
) -> RoundState:
    """Nobody is anywhere, and nothing has happened."""
    session: Ints = np.zeros((len(profile_of_session), S_COLUMNS), np.int64)
    session[:, S_PROFILE] = profile_of_session
    session[:, [S_PERIOD, S_ROUND_GPU, S_ROUND_PERIOD]] = NOBODY
    period: Ints = np.zeros((periods, P_COLUMNS), np.int64)
    period[:, P_FIRST_US] = NOBODY
    gpu: Ints = np.zeros((len(type_of_gpu), G_COLUMNS), np.int64)
    gpu[:, G_TYPE] = type_of_gpu
    gpu[:, [G_BEGIN_US, G_END_US]] = LONG_AGO_US
    return RoundState(
        session=session,
        period=period,
        gpu=gpu,
        slowness=np.ones(len(type_of_gpu)),
        member=np.full((len(type_of_gpu), places), NOBODY, np.int64),
        takes_part=np.full((len(type_of_gpu), places), NOBODY, np.int64),
        chosen=np.zeros(places, np.int64),
        counts=np.zeros(len(costs.profile), np.int64),
        chunks=np.zeros((log_rows, C_COLUMNS), np.int64),
        runs=np.zeros((log_rows, R_COLUMNS), np.int64),
        length=np.zeros(2, np.int64),
        costs=costs,
    )
