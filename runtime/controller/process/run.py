"""The loop of a controller: what has come is decided on a copy, written, and only then said.

Decides when it listens, ticks and asks for plans; must never decide anything about a session.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import msgspec
import zmq

from runtime.controller.controller import (
    Controller,
    EpochOver,
    Happening,
    Planned,
    Ticked,
)
from runtime.controller.process.config import ControllerConfig, check_fleet
from runtime.controller.process.keeping import one_by_one
from runtime.controller.process.past import Past
from runtime.controller.process.planning import Explained, Made, PlanningProcess
from runtime.controller.process.providing import Providing
from runtime.controller.process.questions import Questions
from runtime.controller.process.telling import Telling
from runtime.controller.process.wires import Wires
from runtime.controller.step import Step
from runtime.gateway import messages as gate
from runtime.journal.journal import Journal, JournalFullError
from runtime.recording.drift import Drift
from runtime.recording.recording import NotRecorded, Recording
from runtime.worker.process.messages import Heartbeat, Hello

_LOOK_S = 1.0  # between two looks whether a full disk has room
_READS = ("plan", "explain")  # the other questions are to be decided on
_HOPELESS = (Heartbeat, Ticked, Planned, gate.Here, gate.Taken, gate.Controlled)  # these make room for nobody


class ControllerLoop:
    """`run` is the thread; `stop` is for signals and other threads."""

    def __init__(
        self,
        config: ControllerConfig,
        providing: Providing,
        *,
        recording: Recording | None = None,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes the journal over. Raises `BadInputError`, `JournalError` and `zmq.ZMQError`."""
        check_fleet(config.fleet)
        self._config, self._clock, self._tell = config, clock, say
        self._wires = Wires(config.workers, config.gateways, config.keys)
        self._journal = Journal.open(config.journal)
        self._providing = providing
        self._recording: Recording = recording or NotRecorded()
        self._drift = Drift(config.fleet)
        self._planning = PlanningProcess(config.fleet, config.planner, clock)
        self._stopping = False
        self._again: list[Happening] = []  # what could not be written, and nobody else repeats
        self._questions = Questions()
        self._telling = Telling()
        self.is_full = False
        self._epoch_begins = True  # a plan for it is due
        self._places = config.settings.mode != "advise"  # else plans between epochs are for nobody
        self._hopeless = False  # the last early plan found no place for anybody, and nothing has happened since
        now_s = clock()
        self._next_tick_s = self._next_plan_s = self._next_look_s = now_s
        self._next_epoch_s = now_s + config.fleet.epoch_s
        self._past = Past(config.journal.with_name("history.json"), config.fleet, say, time.time)
        self._controller, begun = Controller.begin(
            config.fleet, self._journal.truth, now_s, config.settings, self._past.read()
        )
        self._recording.begun(self._journal.truth, begun, now_s)
        self._write([begun])
        self._say([begun])
        self._decide(self._providing.begin(self._journal.truth.workers), now_s)
        truth = self._journal.truth
        say(
            f"controller {truth.controller_epoch}: {len(truth.sessions)} sessions and {len(truth.workers)} workers in "
            f"{config.journal}; workers at {self.addresses[0]}, the gateway at {self.addresses[1]}"
        )

    @property
    def addresses(self) -> tuple[str, str]:
        """Of workers and of the gateway."""
        return self._wires.addresses

    @property
    def controller(self) -> Controller:
        """As it stands; to be looked at from the loop's own thread."""
        return self._controller

    def stop(self) -> None:
        """After the turn that is under way."""
        self._stopping = True

    def run(self) -> None:
        """Until it is stopped. Raises `SupersededError` once another controller has taken over."""
        try:
            while not self._stopping:
                self.turn()
            self._past.keep(self._controller.snapshot().history, self._clock(), last=True)
            self._providing.end()
        finally:
            self.close()

    def close(self) -> None:
        self._planning.close()
        self._wires.close()
        self._providing.close()
        self._journal.close()
        self._recording.close(self._clock(), stopped=self._stopping)

    def turn(self) -> None:
        """Wait for something to happen, at most until the next tick, and see to it."""
        poller = zmq.Poller()
        for watched in (self._wires.workers, self._wires.gateways, self._planning.fileno()):
            poller.register(watched, zmq.POLLIN)
        poller.poll(max(0, round(1000 * (self._next_tick_s - self._clock()))))
        heard = self._wires.heard()
        asked: list[gate.Ask] = []
        happenings: list[Happening] = []
        for message in heard:
            if isinstance(message, gate.Ask) and message.about in _READS:
                asked.append(message)
            else:
                happenings.append(message)
        answer = self._planning.answer()
        match answer:
            case Made(decision=decision):
                self._questions.keep(answer, self._controller.approval)
                self._hopeless = not self._controller.begins(decision.plan)
                happenings.append(
                    Planned(
                        decision=decision,
                        early=answer.early,
                        made_s=answer.now_s,
                        least_per_hour=answer.least_per_hour,
                    )
                )
            case Explained():
                self._questions.explained(answer)
            case None:
                pass
        for message in heard:
            if isinstance(message, Hello):
                self._providing.said_hello(message.worker, message.incarnation)
            elif isinstance(message, Heartbeat):
                self._drift.hear(message, self._clock())
        happenings += self._providing.happened(self._journal.truth.workers)
        for teller in (self._wires, self._providing, self._planning, self._recording):
            for line in teller.news():
                self._tell(line)
        now_s = self._clock()
        if now_s >= self._next_epoch_s:
            self._next_epoch_s += self._config.fleet.epoch_s
            self._epoch_begins = True
            happenings.append(EpochOver())
            self._past.keep(self._controller.snapshot().history, now_s)
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + self._config.tick_s
            happenings.append(Ticked())
        self._hopeless &= all(isinstance(happening, _HOPELESS) for happening in happenings)
        if happenings or self._again:
            self._journal.demand_hold()  # whoever was superseded renews no lease
            self._decide(happenings, now_s)
        self._look_for_room(now_s)
        for question in asked:
            told = self._questions.answer(question, self._controller.approval)
            if told is not None:
                self._wires.reply(told)
        self._ask(now_s)

    def _decide(self, happenings: Sequence[Happening], now_s: float) -> None:
        """All at once; one by one where the disk has no room for what is to be written. Heartbeats write nothing."""
        beats = [happening for happening in happenings if isinstance(happening, Heartbeat)]
        echoes = [self._controller.beat(beat, now_s) for beat in beats]
        self._recording.heard(beats, echoes, now_s)
        self._say(echoes)
        happenings = [happening for happening in happenings if not isinstance(happening, Heartbeat)]
        happenings, self._again = [*self._again, *happenings], []
        if not happenings or self._decided(happenings, now_s):
            return
        self._again = one_by_one(happenings, lambda happening: self._decided([happening], now_s))

    def _decided(self, happenings: Sequence[Happening], now_s: float) -> bool:
        trial = self._controller.copy()
        steps = [trial.handle(happening, now_s) for happening in happenings]
        if not self._write(steps):
            return False
        self._controller = trial
        self._recording.heard(happenings, steps, now_s)
        self._say(steps)
        for happening, step in zip(happenings, steps, strict=True):
            for line in self._telling.heard(happening, step):
                self._tell(line)
        return True

    def _write(self, steps: Sequence[Step]) -> bool:
        records = [record for step in steps for record in step.records]
        if not records:
            return True
        try:
            self._journal.append(records)
        except JournalFullError as error:
            if not self.is_full:
                self._tell(f"{error}; sessions go on, and no new ones are taken")
            self.is_full = True
            return False
        self._has_room()
        return True

    def _look_for_room(self, now_s: float) -> None:
        """Where creates are refused there may be nothing to be written, and nobody would find out."""
        if not self.is_full or now_s < self._next_look_s:
            return
        self._next_look_s = now_s + _LOOK_S
        with contextlib.suppress(JournalFullError):
            self._journal.append([])
            self._has_room()

    def _has_room(self) -> None:
        if self.is_full:
            self._tell("the journal has room again")
        self.is_full = False

    def _say(self, steps: Sequence[Step]) -> None:
        truth = self._journal.truth
        for step in steps:
            for word in step.words:
                self._wires.say(word, truth)
            for reply in step.replies:
                self._wires.reply(self._completed(reply) if isinstance(reply, gate.Status) else reply)
            for switch in step.switches:
                self._providing.switch(switch)

    def _completed(self, status: gate.Status) -> gate.Status:
        """With what the loop alone knows."""
        given_up = float(self._planning.given_up)
        counts = {**status.counts, **self._drift.counts(), "epochal_plans_given_up_total": given_up}
        counts["epochal_journal_full"] = float(self.is_full)
        counts["epochal_controller_messages_dropped_total"] = float(self._wires.dropped)
        return msgspec.structs.replace(status, accepts=status.accepts and not self.is_full, counts=counts)

    def _ask(self, now_s: float) -> None:
        """A plan for the epoch that begins, or an early one for those who wait."""
        if not (self._planning.is_free and self._controller.ready):
            return
        if self._epoch_begins:
            self._epoch_begins = False
            seconds, early = self._config.planning_share * self._config.fleet.epoch_s, False
        elif self._places and now_s >= self._next_plan_s and not self._hopeless and self._controller.waiting:
            seconds, early = self._config.early_s, True
        else:
            wanted = self._questions.wanted()
            if wanted is not None:
                self._planning.explain(*wanted, seconds=self._config.explain_s)
            return
        self._next_plan_s = now_s + self._config.spacing_s
        self._planning.ask(self._controller.snapshot(), now_s, seconds=seconds, early=early)
