"""Which idle sessions keep their state on a GPU, and which give up their room.

Decides by the chance that each returns soon, learnt from past idle times; must never know who is placed where, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduler.cluster import History, NodeId, Session, Snapshot
from scheduler.fleet import Fleet
from scheduler.formulate import Formulated
from scheduler.plan import Move
from scheduler.planner_settings import ResidencySettings
from scheduler.return_room import crowded
from scheduler.sizes import host_room_mib, room_mib, state_bytes, state_mib
from solvers.placement.problem import UNLIMITED
from solvers.placement.solution import Placement

Chances = npt.NDArray[np.float64]


_WINDOWS_S = 2.0 ** np.arange(0, 12)  # for how long a state may be kept on trial: 1 s to 34 min

_UNSEEN_S = 60.0  # before a session idles longer than any seen, it is taken to return within about a minute


class ReturnChances:
    """What past idle times say about an idle session, given how long it has been idle already.

    Of n past idle times of its profile longer than a, and g sessions that never came back, those that ended within w
    more seconds: P = (#(a, a + w] + 1 - exp(-w / (a + 60 s))) / (n + g + 1). One made-up case stands for what was never
    seen: the longer a session is idle, the longer it will be. Without any past, who idles longest goes first.
    """

    def __init__(self, history: History, horizon_s: float) -> None:
        self._lengths = {profile: np.sort(np.array(lengths)) for profile, lengths in history.idle_s.items()}
        self._sums = {profile: np.append(0.0, np.cumsum(lengths)) for profile, lengths in self._lengths.items()}
        self._gone = history.gone
        self._horizon_s = horizon_s

    def soon(self, profile: str, idle_s: npt.NDArray[np.float64]) -> Chances:
        """The chance of each to return within the horizon; `idle_s` [n] is how long they have been idle."""
        lengths = self._lengths.get(profile, np.zeros(0))
        before = np.searchsorted(lengths, idle_s, side="right")
        until = np.searchsorted(lengths, idle_s + self._horizon_s, side="right")
        beyond = len(lengths) - before + self._gone.get(profile, 0)
        unseen = -np.expm1(-self._horizon_s / (idle_s + _UNSEEN_S))
        return np.asarray((until - before + unseen) / (beyond + 1.0), dtype=np.float64)

    def worth(self, profile: str, idle_s: npt.NDArray[np.float64]) -> Chances:
        """Returns per second of room, for the best time to give up: max over w of P(w) / E[min(time left, w)].

        This is the index of Gittins for keeping one state at a time. It is the hazard of a return where that falls, and
        looks beyond the next seconds where returns come later. To the sums over past cases the made-up one adds w
        seconds of room and w / (a + 60 s) returns.
        """
        lengths = self._lengths.get(profile, np.zeros(0))
        sums = self._sums.get(profile, np.zeros(1))
        before = np.searchsorted(lengths, idle_s, side="right")[:, None]
        until = np.searchsorted(lengths, idle_s[:, None] + _WINDOWS_S, side="right")
        beyond = len(lengths) - before + self._gone.get(profile, 0)
        returns = until - before
        seconds = sums[until] - sums[before] - returns * idle_s[:, None] + (beyond - returns) * _WINDOWS_S
        index = (returns + _WINDOWS_S / (idle_s[:, None] + _UNSEEN_S)) / (seconds + _WINDOWS_S)
        return np.asarray(index.max(axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """The idle sessions of one GPU and the room that is left to them."""

    sessions: Sequence[Session]
    room_mib: int
    reserve_mib: int  # of that room, for those likely to return soon
    leaving: bool  # the GPU is to be emptied: nobody stays
    crowded: frozenset[str] = frozenset()  # profiles that could not return here without making somebody late


def offloads(
    formulated: Formulated,
    placement: Placement,
    snapshot: Snapshot,
    fleet: Fleet,
    settings: ResidencySettings,
    now_s: float,
) -> list[Move]:
    """Who goes to host memory; first those whose room is needed by those who arrive or are placed."""
    problem = formulated.problem
    room = formulated.idle_room_mib - (placement.arrived + placement.placed) @ problem.state_mib
    crowded_at = _crowded(formulated, placement, fleet) if settings.return_on_time else {}
    chances = ReturnChances(snapshot.history, settings.horizon_s)
    free = _host_free_mib(snapshot, fleet, formulated)
    crowds = {
        row: Crowd(
            sessions=sessions,
            room_mib=int(room[row]),
            reserve_mib=int(settings.reserve_share * room_mib(fleet, snapshot.gpus[formulated.gpu_ids[row]].gpu_type)),
            leaving=bool(problem.leaving[row]),
            crowded=crowded_at.get(row, frozenset()),
        )
        for row, sessions in formulated.idle.items()
    }
    size = {profile: state_mib(fleet, profile) for profile in fleet.profiles}
    needed: list[Move] = []
    others: list[Move] = []
    for row, crowd in crowds.items():
        gpu = snapshot.gpus[formulated.gpu_ids[row]]
        for session, reason in choose(crowd, chances, size, settings.return_chance_min, now_s):
            mib = size[session.profile]
            if mib > free[gpu.node]:
                continue
            free[gpu.node] -= mib
            move = Move(
                session_id=session.session_id,
                kind="offload",
                source=gpu.gpu_id,
                target=None,
                source_node=gpu.node,
                target_node=gpu.node,
                state_bytes=state_bytes(fleet, session.profile),
                wave=0,
                reason=reason,
            )
            (needed if reason == "memory" else others).append(move)
    return needed + others


def choose(
    crowd: Crowd, chances: ReturnChances, size: Mapping[str, int], chance_min: float, now_s: float
) -> list[tuple[Session, str]]:
    """Who has to go and why, the least valuable first.

    A state takes room in proportion to the transfer that keeping it saves, so that sizes cancel out. Whoever could not
    return on time goes, because from host memory it may return to any GPU. While the others fit beside the reserve,
    none of them goes, however unlikely a return.
    """
    if crowd.leaving:
        return [(session, "drain") for session in crowd.sessions]
    held = sum(size[session.profile] for session in crowd.sessions)
    gone: list[tuple[Session, str]] = []
    for session in crowd.sessions:
        if session.profile in crowd.crowded:
            gone.append((session, "memory" if held > crowd.room_mib else "return"))
            held -= size[session.profile]
    if held <= crowd.room_mib - crowd.reserve_mib:
        return gone
    staying = [session for session in crowd.sessions if session.profile not in crowd.crowded]
    chance = _looked_up(staying, chances.soon, now_s)
    worth = _looked_up(staying, chances.worth, now_s)
    order = sorted(staying, key=lambda s: (worth[s.session_id], s.since_s, s.session_id))
    for session in order:
        if held <= crowd.room_mib - crowd.reserve_mib:
            break
        if held <= crowd.room_mib and chance[session.session_id] >= chance_min:
            continue
        gone.append((session, "memory" if held > crowd.room_mib else "idle"))
        held -= size[session.profile]
    return gone


def _crowded(formulated: Formulated, placement: Placement, fleet: Fleet) -> dict[int, frozenset[str]]:
    """By row, the profiles whose return would make somebody late once the placement is carried out."""
    after = placement.after(formulated.problem)
    active = np.zeros((len(after), len(fleet.profiles)), np.int64)
    names = list(fleet.profiles)
    active[:, [names.index(profile) for profile in formulated.profiles]] = after
    idle = {row: {session.profile for session in sessions} for row, sessions in formulated.idle.items()}
    return crowded(fleet, formulated.problem.gpu_type.astype(np.int64), active, idle)


def _looked_up(
    sessions: Sequence[Session], chances: Callable[[str, npt.NDArray[np.float64]], Chances], now_s: float
) -> dict[str, float]:
    by_profile: dict[str, list[Session]] = {}
    for session in sessions:
        by_profile.setdefault(session.profile, []).append(session)
    found: dict[str, float] = {}
    for profile, members in by_profile.items():
        values = chances(profile, np.array([max(0.0, now_s - session.since_s) for session in members]))
        found.update(zip((session.session_id for session in members), values.tolist(), strict=True))
    return found


def _host_free_mib(snapshot: Snapshot, fleet: Fleet, formulated: Formulated) -> dict[NodeId, int]:
    """Host memory left on the nodes of the GPUs in use, offloads in flight taken off."""
    used = formulated.host_mib
    nodes = {snapshot.gpus[gpu_id].node for gpu_id in formulated.gpu_ids}
    rooms = {node: host_room_mib(fleet, node) for node in nodes}
    return {node: UNLIMITED if room is None else room - used.get(node, 0) for node, room in rooms.items()}
