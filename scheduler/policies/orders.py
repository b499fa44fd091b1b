"""What a heuristic wants, session by session, and the plan that comes of it.

Decides how room is made (who idles longest goes to host memory), which migrations budgets allow, and in which waves
moves run; must never know why somebody is sent somewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from scheduler.cluster import GpuId, MoveKind, Session, SessionId
from scheduler.desired_state import desired_state
from scheduler.plan import GpuAim, Move, Plan
from scheduler.planner_settings import MoveLimits
from scheduler.policies.fleet_facts import LATE, NEVER
from scheduler.policies.view import Place, View
from scheduler.sizes import MIB_PER_GIB
from scheduler.waves import arrange

LIMITS = MoveLimits()


class Orders:
    """Moves that are possible one after another; every order changes the view that they are judged by."""

    def __init__(self, view: View, aims: Mapping[GpuId, GpuAim]) -> None:
        self._view, self._facts, self.aims = view, view.facts, aims
        self.receiving = [
            place for gpu_id, place in view.places.items() if place.gpu.status == "ready" and aims[gpu_id] == "keep"
        ]
        self.leaving = [place for gpu_id, place in view.places.items() if aims[gpu_id] in ("drain", "stop")]
        self.placed: set[SessionId] = set()
        self._moves: list[Move] = []
        self._plain = True  # whether all moves so far are first places with room there already
        self._budget: _MigrationBudget | None = None

    def outcome(self, place: Place, session: Session) -> int:
        """What becomes of a GPU's batch if a session that is elsewhere joins it; `NEVER` where it has no room."""
        k = self._facts.column[session.profile]
        outcome = self._facts.with_one_more(place.gpu.gpu_type, tuple(place.counts), k)
        return NEVER if outcome >= LATE and self._making_room(place, k) is None else outcome

    def may_migrate(self, session: Session, source: Place, target: Place) -> bool:
        """By the fleet's budgets alone."""
        if self._budget is None:
            self._budget = _MigrationBudget(self._view)
        return self._budget.allows(source, target, self._facts.state_mib[self._facts.column[session.profile]])

    def place(self, session: Session, target: Place, reason: str = "waiting") -> None:
        """A waiting session goes to a GPU."""
        stateful = session.gpu is None and session.node is not None
        self._plain = self._plain and not stateful
        self.placed.add(session.session_id)
        self._go(session, "resume" if stateful else "place", None, target, reason)

    def migrate(self, session: Session, source: Place, target: Place, reason: str) -> None:
        k = self._facts.column[session.profile]
        assert self.may_migrate(session, source, target), "a migration that the budgets do not allow"
        assert self._budget is not None
        self._budget.spend(source, target, self._facts.state_mib[k])
        self._plain = False
        source.add(k, -1)
        source.active.remove(session)
        self._go(session, "migrate", source, target, reason)

    def offload(self, session: Session, place: Place, reason: str) -> None:
        """An idle session goes to host memory if that has room."""
        mib = self._facts.state_mib[self._facts.column[session.profile]]
        if mib <= self._view.host_free_mib(place.gpu.node):
            self._offload(session, place, reason)

    def empty_of_idle(self, place: Place) -> None:
        """Everybody who idles on a GPU that is to be emptied goes while host memory has room."""
        for session in _longest_idle_first(place):
            self.offload(session, place, "drain")

    def plan(self) -> Plan:
        """The complete desired state; a move for which there is no wave has to wait for another step."""
        moves = tuple(self._moves)
        snapshot = self._view.snapshot
        if not self._plain:
            moves, _ = arrange(moves, snapshot, self._facts.fleet, LIMITS, held=self._view.held())
        return desired_state(snapshot, self.aims, moves)

    def _go(self, session: Session, kind: MoveKind, source: Place | None, target: Place, reason: str) -> None:
        k = self._facts.column[session.profile]
        gone = self._making_room(target, k)
        assert gone is not None, "an order to a GPU that has no room"
        for idle in gone:
            self._offload(idle, target, "memory")
        target.free_mib -= self._facts.state_mib[k]
        target.add(k, 1)
        self._moves.append(
            Move(
                session_id=session.session_id,
                kind=kind,
                source=None if source is None else source.gpu.gpu_id,
                target=target.gpu.gpu_id,
                source_node=source.gpu.node if source is not None else session.node if session.gpu is None else None,
                target_node=target.gpu.node,
                state_bytes=0 if kind == "place" else self._facts.state_bytes[k],
                wave=0,
                reason=reason,
            )
        )

    def _making_room(self, place: Place, k: int) -> list[Session] | None:
        """Who has to leave the device for one more of profile k; None where that is not enough."""
        missing = self._facts.state_mib[k] - place.free_mib
        if missing <= 0:
            return []
        if missing > place.idle_mib:
            return None
        gone: list[Session] = []
        host_free = self._view.host_free_mib(place.gpu.node)
        for session in _longest_idle_first(place):
            mib = self._facts.state_mib[self._facts.column[session.profile]]
            if mib > host_free:
                continue
            host_free -= mib
            missing -= mib
            gone.append(session)
            if missing <= 0:
                return gone
        return None

    def _offload(self, session: Session, place: Place, reason: str) -> None:
        k = self._facts.column[session.profile]
        mib, node = self._facts.state_mib[k], place.gpu.node
        self._view.host_free[node] = self._view.host_free_mib(node) - mib
        place.idle.remove(session)
        place.idle_mib -= mib
        place.free_mib += mib
        self._plain = False
        self._moves.append(
            Move(
                session_id=session.session_id,
                kind="offload",
                source=place.gpu.gpu_id,
                target=None,
                source_node=node,
                target_node=node,
                state_bytes=self._facts.state_bytes[k],
                wave=0,
                reason=reason,
            )
        )


class _MigrationBudget:
    """What the fleet's budgets leave; migrations in flight count."""

    def __init__(self, view: View) -> None:
        fleet = view.facts.fleet.budget
        self._fleet = fleet
        self._moves, self._mib = 0, 0
        self._out: Counter[GpuId | None] = Counter()
        self._into: Counter[GpuId | None] = Counter()
        for session_id, move in view.snapshot.moves.items():
            if move.kind == "migrate":
                k = view.facts.column[view.snapshot.sessions[session_id].profile]
                self._count(move.source, move.target, view.facts.state_mib[k])

    def allows(self, source: Place, target: Place, mib: int) -> bool:
        most = self._fleet
        gib_left = most.gib_per_epoch is None or self._mib + mib <= most.gib_per_epoch * MIB_PER_GIB + 1e-6
        return (
            gib_left
            and (most.moves_per_epoch is None or self._moves < most.moves_per_epoch)
            and (most.moves_out_per_gpu is None or self._out[source.gpu.gpu_id] < most.moves_out_per_gpu)
            and (most.moves_in_per_gpu is None or self._into[target.gpu.gpu_id] < most.moves_in_per_gpu)
        )

    def spend(self, source: Place, target: Place, mib: int) -> None:
        self._count(source.gpu.gpu_id, target.gpu.gpu_id, mib)

    def _count(self, source: GpuId | None, target: GpuId | None, mib: int) -> None:
        self._moves += 1
        self._mib += mib
        self._out[source] += 1
        self._into[target] += 1


def _longest_idle_first(place: Place) -> list[Session]:
    return sorted(place.idle, key=lambda session: (session.since_s, session.session_id))
