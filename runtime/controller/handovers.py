"""All hand-overs under way: what is written down and said when workers speak, leave or are silent.

Decides commits and aborts; must never know why a session moves, nor whether a disk has room: what is decided here is
written first and said afterwards, and where it could not be written the copy that decided it is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from runtime.controller.handover import ATTEMPT_S, SAY_AGAIN_S, Phase, Progress, Transfer
from runtime.controller.pairs import Pairs
from runtime.controller.step import Step, Word
from runtime.journal.records import Aborted, Committed, Finished, Lost, Prepared, Reactivated, Record
from runtime.journal.rules import after
from runtime.journal.truth import Handover, Owned, Truth
from runtime.transfer import messages as said
from runtime.transfer.messages import Horizon, MigrationReport, Side, Way
from runtime.worker.messages import Frozen

_OTHER: Mapping[Side, Side] = {"source": "target", "target": "source"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One side of an attempt, as the inventory of a worker tells it."""

    session_id: str
    attempt: int
    side: Side
    ownership: int  # in which the session is there
    froze: bool = True  # a source that still serves has not been committed


class Handovers:
    """Time is an argument, in seconds of any clock that only grows."""

    def __init__(self, controller_epoch: int) -> None:
        self._progress: dict[int, Progress] = {}  # by attempt
        self._pairs = Pairs(controller_epoch)

    @classmethod
    def resumed(cls, truth: Truth, now_s: float) -> tuple[Handovers, Step]:
        """After a restart: what was not committed is aborted, and what was goes on.

        Where the target is gone it goes on at the source, which says so if it was already told to forget the state.
        """
        found, records = cls(truth.controller_epoch), list[Record]()
        for attempt, handover in truth.handovers.items():
            ownership = truth.sessions[handover.session_id].ownership
            progress = Progress(
                attempt=attempt,
                session_id=handover.session_id,
                source=handover.source,
                target=handover.target,
                phase="aborted" if handover.phase == "prepared" else "committed",
                ownership=ownership,
                began_s=now_s,
                say_again_s=now_s,
                gone=frozenset(side for side, name in _sides(handover) if name not in truth.workers),
            )
            if progress.phase == "aborted":
                records.append(Aborted(attempt=attempt))
            elif "target" in progress.gone:
                records.append(Reactivated(attempt=attempt))
                progress = replace(progress, phase="reactivated", ownership=ownership + 1)
            if not progress.over:
                found._progress[attempt] = progress
        return found, Step(records=tuple(records), words=found._due(now_s))

    def copy(self) -> Handovers:
        """What is decided on it is forgotten with it."""
        copied = Handovers(0)
        copied._progress, copied._pairs = dict(self._progress), self._pairs.copy()
        return copied

    @property
    def under_way(self) -> tuple[Progress, ...]:
        return tuple(self._progress.values())

    def way(self, attempt: int) -> Way:
        """By which the state of an attempt that is under way goes."""
        transfer = self._progress[attempt].transfer
        assert transfer is not None, f"attempt {attempt} is an earlier controller's"
        return transfer.route.way

    def horizon(self, truth: Truth) -> Horizon:
        """To every worker that may hold a staged copy, now and then."""
        return Horizon(attempt=truth.last_attempt, open_attempts=tuple(self._progress))

    def begin(
        self, truth: Truth, session_id: str, target: str, *, state_bytes: int, active: bool, way: Way, now_s: float
    ) -> Step:
        """Hand a session over; between two workers whose last attempt failed, over what always works."""
        source = truth.sessions[session_id].worker
        assert source is not None, f"{session_id} has no owner"
        attempt = truth.last_attempt + 1
        busy = any({progress.source, progress.target} == {source, target} for progress in self.under_way)
        route = self._pairs.route(source, target, way, busy=busy)
        progress = Progress(
            attempt=attempt,
            session_id=session_id,
            source=source,
            target=target,
            transfer=Transfer(state_bytes=state_bytes, active=active, route=route),
            began_s=now_s,
            say_again_s=now_s + SAY_AGAIN_S,
        )
        prepared = Prepared(session_id=session_id, attempt=attempt, target=target)
        after(truth, [prepared])
        return self._now(progress, now_s, prepared)

    def chunks_taken(self, truth: Truth, session_id: str, up_to: int, now_s: float) -> Step:
        """Whoever delivers chunks has taken all of the session's lineage below this one."""
        for progress in self.under_way:
            if progress.session_id == session_id and progress.phase == "prepared":
                return self._checked(truth, replace(progress, taken=max(progress.taken, up_to)), now_s)
        return Step()

    def hear(self, truth: Truth, worker: str, report: MigrationReport | Frozen, now_s: float) -> Step:
        """What a worker says of an attempt; of one that is over, nothing follows."""
        progress = self._progress.get(report.attempt)
        side = None if progress is None else progress.side(worker)
        if progress is None or side is None:
            return Step()
        match report:
            case said.Ready() if side == "target" and progress.phase == "prepared":
                return self._now(replace(progress, ready=report.route), now_s)
            case Frozen() if side == "source" and progress.phase == "prepared":
                return self._checked(truth, replace(progress, frozen_at=report.chunk_number), now_s)
            case said.Sent() if side == "source" and progress.phase == "prepared":
                return self._checked(truth, replace(progress, sent=report.digest), now_s)
            case said.Staged() if side == "target" and progress.phase == "prepared":
                return self._checked(truth, replace(progress, staged=report.digest), now_s)
            case said.Nack() if progress.phase == "prepared":
                return self._abort(progress, now_s)
            case said.AttemptFailed():
                return self._failed(truth, progress, side, now_s)
            case said.Activated() if side == "target" and progress.phase == "committed":
                return self._activated(progress, now_s)
            case said.Aborted() if progress.phase == "aborted":
                return self._confirmed(progress, side, now_s)
            case said.Released() if side == "source" and progress.phase == "activated":
                return self._confirmed(progress, side, now_s)
            case said.Reactivated() if side == "source" and progress.phase == "reactivated":
                return self._confirmed(progress, side, now_s)
            case _:
                return Step()

    def found(self, truth: Truth, worker: str, part: Part, now_s: float) -> Step:
        """After a restart a worker says that it still takes part in an attempt, which may be over since."""
        if part.attempt in self._progress:
            return Step()
        session = truth.sessions.get(part.session_id)
        phase: Phase = "aborted"
        if part.side == "source" and part.froze and session is not None and session.worker != worker:
            phase = "activated"  # elsewhere; what is left is to release the source
        elif part.froze and _goes_on(session, worker, part):
            phase = "reactivated"
        stale = Progress(
            attempt=part.attempt,
            session_id=part.session_id,
            source=worker if part.side == "source" else "",
            target=worker if part.side == "target" else "",
            in_journal=False,
            phase=phase,
            ownership=0 if session is None else session.ownership,
            began_s=now_s,
            say_again_s=now_s,
            gone=frozenset((_OTHER[part.side],)),
        )
        return self._now(stale, now_s)

    def left(self, truth: Truth, worker: str, now_s: float) -> Step:
        """A worker is gone, as `truth` says already; its side of every attempt needs no word any more."""
        assert worker not in truth.workers, f"{worker} is there"
        self._pairs.left(worker)
        return self._each(self._with(worker), lambda progress: self._one_left(progress, worker, now_s))

    def lost(self, truth: Truth, worker: str, session_id: str, now_s: float) -> Step:
        """A worker that is there has lost a session's state."""
        session = truth.sessions.get(session_id)
        records: tuple[Record, ...] = ()
        if session is not None and session.worker == worker:
            records = (Lost(session_id=session_id),)
        of_it = [each for each in self._with(worker) if each.session_id == session_id]
        rest = self._each(of_it, lambda progress: self._one_lost(progress, worker, now_s))
        return Step(records=records + rest.records, words=rest.words)

    def abort(self, attempt: int, now_s: float) -> Step:
        """Nobody wants it any more; once it is committed it goes on all the same."""
        progress = self._progress.get(attempt)
        return self._abort(progress, now_s) if progress is not None and progress.phase == "prepared" else Step()

    def ticked(self, now_s: float) -> Step:
        """Say again what was not confirmed; give up what takes too long."""
        late = [p for p in self.under_way if p.phase == "prepared" and now_s - p.began_s >= ATTEMPT_S]
        aborted = self._each(late, lambda progress: self._abort(progress, now_s))
        return Step(records=aborted.records, words=aborted.words + self._due(now_s))

    def _with(self, worker: str) -> list[Progress]:
        return [progress for progress in self.under_way if progress.side(worker) is not None]

    def _each(self, chosen: Iterable[Progress], decide: Callable[[Progress], Step]) -> Step:
        found = [decide(progress) for progress in chosen]
        return Step(
            records=tuple(record for one in found for record in one.records),
            words=tuple(word for one in found for word in one.words),
        )

    def _due(self, now_s: float) -> tuple[Word, ...]:
        return tuple(
            word
            for progress in self.under_way
            if progress.say_again_s <= now_s
            for word in self._now(progress, now_s).words
        )

    def _now(self, progress: Progress, now_s: float, *records: Record) -> Step:
        """Where it stands from now on, and what is to be said because of that."""
        if progress.over:
            self._progress.pop(progress.attempt, None)
            finished = progress.phase == "activated" and progress.in_journal
            ended = (Finished(attempt=progress.attempt),) if finished else ()
            return Step(records=(*records, *ended))
        self._progress[progress.attempt] = replace(progress, say_again_s=now_s + SAY_AGAIN_S)
        return Step(records=records, words=progress.words(horizon=min(self._progress) - 1))

    def _checked(self, truth: Truth, progress: Progress, now_s: float) -> Step:
        """The commit, once both sides name the same checksum and the source has nothing left to deliver."""
        if progress.both_agree is False:
            self._pairs.failed(progress.source, progress.target)
            return self._abort(progress, now_s)
        if not (progress.both_agree and progress.all_delivered):
            return self._quietly(progress)
        committed = Committed(attempt=progress.attempt)
        ownership = after(truth, [committed]).sessions[progress.session_id].ownership
        return self._now(replace(progress, phase="committed", ownership=ownership), now_s, committed)

    def _quietly(self, progress: Progress) -> Step:
        self._progress[progress.attempt] = progress
        return Step()

    def _abort(self, progress: Progress, now_s: float) -> Step:
        return self._now(replace(progress, phase="aborted"), now_s, Aborted(attempt=progress.attempt))

    def _failed(self, truth: Truth, progress: Progress, side: Side, now_s: float) -> Step:
        if progress.phase == "prepared":
            self._pairs.failed(progress.source, progress.target)
            return self._abort(progress, now_s)
        if progress.phase == "reactivated" and side == "source":  # it had lost the state that it was to go on with
            return self.lost(truth, progress.source, progress.session_id, now_s)
        return Step()

    def _activated(self, progress: Progress, now_s: float) -> Step:
        return self._now(replace(progress, phase="activated"), now_s)

    def _confirmed(self, progress: Progress, side: Side, now_s: float) -> Step:
        return self._now(progress.without(side), now_s)

    def _one_left(self, progress: Progress, worker: str, now_s: float) -> Step:
        side = progress.side(worker)
        assert side is not None
        rest = progress.without(side)
        if progress.phase == "prepared":
            return self._abort(rest, now_s)
        if progress.phase == "committed" and side == "target":
            again = replace(rest, phase="reactivated", ownership=progress.ownership + 1)
            return self._now(again, now_s, Reactivated(attempt=progress.attempt))
        return self._now(rest, now_s)

    def _one_lost(self, progress: Progress, worker: str, now_s: float) -> Step:
        side = progress.side(worker)
        if progress.phase == "prepared" and side == "source":
            return self._abort(progress, now_s)
        if progress.phase == "committed" and side == "target":  # nobody is to be activated: the source is released
            return self._activated(progress, now_s)
        if progress.phase == "reactivated" and side == "source":
            return self._confirmed(progress, side, now_s)
        return Step()


def _goes_on(session: Owned | None, worker: str, part: Part) -> bool:
    """The source owns the session again, in a later ownership than it knows of."""
    ours = part.side == "source" and session is not None and session.worker in (None, worker)
    return ours and session is not None and session.ownership > part.ownership


def _sides(handover: Handover) -> tuple[tuple[Side, str], ...]:
    return ("source", handover.source), ("target", handover.target)
