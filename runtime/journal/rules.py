"""What a record changes, and which record contradicts those before it.

Decides the one order in which sessions are promised, placed, handed over and lost; must never know a file, a clock or
what a worker says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from msgspec.structs import replace

from runtime.journal.records import (
    Aborted,
    Began,
    Cleared,
    Committed,
    Created,
    Ended,
    Finished,
    GivenBack,
    Joined,
    Left,
    Lost,
    Placed,
    Prepared,
    Prompted,
    Reactivated,
    Record,
    Withheld,
)
from runtime.journal.truth import Handover, Owned, Truth


class ContradictionError(ValueError):
    """A record that cannot follow those before it: a fault of the controller that wrote it."""


def after(truth: Truth, records: Iterable[Record]) -> Truth:
    """What holds once they are written, too; raises `ContradictionError`, and then nothing has changed."""
    draft = _Draft(truth)
    for record in records:
        draft.take(record)
    return draft.truth()


class _Draft:
    """A truth under way, so that many records copy it once."""

    def __init__(self, truth: Truth) -> None:
        self._controller_epoch, self._last_attempt = truth.controller_epoch, truth.last_attempt
        self._workers, self._sessions, self._handovers = (
            dict(truth.workers),
            dict(truth.sessions),
            dict(truth.handovers),
        )
        self._withheld = set(truth.withheld)
        self._handed_over = {handover.session_id for handover in truth.handovers.values()}

    def truth(self) -> Truth:
        return Truth(
            controller_epoch=self._controller_epoch,
            last_attempt=self._last_attempt,
            workers=self._workers,
            sessions=self._sessions,
            handovers=self._handovers,
            withheld=tuple(sorted(self._withheld)),
        )

    def take(self, record: Record) -> None:
        match record:
            case Began():
                _demand(record.controller_epoch == self._controller_epoch + 1, record, "epochs follow one another")
                self._controller_epoch = record.controller_epoch
            case Joined():
                _demand(record.worker not in self._workers, record, "its earlier incarnation has not left")
                self._workers[record.worker] = record.incarnation
            case Left():
                self._left(record)
            case Withheld():
                _demand(record.worker not in self._withheld, record, "it is withheld")
                self._withheld.add(record.worker)
            case GivenBack():
                _demand(record.worker in self._withheld, record, "it is not withheld")
                self._withheld.remove(record.worker)
            case Created():
                self._created(record)
            case Prompted() | Ended() | Placed() | Lost() | Cleared():
                self._changed(record, self._known(record, record.session_id))
            case Prepared():
                self._prepared(record, self._known(record, record.session_id))
            case Committed() | Aborted() | Reactivated() | Finished():
                self._goes_on(record)
            case _:
                assert_never(record)

    def _known(self, record: Record, session_id: str) -> Owned:
        session = self._sessions.get(session_id)
        if session is None:
            raise ContradictionError(f"{record}: there is no such session")
        return session

    def _left(self, record: Left) -> None:
        """Handovers stay open: the controller has to end each of them."""
        known = self._workers.get(record.worker)
        _demand(known == record.incarnation, record, f"incarnation {known} is there")
        del self._workers[record.worker]
        for name, session in self._sessions.items():
            if session.worker == record.worker:
                fallen = session.fallen + (not record.stopped)
                self._sessions[name] = replace(session, worker=None, lost=True, fallen=fallen)

    def _created(self, record: Created) -> None:
        _demand(record.session_id not in self._sessions, record, "it is there already")
        self._sessions[record.session_id] = Owned(
            profile=record.profile,
            seed=record.seed,
            prompt=record.prompt,
            token_sha256=record.token_sha256,
            encoding=record.encoding,
            scale=record.scale,
            tenant=record.tenant,
        )

    def _changed(self, record: Prompted | Ended | Placed | Lost | Cleared, session: Owned) -> None:
        if isinstance(record, Prompted):
            _demand(record.serial >= session.prompt_serial, record, f"prompt {session.prompt_serial} was there before")
            self._sessions[record.session_id] = replace(session, prompt=record.prompt, prompt_serial=record.serial)
            return
        if isinstance(record, Cleared):
            self._sessions[record.session_id] = replace(session, fallen=0)
            return
        if isinstance(record, Lost):
            _demand(session.worker is not None, record, "nobody owns it")
            self._sessions[record.session_id] = replace(session, worker=None, lost=True)
            return
        _demand(record.session_id not in self._handed_over, record, "it is being handed over")
        if isinstance(record, Ended):
            del self._sessions[record.session_id]
            return
        _demand(session.worker is None, record, f"{session.worker} owns it")
        _demand(record.worker in self._workers, record, "there is no such worker")
        self._sessions[record.session_id] = replace(
            session,
            worker=record.worker,
            ownership=session.ownership + 1,
            lineage=session.lineage + session.lost,
            lost=False,
        )

    def _prepared(self, record: Prepared, session: Owned) -> None:
        if session.worker is None:
            raise ContradictionError(f"{record}: nobody owns the session")
        _demand(record.session_id not in self._handed_over, record, "it is being handed over")
        _demand(record.attempt > self._last_attempt, record, f"attempt {self._last_attempt} was there before")
        _demand(record.target in self._workers, record, "there is no such worker")
        _demand(record.target != session.worker, record, "the target owns it")
        self._last_attempt = record.attempt
        self._handovers[record.attempt] = Handover(
            session_id=record.session_id, source=session.worker, target=record.target
        )
        self._handed_over.add(record.session_id)

    def _goes_on(self, record: Committed | Aborted | Reactivated | Finished) -> None:
        handover = self._handovers.get(record.attempt)
        if handover is None:
            raise ContradictionError(f"{record}: the attempt is not open")
        wanted = "prepared" if isinstance(record, Committed | Aborted) else "committed"
        _demand(handover.phase == wanted, record, f"it is {handover.phase}")
        if isinstance(record, Committed):
            self._handovers[record.attempt] = replace(handover, phase="committed")
            self._owns(handover.session_id, handover.target)
            return
        if isinstance(record, Reactivated):
            _demand(handover.target not in self._workers, record, "the target is still there")
            self._owns(handover.session_id, handover.source)
        del self._handovers[record.attempt]
        self._handed_over.remove(handover.session_id)

    def _owns(self, session_id: str, worker: str) -> None:
        """The state is where it was sent, so that the lineage goes on, unless that worker is gone, too."""
        session, there = self._sessions[session_id], worker in self._workers
        self._sessions[session_id] = replace(
            session, worker=worker if there else None, ownership=session.ownership + 1, lost=not there
        )


def _demand(holds: bool, record: Record, otherwise: str) -> None:
    if not holds:
        raise ContradictionError(f"{record}: {otherwise}")
