"""A controller as a state machine: what happens goes in, records and words come out.

Decides which part hears of what, and in which order; must never know a socket, a file, a clock or a solver. Whoever
runs it decides on a copy, writes the records, and only then keeps the copy and says the words; where they could not be
written, the copy is thrown away, and what had happened happens again, because everybody repeats what was not answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec

from runtime.controller.approval import Approval
from runtime.controller.books import Books, Known
from runtime.controller.execution import Execution
from runtime.controller.handovers import Handovers
from runtime.controller.inventories import Inventories
from runtime.controller.maintenance import answer
from runtime.controller.picture import draw
from runtime.controller.power import Power
from runtime.controller.roster import Roster
from runtime.controller.sessions import Admission, Sessions
from runtime.controller.step import Step
from runtime.controller.suspects import FALLS_MAX, Suspects
from runtime.gateway import messages as gate
from runtime.journal.records import Joined, Left
from runtime.journal.truth import Truth
from runtime.transfer.messages import MigrationReport
from runtime.worker import messages as said
from runtime.worker.process.lease import LEASE_S
from runtime.worker.process.messages import FromWorker, Goodbye, Heartbeat, Hello, Inventory, Renew, Said
from scheduler import events
from scheduler.cluster import History, SessionId, Snapshot
from scheduler.fleet import Fleet
from scheduler.plan import Decision, Plan

STATUS_S = 0.5
_AT_REST = ("idle", "suspended")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """A worker's process is known to be gone; `None`: before it has joined."""

    worker: str
    incarnation: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Available:
    """A worker that was lost can be started again."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """Nobody can start this worker for now."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The answer of a policy. `early`: between two epochs. `made_s`: the time of the snapshot that it is for.

    `least_per_hour`: dollars that GPUs cost at least which hold whoever wants chunks then on time; None: not known.
    """

    decision: Decision
    early: bool = False
    made_s: float
    least_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochOver:
    """One control interval has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Some time has gone by, at most a tenth of a second or so."""


Happening = FromWorker | gate.FromGateway | Exited | Available | Unavailable | Planned | EpochOver | Ticked


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """Bounds; the planner has its own."""

    admission: Admission = field(default_factory=Admission)
    lease_s: float = LEASE_S
    mode: gate.Mode = "execute"
    starts_workers: bool = True  # False: they come by themselves


class Controller:
    """Time is an argument, in seconds of any clock that only grows."""

    def __init__(self, books: Books, settings: ControllerSettings) -> None:
        self._books, self._settings = books, settings
        self._sessions = Sessions(books, settings.admission)
        self._execution, self._power = Execution(books), Power(books, starts=settings.starts_workers)
        self._approval = Approval(settings.mode)
        self._inventories = Inventories(books, self._sessions, self._execution)
        self._suspects = Suspects(books)
        self._status_s = float("-inf")

    @classmethod
    def begin(
        cls,
        fleet: Fleet,
        truth: Truth,
        now_s: float,
        settings: ControllerSettings | None = None,
        history: History | None = None,
    ) -> tuple[Controller, Step]:
        """From what is written down; everybody who was there is asked what it holds. `history`: of demand so far."""
        chosen = settings or ControllerSettings()
        roster, asked = Roster.resumed(truth, now_s, lease_s=chosen.lease_s)
        handovers, resumed = Handovers.resumed(truth, now_s)
        books = Books(fleet, truth, roster, handovers, history)
        books.known = {session_id: Known(active=True) for session_id in truth.sessions}
        found = cls(books, chosen)
        books.take(asked)
        books.take(resumed)
        found._power.begin(now_s)
        for session_id in truth.sessions:
            draw(books, session_id, now_s)
        return found, books.step()

    def copy(self) -> Controller:
        """What is decided on it is forgotten with it."""
        copied = Controller(self._books.copy(), self._settings)
        copied._execution = self._execution.copy(copied._books)
        copied._approval = self._approval.copy()
        copied._inventories = Inventories(copied._books, copied._sessions, copied._execution)
        copied._suspects = self._suspects.copy(copied._books)
        copied._status_s = self._status_s
        return copied

    @property
    def truth(self) -> Truth:
        return self._books.truth

    @property
    def ready(self) -> bool:
        """Every worker that is there has said what it holds."""
        return self._books.roster.all_known

    @property
    def waiting(self) -> int:
        """Sessions that wait for a GPU and are not on their way to one."""
        return sum(SessionId(name) not in self._books.cluster.moves for name in self._books.waiting)

    @property
    def approval(self) -> Approval:
        """What has become of the last plans; to be looked at."""
        return self._approval

    def begins(self, plan: Plan) -> bool:
        """Whether any move of it begins without an operator."""
        return bool(self._approval.at_once(plan, self._books.cluster.gpus).moves)

    def snapshot(self) -> Snapshot:
        """What the next plan is made for."""
        return self._books.cluster.snapshot()

    def beat(self, heartbeat: Heartbeat, now_s: float) -> Step:
        """As `handle`, but nothing is to be written: it can be decided without a copy.

        The lease of a worker that still has what is another's by now does not go on until it has forgotten that.
        """
        books = self._books
        step = books.roster.said(heartbeat, now_s)
        if books.roster.knows(heartbeat.worker, heartbeat.incarnation):
            books.computes(heartbeat.worker, heartbeat.chunks)
        if any(books.is_anothers(name, heartbeat.worker) for name in books.orders.to_forget(heartbeat.worker)):
            return replace(step, words=tuple(word for word in step.words if not isinstance(word.body, Renew)))
        return step

    def handle(self, happening: Happening, now_s: float) -> Step:
        """One thing that has happened."""
        if isinstance(happening, Heartbeat):
            self._books.take(self.beat(happening, now_s))
        elif isinstance(happening, FromWorker):
            self._worker(happening, now_s)
        elif isinstance(happening, gate.FromGateway):
            self._gateway(happening, now_s)
        else:
            self._other(happening, now_s)
        self._execution.settle(now_s)
        return self._books.step()

    def _other(self, happening: Exited | Available | Unavailable | Planned | EpochOver | Ticked, now_s: float) -> None:
        books = self._books
        match happening:
            case Exited(worker=worker, incarnation=None):
                self._power.gone(worker, now_s)
            case Exited(worker=worker, incarnation=int(incarnation), reason=reason):
                self._roster(books.roster.exited(worker, incarnation, reason), now_s)
            case Available():
                self._power.available(happening.worker, now_s)
            case Unavailable():
                self._power.unavailable(happening.worker, now_s)
            case Planned():
                self._planned(happening, now_s)
            case EpochOver():
                books.tell(events.EpochEnded(), now_s)
                self._power.epoch_over(now_s)
                self._execution.epoch_over()
            case Ticked():
                self._ticked(now_s)

    def _planned(self, planned: Planned, now_s: float) -> None:
        """Of a snapshot that may be old by now: what does not apply is passed over."""
        books, decision, plan = self._books, planned.decision, planned.decision.plan
        if plan.version < books.cluster.snapshot().version:
            return
        books.tally.planned(decision.report, planned.made_s)
        if planned.least_per_hour is not None:
            books.tally.hold_against(planned.least_per_hour, books.fleet, now_s)
        goes = self._approval.at_once(plan, books.cluster.gpus)
        counts = self._approval.planned(plan, books.cluster.gpus, early=planned.early, busy=self._execution.is_busy)
        self._power.follow(goes.aims, now_s)
        for event in decision.events:
            if counts or not isinstance(event, events.PlanIssued):
                books.tell(event, now_s)
        if self._approval.mode == "execute":
            self._execution.follow(plan, now_s)
        else:
            self._execution.begin(goes.moves, now_s)
        if set(books.waiting).difference(str(move.session_id) for move in plan.moves):
            self._power.call()

    def _ruled(self, question: gate.Ask, now_s: float) -> None:
        """An operator approves or rejects a plan; nothing of that is written down: a restart plans anew."""
        assert question.about in ("approve", "reject")
        version = -1 if question.version is None else question.version
        ruling = self._approval.rule(version, question.about)
        if ruling.plan is not None:
            self._power.follow(ruling.plan.gpus, now_s)
            self._execution.follow(ruling.plan, now_s)
        body = None if ruling.refused else msgspec.json.encode(self._approval.standings[version])
        self._books.reply(gate.Answer(question=question.question, body=body, refused=ruling.refused))

    def _ticked(self, now_s: float) -> None:
        books = self._books
        silent = books.roster.ticked(now_s)
        self._roster(silent, now_s)
        for record in silent.records:  # whatever it still does is of the past; what it holds is in the way
            if isinstance(record, Left) and books.is_gpu(record.worker):
                books.switch(record.worker, on=False, at_once=True)
        self._execution.take(books.handovers.ticked(now_s), now_s)
        there = [name for name in books.roster.present if books.is_there(name)]
        books.say(*books.orders.due(there, now_s))
        self._sessions.settle(now_s)
        self._execution.evacuate(now_s)
        self._await_deliveries()
        self._inventories.ticked(now_s)
        self._suspects.settle()
        if now_s - self._status_s >= STATUS_S:
            self._status_s = now_s
            books.reply(self._status(now_s))
        books.tell_gateway_more()  # after a status that says that all were told

    def _worker(self, message: Hello | Said | Inventory | Goodbye, now_s: float) -> None:
        books = self._books
        self._roster(books.roster.said(message, now_s), now_s)
        match message:
            case Said() if books.roster.knows(message.worker, message.incarnation):
                self._report(message.worker, message.report, now_s)
            case Inventory():
                self._inventories.heard(message, now_s)
            case _:
                pass

    def _report(self, worker: str, report: said.Report, now_s: float) -> None:
        books = self._books
        match report:
            case said.Refused():
                self._execution.refused(worker, report.session_id, now_s)
            case said.Frozen():
                self._execution.take(books.handovers.hear(books.truth, worker, report, now_s), now_s)
                self._await_deliveries()
            case said.Moved():
                self._sessions.heard(worker, report, now_s)
                owned = books.truth.sessions.get(report.session_id)
                if owned is not None and owned.ownership == report.ownership:
                    self._execution.moved(worker, report.session_id, report.state, now_s)
            case said.Lost() | said.Undelivered() | said.Closed():
                self._sessions.heard(worker, report, now_s)
                if report.session_id not in books.truth.sessions or books.truth.sessions[report.session_id].lost:
                    self._execution.dropped(report.session_id)
            case _:
                assert isinstance(report, MigrationReport)
                self._execution.take(books.handovers.hear(books.truth, worker, report, now_s), now_s)

    def _gateway(self, message: gate.FromGateway, now_s: float) -> None:
        books = self._books
        match message:
            case gate.Here():
                books.gateway_is_here(message.since)
            case gate.Create():
                self._sessions.create(message, now_s)
            case gate.Want():
                self._sessions.want(message, now_s)
            case gate.Prompt():
                self._sessions.prompt(message)
            case gate.End():
                self._sessions.end(message.session_id, "its client has ended it", now_s)
                self._execution.dropped(message.session_id)
            case gate.Taken():
                owned = books.truth.sessions.get(message.session_id)
                if owned is not None and owned.lineage == message.lineage:
                    taken = books.handovers.chunks_taken(books.truth, message.session_id, message.up_to, now_s)
                    self._execution.take(taken, now_s)
            case gate.Ask(about="approve" | "reject"):
                self._ruled(message, now_s)
            case gate.Ask(about="gpus" | "drain" | "give back"):
                books.reply(answer(message, books, self._power, self._approval.mode, now_s))
            case gate.Ask() | gate.Controlled():
                pass  # whoever runs this has the plans, and keeps the record

    def _roster(self, step: Step, now_s: float) -> None:
        """Who has left and who has come, one after another: a worker may do both at once."""
        self._books.say(*step.words)
        for record in step.records:
            match record:
                case Left():
                    self._left(record, now_s)
                case Joined():
                    self._books.write(record)
                    self._power.joined(record.worker, now_s)
                case _:
                    raise AssertionError(f"no record of a roster: {record}")

    def _left(self, record: Left, now_s: float) -> None:
        books, worker = self._books, record.worker
        touched = set(books.owners.of(worker))
        touched |= {p.session_id for p in books.handovers.under_way if p.side(worker) is not None}
        books.write(record)
        touched &= set(books.truth.sessions)
        given_up = {session_id for session_id in touched if self._is_given_up(session_id, worker)}
        for session_id in sorted(given_up):  # who has been handed over does not go on where it came from
            self._execution.take(books.handovers.lost(books.truth, worker, session_id, now_s), now_s)
        self._execution.take(books.handovers.left(books.truth, worker, now_s), now_s)
        self._power.left(worker, now_s)
        books.orders.left(worker)
        self._inventories.left(worker)
        for session_id in sorted(touched):
            known = books.known[session_id]
            books.known[session_id] = replace(known, state="" if books.truth.sessions[session_id].lost else known.state)
            self._execution.dropped(session_id)
            if session_id in given_up:
                reason = f"its workers have ended {FALLS_MAX} times in a row, now {worker}: {record.reason}"
                self._sessions.end(session_id, reason[:1024], now_s)
            if session_id in books.truth.sessions:
                draw(books, session_id, now_s)

    def _is_given_up(self, session_id: str, worker: str) -> bool:
        """Whether it was on one worker too many that has ended, now this one."""
        known, order = self._books.known[session_id], self._books.orders.of(worker, session_id)
        at_rest = known.state in _AT_REST and not known.active and order is None
        return self._suspects.fell(session_id, at_rest=at_rest)

    def _await_deliveries(self) -> None:
        """A commit waits until all that the source has computed is with the client."""
        for progress in self._books.handovers.under_way:
            if progress.phase == "prepared" and progress.frozen_at is not None and not progress.all_delivered:
                lineage = self._books.truth.sessions[progress.session_id].lineage
                asked = gate.AwaitTaken(session_id=progress.session_id, lineage=lineage, up_to=progress.frozen_at)
                self._books.reply(asked)

    def _status(self, now_s: float) -> gate.Status:
        books, counts = self._books, dict[str, float]()
        for session in books.cluster.sessions.values():
            key = f'epochal_sessions{{state="{session.status}"}}'
            counts[key] = counts.get(key, 0.0) + 1.0
        for gpu in books.cluster.gpus.values():
            key = f'epochal_gpus{{state="{gpu.status}",type="{gpu.gpu_type}"}}'
            counts[key] = counts.get(key, 0.0) + 1.0
        counts |= books.tally.counts(books.fleet, now_s)
        return gate.Status(
            controller_epoch=books.truth.controller_epoch,
            sent_s=now_s,
            ready=self.ready,
            accepts=True,
            retry_after_s=self._settings.admission.retry_after_s,
            counts=counts,
            told=books.gateway_told,
            mode=self._approval.mode,
            proposal=self._approval.proposal,
        )
