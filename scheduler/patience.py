"""Who waits a little longer because no GPU has a place on time for it yet.

Decides by what the first chunk's target leaves; must never know moves, prices or who will make room. Sessions idle and
close all the time, so that a place on time is mostly free before a first chunk would be late. Who cannot wait is served
at once, late or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduler.cluster import Session, SessionId
from scheduler.fleet import Fleet
from scheduler.transfers import GB, GIB
from solvers.placement.problem import NO_TARGET_US, IntArray, RoundTables

BoolArray = npt.NDArray[np.bool_]

STEP_S = 0.5  # until somebody who may wait no longer is asked for again, and the plan takes effect


def patience_s(fleet: Fleet, profile: str) -> float:
    """How long a session may wait so that its first chunk is on time: resumed, after a round under way, one round."""
    links, target_s = fleet.links, fleet.target_ms(profile) / 1000
    resume_s = links.latency_ms / 1000 + fleet.profiles[profile].state_gib * GIB / (links.device_host_gb_s * GB)
    return max(0.0, fleet.target.first_chunk_ms / 1000 - resume_s - 2 * target_s - STEP_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What GPUs run and where there is room, by row; classes as in the placement problem."""

    tables: RoundTables
    gpu_type: npt.NDArray[np.int32]  # [rows]
    running: IntArray  # [rows, classes], moves in flight included
    free_mib: IntArray  # [rows], idle sessions that can be offloaded count as free
    receives: BoolArray  # [rows]
    state_mib: IntArray  # [classes]
    target_us: IntArray  # [classes]


def held_back(
    waiting: Iterable[Session], class_of: Mapping[str, int], places: Places, fleet: Fleet, now_s: float
) -> dict[SessionId, float]:
    """Until when each of those may wait that find no place on time.

    Higher priorities, then those who wait longest, take places first, each where the least room on time is left.
    """
    running, free_mib = places.running.copy(), places.free_mib.copy()
    full: set[int] = set()  # classes without a place; there will not be one, because others only take more
    held: dict[SessionId, float] = {}
    until_s = {profile: patience_s(fleet, profile) for profile in class_of}
    for session in sorted(waiting, key=lambda s: (-s.priority, s.since_s, s.session_id)):
        k = class_of[session.profile]
        row = -1 if k in full else _tightest(places, running, free_mib, k)
        if row >= 0:
            running[row, k] += 1
            free_mib[row] -= places.state_mib[k]
            continue
        full.add(k)
        if now_s < session.since_s + until_s[session.profile]:
            held[session.session_id] = session.since_s + until_s[session.profile]
    return held


def _tightest(places: Places, running: IntArray, free_mib: IntArray, k: int) -> int:
    """The GPU that one more of class k leaves the least time on, with everybody on time; -1: there is none."""
    more = running.copy()
    more[:, k] += 1
    latency_us = places.tables.latency_us(places.gpu_type, more)
    strictest_us = np.where(more > 0, places.target_us, NO_TARGET_US).min(axis=1)
    fits = places.receives & (free_mib >= places.state_mib[k]) & (latency_us <= strictest_us)
    if not fits.any():
        return -1
    return int(np.where(fits, latency_us - strictest_us, np.iinfo(np.int64).min).argmax())
