"""The last plan, carried out: its moves wave by wave; what does not apply any more is passed over.

Decides when a move begins and what has become of it; must never know why it was planned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from runtime.controller.books import Books, text_of
from runtime.controller.picture import draw
from runtime.controller.rooms import Rooms
from runtime.controller.step import Step
from runtime.journal.records import Committed, Lost, Placed, Reactivated, Record
from runtime.transfer.messages import Way
from runtime.worker.messages import Close, Open, Resume, Suspend
from scheduler import events
from scheduler.cluster import Gpu, GpuId, Session, SessionId
from scheduler.cluster_checks import held_mib
from scheduler.plan import Move, Plan
from scheduler.sizes import room_mib, state_bytes, state_mib
from scheduler.transfers import GIB

WAYS: tuple[Way, ...] = ("cuda-ipc", "nccl", "gloo", "tcp")  # the first that both workers have
_STATUS = {"place": ("waiting",), "resume": ("waiting",), "migrate": ("active", "idle"), "offload": ("active", "idle")}
_RESTS = ("active", "idle")

Stage = Literal["opening", "resuming", "suspending", "handing over"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """One move that has begun. A state that is resumed elsewhere is resumed where it is first, and then handed over."""

    move: Move
    wave: int  # of all that ever began
    stage: Stage
    since_s: float  # when this stage began
    attempt: int = 0
    state_bytes: int = 0  # that are handed over
    way: Way = "tcp"  # by which
    active: bool = True  # what its target was told that its client wants


class Execution:
    """What is left of the last plan, and the moves under way."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._flights: dict[str, Flight] = {}
        self._handed: dict[str, Flight] = {}  # those of them that are hand-overs
        self._later: deque[tuple[Move, ...]] = deque()  # waves that have not begun
        self._wave = 0  # of all that ever began
        self._migrations: tuple[Move, ...] = ()  # that began in this epoch

    def copy(self, books: Books) -> Execution:
        """What is decided on it is forgotten with it."""
        copied = Execution(books)
        copied._flights, copied._handed = dict(self._flights), dict(self._handed)
        copied._later, copied._wave, copied._migrations = deque(self._later), self._wave, self._migrations
        return copied

    def is_flying(self, session_id: str) -> bool:
        """A move of it has begun and not ended."""
        return session_id in self._flights

    @property
    def flights(self) -> tuple[Flight, ...]:
        return tuple(self._flights.values())

    @property
    def is_busy(self) -> bool:
        """Moves of the last plan are still to begin."""
        return bool(self._later)

    def follow(self, plan: Plan, now_s: float) -> None:
        """The plan replaces the one before; moves under way go on."""
        self._later = deque(_waves(plan.moves))
        self._wave += 1
        self.go_on(now_s)

    def go_on(self, now_s: float) -> None:
        """The next wave begins if the last one has ended."""
        while self._later and not any(flight.wave == self._wave for flight in self._flights.values()):
            self._wave += 1
            self.begin(self._later.popleft(), now_s)

    def begin(self, moves: Iterable[Move], now_s: float) -> None:
        """Now, and without a plan; what does not apply is passed over."""
        rooms = Rooms(self._books)
        for move in moves:
            if self._applies(move) and rooms.has_room(move):
                rooms.fill(move)
                self._begin(move, now_s)

    def moved(self, worker: str, session_id: str, state: str, now_s: float) -> None:
        """A worker says in which state a session of its own is."""
        flight = self._flights.get(session_id)
        if flight is None or self._books.truth.sessions[session_id].worker != worker:
            return
        match flight.stage:
            case "opening" if state in _RESTS:
                self._ended(session_id, now_s)
            case "resuming" if state in _RESTS and flight.move.target == worker:
                self._ended(session_id, now_s)
            case "resuming" if state in _RESTS:
                self._books.tally.offloaded("to_device", now_s - flight.since_s)
                self._hand_over(flight, now_s)
            case "suspending" if state == "suspended":
                self._ended(session_id, now_s)
            case _:
                pass

    def refused(self, worker: str, session_id: str, now_s: float) -> None:
        """It cannot do what it was told."""
        owned, order = self._books.truth.sessions.get(session_id), self._books.orders.of(worker, session_id)
        flight = self._flights.get(session_id)
        if owned is None or owned.worker != worker:  # it has been handed over, or is lost: nothing to do there
            if order is not None and not isinstance(order, Close):
                self._books.orders.drop(worker, session_id)
            return
        if flight is None or flight.stage == "handing over":
            return
        if not isinstance(order, Open | Resume | Suspend):
            return
        self._books.orders.drop(worker, session_id)
        if flight.stage == "opening":  # it does not hold it, and never has
            self._books.write(Lost(session_id=session_id))
        self._failed(session_id, now_s)

    def dropped(self, session_id: str) -> None:
        """The session is gone, or the picture of it was drawn anew: nothing is under way any more."""
        flight = self._landed(session_id)
        if flight is not None and flight.stage == "handing over":
            self._books.tally.migrated("dropped", flight.move.reason)

    def take(self, step: Step, now_s: float) -> None:
        """What hand-overs have decided, and what follows for the picture of the sessions that it is about."""
        books = self._books
        sessions = {attempt: handover.session_id for attempt, handover in books.truth.handovers.items()}
        for record in books.take(step):
            session_id = _session_of(record, sessions)
            if session_id is None or session_id not in books.truth.sessions:
                continue
            books.touched.add(session_id)
            if isinstance(record, Lost):
                books.known[session_id] = replace(books.known[session_id], state="")
                self.dropped(session_id)
                draw(books, session_id, now_s)

    def epoch_over(self) -> None:
        """The budget of migrations is that of another epoch."""
        self._migrations = ()

    def evacuate(self, now_s: float) -> None:
        """States in the host memory of a GPU that is to be emptied would end with it: one after another moves on.

        Plans have moved the others; from a GPU that is withheld those, too, whom no plan has moved in time.
        """
        books = self._books
        for worker, gpu in books.cluster.gpus.items():
            if gpu.status != "draining" or not books.is_there(worker):
                continue
            left = sorted(books.owners.of(worker))
            if any(name in self._flights for name in left):
                continue
            patience_s = books.fleet.gpu_types[gpu.gpu_type].startup_s + books.fleet.epoch_s
            at_once = worker in books.truth.withheld and now_s - gpu.since_s >= patience_s
            if not at_once and any(books.known[name].state != "suspended" for name in left):
                continue
            move = next(filter(None, (self._way_out(SessionId(name), gpu) for name in left)), None)
            if move is not None:
                self._begin(move, now_s)

    def settle(self, now_s: float) -> None:
        """Hand-overs that have ended, one way or the other."""
        under_way = {progress.attempt: progress for progress in self._books.handovers.under_way}
        for session_id, flight in list(self._handed.items()):
            progress = under_way.get(flight.attempt)
            if progress is not None and progress.phase in ("prepared", "committed"):
                continue
            owned = self._books.truth.sessions.get(session_id)
            if owned is None:
                self.dropped(session_id)
            elif owned.worker == flight.move.target:
                self._arrived(session_id, now_s)
            else:
                self._failed(session_id, now_s)
        self.go_on(now_s)

    def _applies(self, move: Move) -> bool:
        """Whether a planned move can still begin."""
        books, session = self._books, self._books.session(move.session_id)
        known = books.known.get(move.session_id)
        if session is None or known is None or known.ending or move.session_id in self._flights:
            return False
        if books.is_handed_over(move.session_id) or move.session_id in books.cluster.moves:
            return False
        if session.status not in _STATUS[move.kind] or not _is_where_thought(move, session):
            return False
        owner = books.truth.sessions[move.session_id].worker
        if move.kind == "place":  # not while something of it has still to be forgotten, wherever that is
            return owner is None and self._receives(move.target) and not books.orders.concern(move.session_id)
        if owner is None or not books.is_there(owner) or books.orders.of(owner, move.session_id) is not None:
            return False
        if known.state != ("suspended" if move.kind == "resume" else session.status):
            return False
        if move.kind == "migrate" and not self._is_within_budget(move):
            return False
        return move.kind == "offload" or self._receives(move.target)

    def _is_within_budget(self, move: Move) -> bool:
        """Plans are; one of them may come late, when another migration has begun that was not planned."""
        budget, every = self._books.fleet.budget, (*self._migrations, move)
        counts = (
            (budget.moves_per_epoch, len(every)),
            (budget.moves_out_per_gpu, sum(each.source == move.source for each in every)),
            (budget.moves_in_per_gpu, sum(each.target == move.target for each in every)),
            (budget.gib_per_epoch, sum(each.state_bytes for each in every) / GIB),
        )
        return all(most is None or count <= most for most, count in counts)

    def _way_out(self, session_id: SessionId, gpu: Gpu) -> Move | None:
        """To the GPU with most room, if it has enough; from host memory it is resumed on its own GPU for the way."""
        books, profile = self._books, self._books.truth.sessions[session_id].profile
        needed_mib, (held, _) = state_mib(books.fleet, profile), held_mib(books.cluster.snapshot(), books.fleet)
        room = {
            name: room_mib(books.fleet, other.gpu_type) - held.get(name, 0)
            for name, other in books.cluster.gpus.items()
            if other.status == "ready" and books.is_there(name)
        }
        target = max(room, key=lambda name: (room[name], name), default=None)
        if target is None or room[target] < needed_mib or session_id in books.cluster.moves:
            return None
        session, suspended = books.session(session_id), books.known[session_id].state == "suspended"
        if session is None or suspended != (session.gpu is None):
            return None  # somebody else has moved it: an inventory will show where it is
        move = Move(
            session_id=session_id,
            kind="resume" if suspended else "migrate",
            source=None if suspended else gpu.gpu_id,
            target=target,
            source_node=gpu.node,
            target_node=books.cluster.gpus[target].node,
            state_bytes=state_bytes(books.fleet, profile),
            wave=0,
            reason="drain",
        )
        return move if suspended or self._applies(move) else None

    def _receives(self, target: GpuId | None) -> bool:
        assert target is not None, "only offloads have no target"
        return self._books.is_there(target) and self._books.cluster.gpus[target].status == "ready"

    def _begin(self, move: Move, now_s: float) -> None:
        books, session_id = self._books, str(move.session_id)
        started = events.MoveStarted(session_id=move.session_id, kind=move.kind, source=move.source, target=move.target)
        books.tell(started, now_s)
        owner = books.truth.sessions[session_id].worker
        match move.kind:
            case "place":
                self._open(move, now_s)
            case "resume":
                assert owner is not None
                self._fly(Flight(move=move, wave=self._wave, stage="resuming", since_s=now_s))
                books.order(owner, Resume(session_id=session_id), now_s)
            case "offload":
                assert owner is not None
                self._fly(Flight(move=move, wave=self._wave, stage="suspending", since_s=now_s))
                books.order(owner, Suspend(session_id=session_id), now_s)
            case "migrate":
                self._migrations += (move,)
                self._hand_over(Flight(move=move, wave=self._wave, stage="handing over", since_s=now_s), now_s)

    def _open(self, move: Move, now_s: float) -> None:
        books, session_id, worker = self._books, str(move.session_id), str(move.target)
        books.write(Placed(session_id=session_id, worker=worker))
        books.known[session_id] = replace(books.known[session_id], state="", there_at=books.roster.question)
        self._fly(Flight(move=move, wave=self._wave, stage="opening", since_s=now_s))
        owned = books.truth.sessions[session_id]
        state_bytes = self._state_bytes(worker, owned.profile)
        if state_bytes is None:
            books.write(Lost(session_id=session_id))
            self._failed(session_id, now_s)
            return
        order = Open(session_id=session_id, state_bytes=state_bytes, ownership=owned.ownership, text=text_of(owned))
        books.order(worker, order, now_s)

    def _hand_over(self, flight: Flight, now_s: float) -> None:
        books, session_id, target = self._books, str(flight.move.session_id), str(flight.move.target)
        owned = books.truth.sessions[session_id]
        assert owned.worker is not None, f"nobody owns {session_id}"
        state_bytes, way = self._state_bytes(target, owned.profile), self._way(owned.worker, target)
        if state_bytes is None or way is None or not self._receives(flight.move.target):
            self._fly(flight)
            self._failed(session_id, now_s)
            return
        attempt = books.truth.last_attempt + 1
        active = books.known[session_id].active
        books.take(
            books.handovers.begin(
                books.truth, session_id, target, state_bytes=state_bytes, active=active, way=way, now_s=now_s
            )
        )
        begun = replace(flight, stage="handing over", since_s=now_s, attempt=attempt, state_bytes=state_bytes)
        self._fly(replace(begun, active=active, way=books.handovers.way(attempt)))

    def _state_bytes(self, worker: str, profile: str) -> int | None:
        present = self._books.roster.present.get(worker)
        rooms = () if present is None or present.hello is None else present.hello.profiles
        return next((room.state_bytes for room in rooms if room.name == profile), None)

    def _way(self, source: str, target: str) -> Way | None:
        present = self._books.roster.present
        ways = [hello.ways for name in (source, target) if name in present and (hello := present[name].hello)]
        return next((way for way in WAYS if len(ways) == 2 and all(way in have for have in ways)), None)

    def _fly(self, flight: Flight) -> None:
        session_id = str(flight.move.session_id)
        self._flights[session_id] = flight
        if flight.stage == "handing over":
            self._handed[session_id] = flight

    def _landed(self, session_id: str) -> Flight | None:
        self._handed.pop(session_id, None)
        return self._flights.pop(session_id, None)

    def _arrived(self, session_id: str, now_s: float) -> None:
        """The target serves, as it was told when the hand-over began."""
        state = "active" if self._flights[session_id].active else "idle"
        self._books.known[session_id] = replace(self._books.known[session_id], state=state)
        self._ended(session_id, now_s)

    def _ended(self, session_id: str, now_s: float) -> None:
        flight = self._landed(session_id)
        assert flight is not None, f"{session_id} does not fly"
        seconds, tally = now_s - flight.since_s, self._books.tally
        match flight.stage:
            case "handing over":
                tally.migrated("done", flight.move.reason, seconds, flight.state_bytes, flight.way)
            case "resuming":
                tally.offloaded("to_device", seconds)
            case "suspending":
                tally.offloaded("to_host", seconds)
            case "opening":
                pass
        self._books.tell(events.MoveEnded(session_id=SessionId(session_id)), now_s)

    def _failed(self, session_id: str, now_s: float) -> None:
        """The state is where it was; where it went half of the way, the picture shows that."""
        flight = self._landed(session_id)
        assert flight is not None, f"{session_id} does not fly"
        self._books.tell(events.MoveFailed(session_id=SessionId(session_id)), now_s)
        if flight.stage == "handing over":
            self._books.tally.migrated("failed", flight.move.reason)
        if flight.move.kind == "resume" and flight.stage == "handing over":
            draw(self._books, session_id, now_s)


def _session_of(record: Record, sessions: dict[int, str]) -> str | None:
    """Whom a record of a hand-over is about; attempts as they were before it."""
    if isinstance(record, Lost):
        return record.session_id
    if isinstance(record, Committed | Reactivated):
        return sessions.get(record.attempt)
    return None


def _is_where_thought(move: Move, session: Session) -> bool:
    """On the same GPU; where it is on none, its state is in the same host memory, or nowhere."""
    return session.gpu == move.source and (session.gpu is not None or session.node == move.source_node)


def _waves(moves: Iterable[Move]) -> list[tuple[Move, ...]]:
    found: dict[int, list[Move]] = {}
    for move in moves:
        found.setdefault(move.wave, []).append(move)
    return [tuple(found[wave]) for wave in sorted(found)]
