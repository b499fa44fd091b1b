"""What follows from an event: the fleet's state after it.

Decides how sessions, GPUs and moves change when something is observed; must never know what is planned or who tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import assert_never

from scheduler import events
from scheduler.cluster import (
    Gpu,
    GpuId,
    GpuStatus,
    History,
    MoveInFlight,
    NodeId,
    Session,
    SessionId,
    SessionStatus,
    Snapshot,
)
from scheduler.events import Event, MoveStarted, SessionOpened
from scheduler.fleet import Fleet
from scheduler.history import HistoryKeeper


def all_off(fleet: Fleet) -> Snapshot:
    """The fleet before anything happened: every GPU is off, and there are no sessions."""
    gpus = {}
    for pool_index, pool in enumerate(fleet.pools):
        for node in range(pool.nodes):
            for place in range(pool.gpus_per_node):
                gpu_id = GpuId(f"{pool.gpu_type}-{pool_index}-{node}-{place}")
                node_id = NodeId(f"{pool_index}/{node}")
                gpus[gpu_id] = Gpu(gpu_id=gpu_id, gpu_type=pool.gpu_type, node=node_id, status="off", since_s=0.0)
    history = History(epoch_s=fleet.epoch_s, active_max={}, idle_s={}, gone={}, scale_in_wanted_since_s={})
    return Snapshot(gpus=gpus, sessions={}, moves={}, history=history)


def apply(snapshot: Snapshot, event: Event, now_s: float) -> Snapshot:
    """The snapshot after one event; the one given stays as it is. Takes a copy: many events go to a `ClusterState`."""
    state = ClusterState(snapshot)
    state.apply(event, now_s)
    return state.snapshot()


class ClusterState:
    """A snapshot that events change in place, at a cost that does not grow with the fleet.

    A session stays where it is until its move has ended. Events about sessions and moves that are gone already are
    passed over, because whoever reports them may not know yet; impossible ones are bugs.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._gpus = dict(snapshot.gpus)
        self._sessions = dict(snapshot.sessions)
        self._moves = dict(snapshot.moves)
        self._version = snapshot.version
        wanting = Counter(s.profile for s in self._sessions.values() if s.status in ("active", "waiting"))
        self._past = HistoryKeeper(snapshot.history, wanting)

    @property
    def gpus(self) -> Mapping[GpuId, Gpu]:
        """As they are now, without a copy: the next event changes what is seen here."""
        return self._gpus

    @property
    def sessions(self) -> Mapping[SessionId, Session]:
        """As `gpus`."""
        return self._sessions

    @property
    def moves(self) -> Mapping[SessionId, MoveInFlight]:
        """As `gpus`."""
        return self._moves

    def snapshot(self) -> Snapshot:
        """The state now, as a value."""
        return Snapshot(
            gpus=MappingProxyType(dict(self._gpus)),
            sessions=MappingProxyType(dict(self._sessions)),
            moves=MappingProxyType(dict(self._moves)),
            history=self._past.history(),
            version=self._version,
        )

    def apply(self, event: Event, now_s: float) -> None:
        """Take one event into account."""
        match event:
            case events.SessionOpened():
                self._open(event, now_s)
            case events.SessionActivated(session_id=session_id):
                self._activate(session_id, now_s)
            case events.SessionIdled(session_id=session_id):
                self._idle(session_id, now_s)
            case events.SessionClosed(session_id=session_id):
                self._close(session_id)
            case events.SlackMeasured(slack_ms=slack_ms):
                self._measure(slack_ms)
            case events.GpuStarting(gpu_id=gpu_id, ready_s=ready_s):
                self._turn(gpu_id, "starting", now_s, ready_s)
            case events.GpuReady(gpu_id=gpu_id):
                self._turn(gpu_id, "ready", now_s)
            case events.GpuDraining(gpu_id=gpu_id):
                self._turn(gpu_id, "draining", now_s)
            case events.GpuLost(gpu_id=gpu_id):
                self._turn(gpu_id, "lost", now_s)
                self._lose(gpu_id, now_s)
            case events.GpuStopped(gpu_id=gpu_id):
                self._turn(gpu_id, "off", now_s)
                self._lose(gpu_id, now_s)
            case events.MoveStarted():
                self._start(event, now_s)
            case events.MoveEnded(session_id=session_id):
                self._end(session_id, now_s)
            case events.MoveFailed(session_id=session_id):
                self._fail(session_id, now_s)
            case events.EpochEnded():
                self._past.epoch_ended()
            case events.PlanIssued(version=version):
                assert version >= self._version, f"plan {version} after plan {self._version}"
                self._version = version
            case events.ScaleInWanted(gpu_type=gpu_type, wanted=wanted):
                self._past.scale_in(gpu_type, wanted, now_s)
            case _:
                assert_never(event)

    def _open(self, event: SessionOpened, now_s: float) -> None:
        assert event.session_id not in self._sessions, f"session {event.session_id} is open already"
        self._sessions[event.session_id] = Session(
            session_id=event.session_id,
            profile=event.profile,
            status="waiting",
            since_s=now_s,
            tenant=event.tenant,
            priority=event.priority,
        )
        self._past.activity(event.profile, +1)

    def _activate(self, session_id: SessionId, now_s: float) -> None:
        """On a GPU it runs on at once, unless its state is on the way to the host: then it waits for that."""
        session = self._sessions.get(session_id)
        if session is None or session.status in ("active", "waiting"):
            return
        self._past.returned(session.profile, now_s - session.since_s)
        self._past.activity(session.profile, +1)
        if session.status == "suspended":
            self._sessions[session_id] = replace(session, status="waiting", since_s=now_s)
        elif self._is_offloaded(session_id):
            self._sessions[session_id] = replace(session, status="waiting", since_s=now_s, gpu=None)
        else:
            self._sessions[session_id] = replace(session, status="active", since_s=now_s)

    def _idle(self, session_id: SessionId, now_s: float) -> None:
        session = self._sessions.get(session_id)
        if session is None or session.status in ("idle", "suspended"):
            return
        self._past.activity(session.profile, -1)
        if session.status == "active":
            self._sessions[session_id] = replace(session, status="idle", since_s=now_s, slack_ms=None)
        elif self._is_offloaded(session_id):
            source = self._moves[session_id].source
            self._sessions[session_id] = replace(session, status="idle", since_s=now_s, gpu=source)
        else:
            self._sessions[session_id] = replace(session, status="suspended", since_s=now_s)

    def _close(self, session_id: SessionId) -> None:
        session = self._sessions.pop(session_id, None)
        self._moves.pop(session_id, None)
        if session is None:
            return
        if session.status in ("idle", "suspended"):
            self._past.gone(session.profile)
        else:
            self._past.activity(session.profile, -1)

    def _measure(self, slack_ms: Mapping[SessionId, float]) -> None:
        for session_id, slack in slack_ms.items():
            session = self._sessions.get(session_id)
            if session is not None and session.status == "active":
                self._sessions[session_id] = replace(session, slack_ms=slack)

    def _turn(self, gpu_id: GpuId, status: GpuStatus, now_s: float, ready_s: float | None = None) -> None:
        gpu = self._gpus[gpu_id]
        if gpu.status != status or ready_s is not None:
            self._gpus[gpu_id] = replace(gpu, status=status, since_s=now_s, ready_s=ready_s)

    def _lose(self, gpu_id: GpuId, now_s: float) -> None:
        """States on the GPU are gone, and so are moves from and to it; who was active there waits from now on."""
        for session_id, move in list(self._moves.items()):
            if gpu_id in (move.source, move.target):
                del self._moves[session_id]
                session = self._sessions[session_id]
                if move.kind == "offload" and session.status == "waiting":
                    self._sessions[session_id] = replace(session, node=None)
        for session_id, session in self._sessions.items():
            if session.gpu != gpu_id:
                continue
            if session.status == "active":
                self._sessions[session_id] = replace(session, status="waiting", since_s=now_s, gpu=None, slack_ms=None)
            else:
                self._sessions[session_id] = replace(session, status="suspended", gpu=None, node=None)

    def _start(self, event: MoveStarted, now_s: float) -> None:
        if event.session_id not in self._sessions:
            return
        assert event.session_id not in self._moves, f"session {event.session_id} moves already"
        self._moves[event.session_id] = MoveInFlight(
            session_id=event.session_id,
            kind=event.kind,
            source=event.source,
            target=event.target,
            started_s=now_s,
        )

    def _end(self, session_id: SessionId, now_s: float) -> None:
        move = self._moves.pop(session_id, None)
        if move is None:
            return
        session = self._sessions[session_id]
        if move.target is None:
            assert move.source is not None, "an offload has a source"
            node = self._gpus[move.source].node
            self._sessions[session_id] = _in_host_memory(session, node, now_s)
        elif session.status == "waiting":
            self._sessions[session_id] = replace(
                session, status="active", since_s=now_s, gpu=move.target, node=None, moved_s=now_s
            )
        else:
            status = "idle" if session.status == "suspended" else session.status
            self._sessions[session_id] = replace(session, status=status, gpu=move.target, node=None, moved_s=now_s)

    def _fail(self, session_id: SessionId, now_s: float) -> None:
        move = self._moves.pop(session_id, None)
        if move is None:
            return
        session = self._sessions[session_id]
        if move.kind == "offload" and session.status == "waiting":
            self._sessions[session_id] = replace(session, status="active", since_s=now_s, gpu=move.source)

    def _is_offloaded(self, session_id: SessionId) -> bool:
        move = self._moves.get(session_id)
        return move is not None and move.kind == "offload"


def _in_host_memory(session: Session, node: NodeId, now_s: float) -> Session:
    """An idle session is suspended; one that wants chunks waits, from now on if it was active until now."""
    if session.status == "active":
        return replace(session, status="waiting", since_s=now_s, gpu=None, node=node, slack_ms=None, moved_s=now_s)
    status: SessionStatus = "waiting" if session.status == "waiting" else "suspended"
    return replace(session, status=status, gpu=None, node=node, moved_s=now_s)
