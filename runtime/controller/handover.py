"""How far one hand-over has come, according to what both workers have said.

Decides what is to be said to them next; must never know a journal: whether it was committed is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from runtime.controller.step import Word
from runtime.transfer.messages import (
    Abort,
    Activate,
    Prepare,
    Reactivate,
    Release,
    Route,
    Side,
    Start,
)

Phase = Literal["prepared", "committed", "activated", "aborted", "reactivated"]
SAY_AGAIN_S = 0.5  # what was not confirmed is said again after so long
ATTEMPT_S = 60.0  # for a whole attempt, until its commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What a hand-over needs beside its session and both workers."""

    state_bytes: int
    active: bool  # what the user wants of the session
    route: Route  # as its target has to take it


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One attempt. `gone` are sides that need not be told anything more: they have confirmed the end, or have left."""

    attempt: int
    session_id: str
    source: str
    target: str
    transfer: Transfer | None = None  # None: it was decided before a restart
    in_journal: bool = True  # False: it was over there before a restart, and somebody has not heard of that
    phase: Phase = "prepared"
    ownership: int = 0  # epoch in which its owner is to serve, once that was decided
    began_s: float
    say_again_s: float
    ready: Route | None = None
    sent: int | None = None
    staged: int | None = None
    frozen_at: int | None = None  # the number of the chunk that the session stands still before
    taken: int = 0  # chunks below this have been delivered
    gone: frozenset[Side] = frozenset()

    def side(self, worker: str) -> Side | None:
        return "source" if worker == self.source else "target" if worker == self.target else None

    def without(self, side: Side) -> Progress:
        return replace(self, gone=self.gone | {side})

    @property
    def both_agree(self) -> bool | None:
        """Whether what was sent is what has arrived; None until both have said."""
        return None if self.sent is None or self.staged is None else self.sent == self.staged

    @property
    def all_delivered(self) -> bool:
        """Nothing that only the source has would be missing if it went."""
        return self.frozen_at is not None and self.taken >= self.frozen_at

    @property
    def over(self) -> bool:
        """Nobody needs to be told anything more."""
        if self.phase == "aborted":
            return self.gone == {"source", "target"}
        return self.phase in ("activated", "reactivated") and "source" in self.gone

    def words(self, horizon: int) -> tuple[Word, ...]:
        """All that has not been confirmed yet; both sides take it well if they hear it twice."""
        match self.phase:
            case "prepared":
                return self._before_the_commit(horizon)
            case "committed":
                activate = Activate(session_id=self.session_id, attempt=self.attempt, ownership=self.ownership)
                return () if "target" in self.gone else (Word(worker=self.target, body=activate),)
            case "activated":
                release = Release(session_id=self.session_id, attempt=self.attempt)
                return () if "source" in self.gone else (Word(worker=self.source, body=release),)
            case "reactivated":
                again = Reactivate(session_id=self.session_id, attempt=self.attempt, ownership=self.ownership)
                return () if "source" in self.gone else (Word(worker=self.source, body=again),)
            case "aborted":
                abort = Abort(session_id=self.session_id, attempt=self.attempt)
                sides = (("source", self.source), ("target", self.target))
                return tuple(Word(worker=name, body=abort) for side, name in sides if side not in self.gone)

    def _before_the_commit(self, horizon: int) -> tuple[Word, ...]:
        """To the target even after it was ready: what it said later may have been lost."""
        assert self.transfer is not None
        prepare = Prepare(
            session_id=self.session_id,
            attempt=self.attempt,
            state_bytes=self.transfer.state_bytes,
            route=self.transfer.route,
            active=self.transfer.active,
            deadline_s=ATTEMPT_S,
            horizon=horizon,
        )
        if self.ready is None:
            return (Word(worker=self.target, body=prepare),)
        start = Start(
            session_id=self.session_id, attempt=self.attempt, route=_to(self.target, self.ready), deadline_s=ATTEMPT_S
        )
        return Word(worker=self.target, body=prepare), Word(worker=self.source, body=start)


def _to(target: str, ready: Route) -> Route:
    """The target's route as its source has to take it."""
    return Route(way=ready.way, peer=target, incarnation=ready.incarnation, address=ready.address, token=ready.token)
