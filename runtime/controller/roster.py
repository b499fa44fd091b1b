"""Which workers are there, according to what they say and to who sees them exit.

Decides who has joined and left, and whose lease goes on; must never know a session, a socket or a process.

A worker's lease ends `lease_s` after it has sent the last heartbeat that was echoed to it. That was before the
heartbeat was heard here, so that `lease_s` after that nobody computes there any more, however its clock is set, as long
as both clocks run equally fast to within `DRIFT`. Only then is silence taken for the end. An incarnation that has left
and speaks again joins anew: what it holds is compared with the journal like everybody's.

Whoever has joined gets no lease before it has answered a question that it was asked since. What it was told before may
still be on its way; by its answer it has heard that, or will have nothing to do with it any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from runtime.controller.step import Step, Word
from runtime.journal.records import Joined, Left, Record
from runtime.journal.truth import Truth
from runtime.worker.process.lease import LEASE_S
from runtime.worker.process.messages import (
    AskInventory,
    FromWorker,
    Goodbye,
    Heartbeat,
    Hello,
    Inventory,
    Renew,
    Said,
)

DRIFT = 0.01  # by which clocks may run apart, relative
INVENTORY_S = 5.0  # after which a worker is asked again: a report that was lost is told by what is there
HANG_S = 30.0  # without a new turn of its compute thread a worker's lease is not renewed
WORKERS_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """One worker that is there. `hello` is what it can do, once it has said so to this controller."""

    worker: str
    incarnation: int
    renewed_s: float  # when the last heartbeat was heard that was echoed
    asked_s: float
    asked_from: int  # the first question that was asked since it came
    answered: bool = False  # it has answered that one, or a later one
    hello: Hello | None = None
    hangs: bool = False


class Roster:
    """Time is an argument, in seconds of any clock that only grows."""

    def __init__(self, controller_epoch: int, *, lease_s: float = LEASE_S, hang_s: float = HANG_S) -> None:
        self._controller_epoch, self._lease_s, self._hang_s = controller_epoch, lease_s, hang_s
        self._present: dict[str, Present] = {}
        self._question = 0
        self.strangers = 0  # messages of incarnations that have left, or were never let in

    @classmethod
    def resumed(cls, truth: Truth, now_s: float, *, lease_s: float = LEASE_S) -> tuple[Roster, Step]:
        """After a restart everybody is asked; whoever does not answer before a lease would have ended has left."""
        found = cls(truth.controller_epoch, lease_s=lease_s)
        words = tuple(found._come(name, incarnation, None, now_s) for name, incarnation in truth.workers.items())
        return found, Step(words=words)

    def copy(self) -> Roster:
        """What is decided on it is forgotten with it."""
        copied = Roster(self._controller_epoch, lease_s=self._lease_s, hang_s=self._hang_s)
        copied._present, copied._question, copied.strangers = dict(self._present), self._question, self.strangers
        return copied

    @property
    def present(self) -> Mapping[str, Present]:
        """By name."""
        return self._present

    @property
    def question(self) -> int:
        """The last that was asked: who answers a later one has heard all that was said before."""
        return self._question

    @property
    def all_known(self) -> bool:
        """Whether everybody who is there has said what it can do."""
        return all(present.hello is not None for present in self._present.values())

    def knows(self, worker: str, incarnation: int) -> bool:
        """Whether what this incarnation says counts."""
        known = self._present.get(worker)
        return known is not None and known.incarnation == incarnation

    def said(self, message: FromWorker, now_s: float) -> Step:
        """Any message of a worker; what it says of sessions is for others."""
        match message:
            case Hello():
                return self._hello(message, now_s)
            case Inventory() if message.controller_epoch == self._controller_epoch:
                return self._hello(message.hello, now_s, answers=message.question)
            case Inventory():  # what an earlier controller has asked for is of the past
                return Step()
            case Heartbeat():
                return self._heartbeat(message, now_s)
            case Goodbye() if self.knows(message.worker, message.incarnation):
                reason = f"said goodbye: {message.reason}"
                return self.exited(message.worker, message.incarnation, reason, stopped=not message.failed)
            case Goodbye() | Said():
                if not self.knows(message.worker, message.incarnation):
                    self.strangers += 1
                return Step()

    def exited(self, worker: str, incarnation: int, reason: str, *, stopped: bool = False) -> Step:
        """Somebody has seen the process end, and its memory with it. `stopped`: because it was asked to."""
        if not self.knows(worker, incarnation):
            return Step()
        del self._present[worker]
        return Step(records=(Left(worker=worker, incarnation=incarnation, reason=reason[:1024], stopped=stopped),))

    def ticked(self, now_s: float) -> Step:
        """Whose lease has surely ended has left."""
        silent = [each for each in self._present.values() if now_s - each.renewed_s >= self._lease_s * (1 + DRIFT)]
        records: tuple[Record, ...] = ()
        for each in silent:
            reason = "its compute thread hangs" if each.hangs else f"not heard for {now_s - each.renewed_s:.1f} s"
            records += self.exited(each.worker, each.incarnation, reason).records
        return Step(records=records, words=tuple(self._ask_again(now_s)))

    def _ask_again(self, now_s: float) -> Iterator[Word]:
        for each in list(self._present.values()):
            if now_s - each.asked_s >= INVENTORY_S:
                self._present[each.worker] = replace(each, asked_s=now_s)
                yield self._ask(each.worker, each.incarnation)

    def _hello(self, hello: Hello, now_s: float, answers: int = -1) -> Step:
        """A higher incarnation is the end of the one before it."""
        known = self._present.get(hello.worker)
        if known is not None and known.incarnation == hello.incarnation:
            answered = known.answered or answers >= known.asked_from
            self._present[hello.worker] = replace(known, hello=hello, answered=answered)
            return Step()
        if known is not None and known.incarnation > hello.incarnation:
            self.strangers += 1
            return Step()
        if known is None and len(self._present) >= WORKERS_MAX:
            self.strangers += 1
            return Step()
        gone = () if known is None else self.exited(hello.worker, known.incarnation, "began anew").records
        asked = self._come(hello.worker, hello.incarnation, hello, now_s)
        return Step(records=(*gone, Joined(worker=hello.worker, incarnation=hello.incarnation)), words=(asked,))

    def _come(self, worker: str, incarnation: int, hello: Hello | None, now_s: float) -> Word:
        """It is there, and is asked what it holds."""
        asked = self._ask(worker, incarnation)
        self._present[worker] = Present(
            worker=worker,
            incarnation=incarnation,
            renewed_s=now_s,
            asked_s=now_s,
            asked_from=self._question,
            hello=hello,
        )
        return asked

    def _heartbeat(self, heartbeat: Heartbeat, now_s: float) -> Step:
        """Echoed, unless it comes from somebody who computes nothing; who is not known is asked who that is.

        Also who is written down and has not said what it holds: that may be another's by now.
        """
        known = self._present.get(heartbeat.worker)
        if known is None or known.incarnation < heartbeat.incarnation:
            return Step(words=(self._ask(heartbeat.worker, heartbeat.incarnation),))
        if known.incarnation > heartbeat.incarnation:
            self.strangers += 1
            return Step()
        if heartbeat.turn_age_s > self._hang_s:
            self._present[heartbeat.worker] = replace(known, hangs=True)
            return Step()
        self._present[heartbeat.worker] = replace(known, renewed_s=now_s, hangs=False)
        if not known.answered:
            return Step(words=(self._ask(heartbeat.worker, heartbeat.incarnation),))
        renew = Renew(
            controller_epoch=self._controller_epoch, incarnation=heartbeat.incarnation, sent_s=heartbeat.sent_s
        )
        return Step(words=(Word(worker=heartbeat.worker, incarnation=heartbeat.incarnation, body=renew),))

    def _ask(self, worker: str, incarnation: int) -> Word:
        self._question += 1
        ask = AskInventory(controller_epoch=self._controller_epoch, incarnation=incarnation, question=self._question)
        return Word(worker=worker, incarnation=incarnation, body=ask)
