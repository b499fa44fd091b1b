"""The cluster state as it is told events, and what the simulator derives from each: room, membership, stays, who waits.

Decides what follows from an event for rounds and tables; must never know why it happened or what is planned.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from scheduler import events
from scheduler.cluster import GpuId, MoveInFlight, NodeId, Session, SessionId, SessionStatus, Snapshot
from scheduler.cluster_state import ClusterState
from scheduler.events import Event
from scheduler.fleet import Fleet
from scheduler.simulation.demand import Users
from scheduler.simulation.instants import to_s
from scheduler.simulation.round_state import NOBODY
from scheduler.simulation.rounds import Rounds
from scheduler.sizes import host_room_mib, room_mib, state_mib

Observer = Callable[[Snapshot, float], None]
Place = GpuId | NodeId  # a memory

STATUSES: tuple[SessionStatus, ...] = ("active", "idle", "suspended", "waiting")
_CHANGES = events.SessionIdled | events.SessionClosed | events.MoveEnded | events.GpuReady | events.GpuLost


class Stage:
    """Where everybody is now. Sessions are told by name, as in events; indexes are those of trace and fleet."""

    def __init__(
        self, start: Snapshot, users: Users, fleet: Fleet, rounds: Rounds, observe: Observer | None = None
    ) -> None:
        self._state = ClusterState(start)
        self.gpus, self.sessions, self.moves = self._state.gpus, self._state.sessions, self._state.moves
        self.gpu_index = {gpu_id: index for index, gpu_id in enumerate(start.gpus)}
        self._users, self._rounds, self._observe = users, rounds, observe
        self._size = {profile: state_mib(fleet, profile) for profile in fleet.profiles}
        self._room: dict[Place, int | None] = {g: room_mib(fleet, gpu.gpu_type) for g, gpu in start.gpus.items()}
        self._room |= {gpu.node: host_room_mib(fleet, gpu.node) for gpu in start.gpus.values()}
        self.held_mib: Counter[Place] = Counter()
        self._held_by: dict[SessionId, tuple[Place, ...]] = {}
        self.frozen: set[SessionId] = set()
        self.count = dict.fromkeys(STATUSES, 0)
        self.waiting_free = 0  # sessions that wait and are not in flight
        self.changed = False  # something happened that lets those who wait hope again; whoever hears it puts it out
        self.calls = False  # the policy is to be asked: a GPU became ready or was lost, or somebody returned to its own
        self.period_of: list[int] = [NOBODY] * len(users.session_ids)
        self.unserved_us = array("q", bytes(8 * len(users.start_us)))  # by period
        self._waits_since: dict[SessionId, int] = {}
        self._stay: dict[SessionId, tuple[SessionStatus, GpuId | None, int]] = {}
        self.stays = array("q")  # session, status, GPU, start, end; again and again

    def snapshot(self) -> Snapshot:
        return self._state.snapshot()

    def tell(self, event: Event, now_us: int) -> None:
        """An event, with all that follows from it."""
        touched = self._touched(event)
        before = [(self.sessions.get(name), self.moves.get(name)) for name in touched]
        self._state.apply(event, to_s(now_us))
        for name, (session, move) in zip(touched, before, strict=True):
            self._follow(name, session, move, now_us)
        if isinstance(event, _CHANGES):
            self.changed = True
            self.calls |= isinstance(event, events.GpuReady | events.GpuLost)
        if isinstance(event, events.SessionActivated) and self.sessions[event.session_id].status == "active":
            self.calls = True
        if self._observe is not None:
            self._observe(self.snapshot(), to_s(now_us))

    def freeze(self, name: SessionId, now_us: int) -> None:
        """From now on the session travels."""
        self.frozen.add(name)
        self._seat(name, now_us)

    def thaw(self, name: SessionId, now_us: int) -> None:
        """It travels no longer, though it did not arrive."""
        self.frozen.discard(name)
        self._seat(name, now_us)

    def has_room(self, place: Place, profile: str) -> bool:
        """For one more state, counting what is there and what is in flight to it."""
        room = self._room[place]
        return room is None or self.held_mib[place] + self._size[profile] <= room

    def finish(self, now_us: int) -> None:
        """The run is over: stays and waiting count until now."""
        for name in list(self._stay):
            self._stays(name, None, now_us)
        for name in list(self._waits_since):
            self._waits(name, False, now_us)

    def _touched(self, event: Event) -> list[SessionId]:
        if isinstance(event, events.GpuLost | events.GpuStopped):
            gpu = event.gpu_id
            ends = {name for name, move in self.moves.items() if gpu in (move.source, move.target)}
            return [name for name, session in self.sessions.items() if session.gpu == gpu or name in ends]
        name = getattr(event, "session_id", None)
        return [] if name is None else [name]

    def _follow(self, name: SessionId, before: Session | None, move_before: MoveInFlight | None, now_us: int) -> None:
        after, move = self.sessions.get(name), self.moves.get(name)
        waited, waits = (
            before is not None and before.status == "waiting",
            after is not None and after.status == "waiting",
        )
        self.waiting_free += (waits and move is None) - (waited and move_before is None)
        if waits and not waited:
            self.changed = True
        if before is not None:
            self.count[before.status] -= 1
        if after is not None:
            self.count[after.status] += 1
        self._hold(name, after, move)
        if waits != waited:
            self._waits(name, waits, now_us)
        self._stays(name, after, now_us)
        self._seat(name, now_us)

    def _hold(self, name: SessionId, session: Session | None, move: MoveInFlight | None) -> None:
        """Memories that hold the state: both sides of a move in flight do."""
        places: tuple[Place, ...] = ()
        if session is not None:
            here = session.gpu if session.gpu is not None else session.node
            places = () if here is None else (here,)
            if move is not None and move.target is not None:
                places = (*places, move.target)
            elif move is not None and move.source is not None:
                away = () if session.gpu is not None else (move.source,)
                places = (*places, self.gpus[move.source].node, *away)
        before = self._held_by.pop(name, ())
        if places:
            self._held_by[name] = places
        if places != before:
            size = self._size[self._users.profiles[self._users.session_index[name]]]
            for place in before:
                self.held_mib[place] -= size
            for place in places:
                self.held_mib[place] += size

    def _waits(self, name: SessionId, waits: bool, now_us: int) -> None:
        if waits:
            self._waits_since[name] = now_us
        else:
            period = self.period_of[self._users.session_index[name]]
            self.unserved_us[period] += now_us - self._waits_since.pop(name)

    def _stays(self, name: SessionId, session: Session | None, now_us: int) -> None:
        old = self._stay.get(name)
        if old is not None and session is not None and (session.status, session.gpu) == old[:2]:
            return
        if old is not None:
            del self._stay[name]
            status, gpu, since_us = old
            if now_us > since_us:
                index = NOBODY if gpu is None else self.gpu_index[gpu]
                self.stays.extend((self._users.session_index[name], STATUSES.index(status), index, since_us, now_us))
        if session is not None:
            self._stay[name] = (session.status, session.gpu, now_us)

    def _seat(self, name: SessionId, now_us: int) -> None:
        """Members are active and not frozen; whoever is frozen travels, whoever waits is on no GPU."""
        session, index = self.sessions.get(name), self._users.session_index[name]
        frozen = session is not None and name in self.frozen
        active = session is not None and session.status == "active" and not frozen
        gpu = NOBODY if not active or session is None or session.gpu is None else self.gpu_index[session.gpu]
        self._rounds.seat(index, gpu, now_us)
        waits = session is not None and session.status == "waiting"
        self._rounds.absent(index, travels=frozen, away=frozen or waits, now_us=now_us)


def with_ready(snapshot: Snapshot, gpus: set[GpuId]) -> Snapshot:
    """These GPUs are ready since 0."""
    found = {name: replace(gpu, status="ready") if name in gpus else gpu for name, gpu in snapshot.gpus.items()}
    return replace(snapshot, gpus=found)
