"""What workers say that they hold, beside what is written down.

Decides whose copy counts, which is of the past and which nobody knows; must never know why a worker was asked.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.controller.books import Books
from runtime.controller.execution import Execution
from runtime.controller.handovers import Part
from runtime.controller.picture import draw
from runtime.controller.sessions import Sessions
from runtime.transfer.messages import Side
from runtime.worker.messages import Close, Open
from runtime.worker.process.messages import Held, Inventory
from scheduler.cluster import Session

ORPHAN_S = 60.0  # for how long a worker may hold what nobody knows before it is told to forget it
_SOURCE_STATES = ("precopy", "frozen")


class Inventories:
    """Time is an argument, in seconds of any clock that only grows."""

    def __init__(self, books: Books, sessions: Sessions, execution: Execution) -> None:
        self._books, self._sessions, self._execution = books, sessions, execution

    def heard(self, inventory: Inventory, now_s: float) -> None:
        """What was asked for before a session was known to be there says nothing against that."""
        if not self._counts(inventory):
            return
        books, worker = self._books, inventory.hello.worker
        older = {name for name in books.owners.of(worker) if inventory.question <= books.known[name].there_at}
        for held in inventory.sessions:
            if held.session_id not in older or held.ownership == books.truth.sessions[held.session_id].ownership:
                self._holds(worker, held, now_s)
        there = {held.session_id for held in inventory.sessions}
        for at in [at for at in books.orphans if at[0] == worker and at[1] not in there]:
            del books.orphans[at]
        for session_id in sorted(books.owners.of(worker) - there - older):
            if not isinstance(books.orders.of(worker, session_id), Open):
                self._sessions.lose(session_id, "its worker does not hold it", now_s)
                self._execution.dropped(session_id)

    def ticked(self, now_s: float) -> None:
        """What nobody has known for so long is to be forgotten."""
        for (worker, session_id), since_s in list(self._books.orphans.items()):
            if now_s - since_s >= ORPHAN_S:
                del self._books.orphans[worker, session_id]
                self._books.order(worker, Close(session_id=session_id), now_s)

    def left(self, worker: str) -> None:
        """With all that it held."""
        self._books.orphans = {at: since_s for at, since_s in self._books.orphans.items() if at[0] != worker}

    def _counts(self, inventory: Inventory) -> bool:
        """It answers this controller: what an earlier one has asked for may have been said before its last words."""
        hello, roster = inventory.hello, self._books.roster
        return inventory.controller_epoch == self._books.truth.controller_epoch and roster.knows(
            hello.worker, hello.incarnation
        )

    def _holds(self, worker: str, held: Held, now_s: float) -> None:
        books = self._books
        if held.attempt is not None:
            side: Side = "source" if held.state in _SOURCE_STATES or held.ownership > 0 else "target"
            froze = held.state != "precopy"
            part = Part(
                session_id=held.session_id, attempt=held.attempt, side=side, ownership=held.ownership, froze=froze
            )
            self._execution.take(books.handovers.found(books.truth, worker, part, now_s), now_s)
        owned = books.truth.sessions.get(held.session_id)
        if owned is not None and owned.worker == worker and owned.ownership == held.ownership:
            self._is_as_held(worker, held, now_s)
        elif owned is not None and held.attempt not in books.truth.handovers:  # elsewhere: this copy is of the past
            books.order(worker, Close(session_id=held.session_id), now_s)
        elif held.attempt is None:
            books.orphans.setdefault((worker, held.session_id), now_s)

    def _is_as_held(self, worker: str, held: Held, now_s: float) -> None:
        books, known = self._books, self._books.known[held.session_id]
        if held.state == "lost":
            self._sessions.lose(held.session_id, "its worker has lost it", now_s)
            self._execution.dropped(held.session_id)
            return
        active = known.active if known.heard else held.active
        books.known[held.session_id] = replace(known, active=active, state=held.state)
        books.orders.moved(worker, held.session_id, held.state)
        self._execution.moved(worker, held.session_id, held.state, now_s)  # that it has was said once
        if not self._execution.is_flying(held.session_id) and not _agrees(
            books.session(held.session_id), held, active=active
        ):
            draw(books, held.session_id, now_s)


def _agrees(session: Session | None, held: Held, *, active: bool) -> bool:
    """Whether the picture shows the session where its owner has it, and wanting what its client wants."""
    if session is None:
        return False
    in_host_memory = held.state == "suspended"
    return (session.gpu is None) == in_host_memory and (session.status in ("active", "waiting")) == active
