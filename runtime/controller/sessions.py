"""Sessions from the promise to the end: what clients want of them, and what their owners say of them.

Decides who is promised a session, what its owner is told, and when it is over; must never know why it is where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from runtime.controller.books import Books, Known
from runtime.controller.picture import draw
from runtime.gateway import messages as gate
from runtime.journal.records import Created, Ended, Prompted
from runtime.worker import messages as said
from runtime.worker.messages import Close, Demand, Open
from scheduler import events
from scheduler.cluster import SessionId

LOSSES_MAX = 3  # a session whose state is lost again and again ends: it would take one worker after another down
_RESTS = ("active", "idle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """How many are let in."""

    sessions_max: int = 10_000
    waiting_max: int = 256  # beyond those the GPUs hold
    retry_after_s: float = 5.0


class Sessions:
    """Time is an argument, in seconds of any clock that only grows."""

    def __init__(self, books: Books, admission: Admission) -> None:
        self._books, self._admission = books, admission

    def create(self, wanted: gate.Create, now_s: float) -> None:
        """A name that is there already was promised before; with another token it is somebody else's."""
        books = self._books
        found = books.truth.sessions.get(wanted.session_id)
        if found is None:
            refused = self._refusal(wanted)
            if refused is not None:
                books.reply(refused)
                return
            self._promise(wanted, now_s)
        elif found.token_sha256 != wanted.token_sha256:
            books.reply(_refused(wanted, "unusable", "that session is somebody else's"))
            return
        books.reply(gate.Created(session_id=wanted.session_id, position=books.waiting.position(wanted.session_id)))

    def want(self, wanted: gate.Want, now_s: float) -> None:
        known = self._books.known.get(wanted.session_id)
        if known is None:
            self._books.reply(gate.Ended(session_id=wanted.session_id, reason="there is no such session"))
            return
        self._books.say_where(wanted.session_id)
        self._books.known[wanted.session_id] = replace(known, active=wanted.active, heard=True)
        if known.active == wanted.active:
            return
        name = SessionId(wanted.session_id)
        event = events.SessionActivated if wanted.active else events.SessionIdled
        self._books.tell(event(session_id=name), now_s)
        self.demand(wanted.session_id, now_s)

    def prompt(self, wanted: gate.Prompt) -> None:
        owned = self._books.truth.sessions.get(wanted.session_id)
        if owned is None:
            self._books.reply(gate.Ended(session_id=wanted.session_id, reason="there is no such session"))
            return
        if wanted.serial > owned.prompt_serial:  # others are of the past, or written down already
            self._books.write(Prompted(session_id=wanted.session_id, prompt=wanted.prompt, serial=wanted.serial))
            self._books.touched.add(wanted.session_id)
        self._books.reply(gate.Prompted(session_id=wanted.session_id, serial=wanted.serial))

    def end(self, session_id: str, reason: str, now_s: float) -> None:
        """At once, unless it is being handed over: then the attempt ends first."""
        known = self._books.known.get(session_id)
        if known is None:
            self._books.reply(gate.Ended(session_id=session_id, reason="there is no such session"))
            return
        self._books.known[session_id] = replace(known, ending=known.ending or reason)
        for attempt, handover in self._books.truth.handovers.items():
            if handover.session_id == session_id:
                self._books.take(self._books.handovers.abort(attempt, now_s))
        self._end_if_possible(session_id, now_s)

    def heard(self, worker: str, report: said.Report, now_s: float) -> None:
        """Of the session's owner; of anybody else only that it holds nothing any more."""
        books = self._books
        match report:
            case said.Closed():
                if not isinstance(books.orders.of(worker, report.session_id), Open):  # else it is of a time before that
                    books.orders.drop(worker, report.session_id)
            case said.Moved():
                if self._owns(worker, report.session_id, report.ownership):
                    books.orders.moved(worker, report.session_id, report.state)
                    self._is(report.session_id, report.state, now_s)
                elif not self._owns(worker, report.session_id):  # else it is of a time before
                    books.orders.moved(worker, report.session_id, report.state)
                    if report.state in _RESTS:
                        self._forget(worker, report, now_s)
            case said.Lost() if self._owns(worker, report.session_id):
                self.lose(report.session_id, report.reason, now_s)
            case said.Undelivered() if self._owns(worker, report.session_id):
                self.lose(report.session_id, f"its chunks could not be encoded: {report.reason}", now_s)
            case _:
                pass

    def _forget(self, worker: str, report: said.Moved, now_s: float) -> None:
        """It serves what is not its own: an order from before it was lost has come late."""
        books, owned = self._books, self._books.truth.sessions.get(report.session_id)
        if owned is not None and owned.ownership >= report.ownership and not books.is_handed_over(report.session_id):
            books.order(worker, Close(session_id=report.session_id), now_s)

    def lose(self, session_id: str, reason: str, now_s: float) -> None:
        """Its owner is there, and the state is not; what is left of it there is closed."""
        books, owned, known = self._books, self._books.truth.sessions[session_id], self._books.known[session_id]
        assert owned.worker is not None, f"nobody owns {session_id}"
        worker, losses = owned.worker, known.losses + 1
        books.take(books.handovers.lost(books.truth, worker, session_id, now_s))
        if books.truth.sessions[session_id].worker is not None:  # it was committed: it goes on elsewhere
            return
        books.known[session_id] = replace(known, state="", losses=losses)
        books.order(worker, Close(session_id=session_id), now_s)
        if losses >= LOSSES_MAX:
            self.end(session_id, f"its state was lost {losses} times in a row: {reason}"[:1024], now_s)
        if session_id in books.truth.sessions:
            draw(books, session_id, now_s)

    def demand(self, session_id: str, now_s: float) -> None:
        """Its owner is told what its client wants, if it has said that it does something else."""
        books, known = self._books, self._books.known[session_id]
        worker = books.truth.sessions[session_id].worker
        wanted = "active" if known.active else "idle"
        if worker is None or known.state not in _RESTS or known.state == wanted:
            return
        order = books.orders.of(worker, session_id)
        if order is None or (isinstance(order, Demand) and order.active != known.active):
            books.order(worker, Demand(session_id=session_id, active=known.active), now_s)

    def settle(self, now_s: float) -> None:
        """What had to wait for the end of a hand-over."""
        for session_id, known in list(self._books.known.items()):
            if known.ending:
                self._end_if_possible(session_id, now_s)
            elif known.state in _RESTS:
                self.demand(session_id, now_s)

    def _refusal(self, wanted: gate.Create) -> gate.Refused | None:
        books, admission = self._books, self._admission
        if wanted.text.profile not in books.fleet.profiles:
            known = ", ".join(sorted(books.fleet.profiles))
            return _refused(wanted, "unusable", f"profile={wanted.text.profile!r} must be one of {known}")
        if len(books.truth.sessions) >= admission.sessions_max:
            reason = f"{admission.sessions_max} sessions are there, and no more may be"
            return _refused(wanted, "full", reason, admission.retry_after_s)
        waiting = len(books.waiting)
        if waiting >= admission.waiting_max:
            return _refused(wanted, "full", f"{waiting} sessions wait for a GPU", admission.retry_after_s)
        return None

    def _promise(self, wanted: gate.Create, now_s: float) -> None:
        text = wanted.text
        self._books.write(
            Created(
                session_id=wanted.session_id,
                profile=text.profile,
                seed=text.seed,
                prompt=text.prompt,
                token_sha256=wanted.token_sha256,
                encoding=text.encoding,
                scale=text.scale,
                tenant=wanted.tenant,
            )
        )
        self._books.known[wanted.session_id] = Known(active=True)
        name = SessionId(wanted.session_id)
        self._books.tell(events.SessionOpened(session_id=name, profile=text.profile, tenant=wanted.tenant), now_s)

    def _owns(self, worker: str, session_id: str, ownership: int | None = None) -> bool:
        owned = self._books.truth.sessions.get(session_id)
        return owned is not None and owned.worker == worker and ownership in (None, owned.ownership)

    def _is(self, session_id: str, state: str, now_s: float) -> None:
        known = self._books.known[session_id]
        losses = 0 if state == "idle" else known.losses  # it has served, and was left in peace
        there_at = self._books.roster.question
        self._books.known[session_id] = replace(known, state=state, losses=losses, there_at=there_at)
        self.demand(session_id, now_s)

    def _end_if_possible(self, session_id: str, now_s: float) -> None:
        books = self._books
        if books.is_handed_over(session_id):
            return
        reason = books.known[session_id].ending
        worker = books.truth.sessions[session_id].worker
        books.write(Ended(session_id=session_id))
        if worker is not None:
            books.order(worker, Close(session_id=session_id), now_s)
        del books.known[session_id]
        draw(books, session_id, now_s)
        books.reply(gate.Ended(session_id=session_id, reason=reason))


def _refused(wanted: gate.Create, refusal: gate.Refusal, reason: str, retry_after_s: float = 0.0) -> gate.Refused:
    return gate.Refused(
        session_id=wanted.session_id, refusal=refusal, reason=reason[:1024], retry_after_s=retry_after_s
    )
