"""One controller over the journal, as its loop runs it: decided on a copy, written, and only then said.

Decides what a turn hears and when a plan is asked for; must never decide anything about a session.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.world.fleet import FLEET, PLANNER
from bench.world.restless import restless
from runtime.controller.controller import (
    Available,
    Controller,
    ControllerSettings,
    EpochOver,
    Exited,
    Happening,
    Planned,
)
from runtime.controller.process.keeping import one_by_one
from runtime.controller.step import Step, Switch
from runtime.gateway import messages as gate
from runtime.journal.journal import Journal, JournalFullError
from runtime.journal.records import Record
from runtime.journal.truth import Truth
from runtime.transfer.messages import Migrating
from runtime.worker.messages import Command, Desired
from runtime.worker.process.messages import AskInventory, FromController, Heartbeat, Renew
from scheduler.cluster import Snapshot
from scheduler.plan import Decision
from scheduler.planner import Planner
from scheduler.policy import Budget

SPACING_S = 0.5  # between two plans
GIVEN_UP_S = 1.5  # after which a plan is not waited for any more
WORK, WORK_EARLY = 10, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a controller reaches of the world."""

    to_worker: Callable[[str, FromController, Truth], None]  # name, and what is durable
    to_gateway: Callable[[gate.ToGateway, Truth], None]
    switch: Callable[[Switch], None]
    wrote: Callable[[Sequence[Record]], None]  # what is durable, before a word of it is said
    begun: Callable[[Controller, Step], None]  # how a controller begins
    took: Callable[[Controller, Sequence[Happening], Sequence[Step]], None]  # what it has heard, and its steps
    full: Callable[[], bool]  # the disk has no room
    reached: Callable[[str], None]  # for whoever counts what has happened


@dataclass(frozen=True, slots=True, kw_only=True)
class Luck:
    """Chances that a plan comes late, never, or moves sessions about at random."""

    late: float = 0.0
    lost: float = 0.0
    restless: float = 0.0


@dataclass(slots=True)
class _Question:
    snapshot: Snapshot
    early: bool
    asked_s: float
    answers_s: float | None  # None: never


class Control:
    """Raises `SupersededError` from `turn` once another has taken over."""

    def __init__(
        self,
        path: Path,
        settings: ControllerSettings,
        outside: Outside,
        chance: random.Random,
        luck: Luck,
        now_s: float,
        gone: Callable[[str, int], bool],
    ) -> None:
        """`gone`: whether that incarnation has exited."""
        self._outside, self._chance = outside, chance
        self.journal = Journal.open(path)
        self._planner = Planner(FLEET, PLANNER)
        self._question: _Question | None = None
        self._version = 0
        self._again: list[Happening] = []
        self.is_full = False
        self._epoch_begins = True
        self._next_epoch_s, self._next_plan_s = now_s + FLEET.epoch_s, now_s
        self.luck = luck
        self.controller, begun = Controller.begin(FLEET, self.journal.truth, now_s, settings)
        self._outside.begun(self.controller, begun)
        self.journal.append(begun.records)
        self._outside.wrote(begun.records)
        self._say([begun])
        for name, incarnation in self.journal.truth.workers.items():
            if gone(name, incarnation):
                reason = "it exited while no controller was there"
                self._again += [Exited(worker=name, incarnation=incarnation, reason=reason), Available(worker=name)]

    @property
    def kept(self) -> int:
        """What waits for room on the disk."""
        return len(self._again)

    def turn(self, happenings: Sequence[Happening], now_s: float, *, raced: bool = False) -> None:
        """`raced`: another controller takes over right after this one has looked whether the journal is its own."""
        heard = [*happenings, *self._planned(now_s)]
        if now_s >= self._next_epoch_s:
            self._next_epoch_s += FLEET.epoch_s
            self._epoch_begins = True
            heard.append(EpochOver())
        if not raced:
            self.journal.demand_hold()
        self._decide(heard, now_s)
        self.is_full = self.is_full and self._outside.full()
        self._ask(now_s)

    def close(self) -> None:
        self.journal.close()

    def _decide(self, happenings: Sequence[Happening], now_s: float) -> None:
        """All at once; one by one where the disk has no room for what is to be written. Heartbeats write nothing."""
        beats = [happening for happening in happenings if isinstance(happening, Heartbeat)]
        echoes = [self.controller.beat(beat, now_s) for beat in beats]
        self._outside.took(self.controller, beats, echoes)
        self._say(echoes)
        happenings = [happening for happening in happenings if not isinstance(happening, Heartbeat)]
        happenings, self._again = [*self._again, *happenings], []
        if self._decided(happenings, now_s):
            return
        self._again = one_by_one(happenings, lambda happening: self._decided([happening], now_s))

    def _decided(self, happenings: Sequence[Happening], now_s: float) -> bool:
        trial = self.controller.copy()
        steps = [trial.handle(happening, now_s) for happening in happenings]
        records = [record for step in steps for record in step.records]
        try:
            if records:
                self._write(records)
        except JournalFullError:
            self.is_full = True
            return False
        self.is_full = self.is_full and not records
        self.controller = trial
        self._outside.took(trial, happenings, steps)
        self._say(steps)
        return True

    def _write(self, records: Sequence[Record]) -> None:
        if self._outside.full():
            raise JournalFullError("the disk has no room")
        self.journal.append(records)
        self._outside.wrote(records)

    def _say(self, steps: Sequence[Step]) -> None:
        truth = self.journal.truth
        for step in steps:
            for word in step.words:
                incarnation = word.incarnation if word.incarnation is not None else truth.workers.get(word.worker)
                if incarnation is not None:
                    self._outside.to_worker(word.worker, self._addressed(word.body, incarnation), truth)
            for reply in step.replies:
                self._outside.to_gateway(self._completed(reply), truth)
            for switch in step.switches:
                self._outside.switch(switch)

    def _addressed(self, body: Migrating | Desired | Renew | AskInventory, incarnation: int) -> FromController:
        if isinstance(body, AskInventory):
            return msgspec.structs.replace(body, version=self._version)
        if isinstance(body, Renew):
            return body
        self._version += 1
        epoch = self.journal.controller_epoch
        return Command(controller_epoch=epoch, incarnation=incarnation, version=self._version, body=body)

    def _completed(self, reply: gate.ToGateway) -> gate.ToGateway:
        if not isinstance(reply, gate.Status):
            return reply
        return msgspec.structs.replace(reply, accepts=reply.accepts and not self.is_full)

    def _ask(self, now_s: float) -> None:
        """A plan for the epoch that begins, or an early one for those who wait."""
        if self._question is not None or not self.controller.ready:
            return
        if not self._epoch_begins and not (self.controller.waiting and now_s >= self._next_plan_s):
            return
        early, self._epoch_begins = not self._epoch_begins, False
        self._next_plan_s = now_s + SPACING_S
        luck = self._chance.random()
        late_s = self._chance.uniform(0.2, GIVEN_UP_S) if luck < self.luck.late else 0.0
        never = self.luck.late <= luck < self.luck.late + self.luck.lost
        answers_s = None if never else now_s + late_s
        self._outside.reached("lost plan" if never else "late plan" if late_s else "plan")
        self._question = _Question(self.controller.snapshot(), early, now_s, answers_s)

    def _planned(self, now_s: float) -> list[Happening]:
        """The answer to the question, which may be old by now; a process that does not answer is begun anew."""
        asked = self._question
        if asked is None:
            return []
        if asked.answers_s is None or now_s < asked.answers_s:
            self._question = None if now_s >= asked.asked_s + GIVEN_UP_S else asked
            return []
        self._question = None
        budget = Budget(work=WORK_EARLY if asked.early else WORK, early=asked.early)
        decision: Decision = self._planner.step(asked.snapshot, asked.asked_s, budget)
        if self._chance.random() < self.luck.restless:
            decision = restless(decision, asked.snapshot, self._chance)
        return [Planned(decision=decision, early=asked.early, made_s=asked.asked_s)]
