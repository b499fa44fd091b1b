"""Controllers, workers, a gateway with its clients and the network between them: one thread, virtual time, one seed.

Decides what is delivered and what goes on in each tenth of a second; must never decide what goes wrong, nor repair it.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec.structs import replace as with_fields

from bench.world.account import Account
from bench.world.clients import POISON, Clients
from bench.world.control import Control, Luck, Outside
from bench.world.fleet import SETTINGS
from bench.world.invariants import check, nothing_is_said_early
from bench.world.operator import Operator
from bench.world.truthful import Truthful
from bench.world.wires import Wire
from bench.world.worker import SimulatedWorker
from runtime.chunk_models.chunk_model import Chunk
from runtime.controller.controller import Available, Controller, Exited, Happening, Ticked
from runtime.controller.step import Step, Switch
from runtime.controller.suspects import FALLS_MAX
from runtime.gateway import messages as gate
from runtime.gateway import workers as gate_workers
from runtime.gateway.workers import ToOwner
from runtime.journal.journal import SupersededError
from runtime.journal.records import Ended, Left, Record, to_bytes
from runtime.journal.truth import Truth
from runtime.transfer.attempt import OpenReceiving, OpenSending
from runtime.transfer.messages import AttemptId
from runtime.worker.process import messages as wire
from runtime.worker.process.carried import Carried
from runtime.worker.process.inbox import Message
from runtime.worker.process.messages import FromController

TICK_S = 0.1
LOSS = 0.04  # chance of each message that it is lost, and that it comes twice
_STOPPED = "stopped"  # as it was asked to


class Links:
    """Of one incarnation of a worker."""

    def __init__(self, world: World) -> None:
        self.down, self.up = world.wire(LOSS), world.wire(LOSS)  # controller
        self.steer, self.chunks = world.wire(LOSS), world.wire()  # gateway

    @property
    def all(self) -> tuple[Wire, ...]:
        return self.down, self.up, self.steer, self.chunks


class World:
    """`step` lets a tenth of a second go by. `path` is for the journal."""

    def __init__(self, seed: int, path: Path, mode: gate.Mode = "execute") -> None:
        self.chance, self.path = random.Random(seed), path
        self.rough = True
        self.settings = replace(SETTINGS, mode=mode)
        self.operator = Operator(self.chance) if mode == "approve" else None
        self.now_s = 0.0
        self.history = hashlib.sha256()
        self.reached: Counter[str] = Counter()
        self.workers: dict[str, SimulatedWorker] = {}
        self.links: dict[str, Links] = {}
        self.starting: dict[str, float] = {}  # name -> when its process will be there
        self.hanging: dict[str, tuple[float, bool]] = {}  # name -> until when, and whether it goes on then
        self.exits: list[Exited | Available] = []  # that no controller has been told
        self.repairs: dict[str, float] = {}
        self._incarnation = 0
        self.truthful = Truthful()
        self._ended = set[str]()  # sessions that were written down
        self._bodies: set[tuple[str, int, int, bytes]] = set()
        self.account = Account()
        self.clients = Clients(self.chance, self._is_proved, self.reached)
        self.from_gateway, self.to_gateway = self.wire(), self.wire()
        self._asked = 1 << 32  # questions, apart from those of the operator who approves
        self.disk_full = False
        self.takes = 0.15  # chance that a client shows a chunk
        self.undelivered = 0.002  # chance that a chunk cannot be encoded
        self.deadly: Callable[[str], bool] = lambda _: True  # whose poison takes workers down
        self.poisoned: Counter[str] = Counter()  # workers that each session has taken down
        self._poison = dict[str, str]()  # by worker: whom it computes, and ends with
        self.luck = Luck(late=0.1, lost=0.05, restless=0.5)
        self.wrote_now = self.told_now = False
        self._is_older = False
        self.older: list[Control] = []  # superseded, and do not know yet
        self.control = self._new_control()

    def wire(self, loss: float = 0.0) -> Wire:
        """What is said once, to a gateway, is lost only with its connection."""
        return Wire(self.chance, loss, LOSS, self.history.update)

    # Controllers.

    def _new_control(self) -> Control:
        self.account.begin(self.now_s)
        outside = Outside(
            to_worker=self._to_worker,
            to_gateway=self._to_gateway,
            switch=self._switch,
            wrote=self._wrote,
            begun=self.begun,
            took=self.took,
            full=lambda: self.disk_full,
            reached=lambda what: self.reached.update((what,)),
        )
        return Control(self.path, self.settings, outside, self.chance, self.luck, self.now_s, self._is_gone)

    def restart_controller(self) -> None:
        """It was killed; another goes on from the journal, over new connections."""
        self.control.close()
        self._begin_control()
        self.reached["controller killed"] += 1

    def take_over(self) -> None:
        """Another controller begins right after the one before has looked whether the journal is its own."""
        before, heard = self.control, self._heard()
        before.journal.demand_hold()
        self._begin_control()
        self.reached["two controllers"] += 1
        self.older.append(before)
        self._turn_older(before, heard, raced=True)

    def _begin_control(self) -> None:
        self.exits.clear()
        self.control = self._new_control()
        for links in self.links.values():
            links.down.reconnect()
            links.up.reconnect()
        self.reconnect_gateway()

    def _turn_older(self, control: Control, heard: list[Happening], *, raced: bool = False) -> None:
        """It writes nothing any more, and says nothing from the moment when it has found that out."""
        self._is_older = True
        try:
            control.turn([*heard, Ticked()], self.now_s, raced=raced)
            assert raced, "a controller goes on that was superseded"
        except SupersededError:
            control.close()
            self.older.remove(control)
            self.reached["superseded"] += 1
        self._is_older = False

    def reconnect_gateway(self) -> None:
        """Its connection to the controller has ended and begun anew."""
        self.from_gateway.reconnect()
        self.to_gateway.reconnect()
        self.clients.desk.reconnected()

    def maintain(self, gpu_id: str, *, withhold: bool) -> None:
        """An operator drains a GPU, or gives it back."""
        self._asked += 1
        about: gate.About = "drain" if withhold else "give back"
        self.from_gateway.put(gate.encoded(gate.Ask(question=self._asked, about=about, gpu_id=gpu_id)))
        self.reached[about] += 1

    def restart_gateway(self) -> None:
        """It was killed; its clients come back to another one."""
        for wire_ in (self.from_gateway, self.to_gateway, *(links.chunks for links in self.links.values())):
            wire_.cut()
        for links in self.links.values():
            links.steer.cut()
        self.clients.begin_anew()

    def _is_gone(self, name: str, incarnation: int) -> bool:
        worker = self.workers.get(name)
        return worker is None or worker.incarnation != incarnation

    def _to_worker(self, name: str, message: FromController, truth: Truth) -> None:
        nothing_is_said_early(name, message, truth)
        worker = self.workers.get(name)
        if worker is not None and worker.incarnation == message.incarnation:
            self.links[name].down.put(wire.encoded(message))

    def _to_gateway(self, message: gate.ToGateway, truth: Truth) -> None:
        if isinstance(message, gate.Created):
            written = message.session_id in truth.sessions or message.session_id in self._ended
            assert written, f"{message.session_id} is promised, and not written down"
        if isinstance(message, gate.Ended):
            self.clients.why_ended.setdefault(message.session_id, message.reason)
        self.to_gateway.put(gate.encoded(message))

    def _wrote(self, records: Sequence[Record]) -> None:
        assert not self._is_older, "a controller writes that was superseded"
        self.wrote_now = True
        for record in records:
            if isinstance(record, Ended):
                self._ended.add(record.session_id)
            self.history.update(to_bytes(record))
            self.reached[type(record).__name__] += 1
            self.reached["fallen"] += isinstance(record, Left) and record.reason != _STOPPED
            self.account.wrote(record)

    def begun(self, controller: Controller, step: Step) -> None:  # noqa: ARG002 - whoever records needs it
        """A controller begins."""
        if self.operator is not None:
            self.operator.begun()
        self._stepped(step)

    def took(self, controller: Controller, heard: Sequence[Happening], steps: Sequence[Step]) -> None:
        """What it has heard has taken effect, in these steps."""
        if not self._is_older:  # nobody goes by its picture any more
            for step in steps:
                self._stepped(step)
            if self.operator is not None:
                self.operator.took(controller, heard, steps)

    def _stepped(self, step: Step) -> None:
        self.told_now = self.told_now or bool(step.events)
        for event in step.events:
            kind = getattr(event, "kind", None)
            if kind is not None:
                self.reached[kind] += 1
            self.account.told(event, self.now_s)

    # Processes.

    def _switch(self, switch: Switch) -> None:
        name = switch.worker
        if switch.at_once:  # some are killed; others are out of reach, and may come back
            if name in self.hanging and self.chance.random() < 0.5:
                self.gone(name, "killed for its silence")
            return
        if not switch.on:
            self._stop(name)
            return
        if name in self.hanging:  # what hangs there is in the way
            self.gone(name, "replaced")
        if name not in self.workers:
            self.starting.setdefault(name, self.now_s + self.chance.uniform(0.3, 2.0))

    def _stop(self, name: str) -> None:
        self.starting.pop(name, None)
        worker = self.workers.get(name)
        if worker is not None:
            assert not worker.table.records, f"{name} is stopped and holds {sorted(worker.table.records)}"
            self.gone(name, _STOPPED)

    def gone(self, name: str, reason: str) -> None:
        """The process has ended; the provider sees that at once, and can start it again some time later."""
        worker = self.workers.pop(name)
        del self.links[name]
        self.hanging.pop(name, None)
        self.repairs[name] = self.now_s + 1.0
        self.reached[reason] += 1
        incarnation = worker.incarnation if name in self.control.journal.truth.workers else None
        self.exits.append(Exited(worker=name, incarnation=incarnation, reason=reason))

    def _power(self) -> None:
        for name in [name for name, at_s in self.starting.items() if at_s <= self.now_s]:
            del self.starting[name]
            self._incarnation += 1
            self.workers[name] = SimulatedWorker(
                name, self._incarnation, lambda: self.now_s, self.chance, self._computed
            )
            self.links[name] = Links(self)
        for name in [name for name, at_s in self.repairs.items() if at_s <= self.now_s]:
            del self.repairs[name]
            self.exits.append(Available(worker=name))
        for name, (until_s, goes_on) in list(self.hanging.items()):
            if until_s > self.now_s:
                continue
            if not goes_on:
                self.gone(name, "hung and killed")
                continue
            del self.hanging[name]
            self.workers[name].hangs = False
            self.reached["zombie" if name not in self.control.journal.truth.workers else "went on"] += 1

    # Time.

    def step(self) -> None:
        self.account.goes_by(TICK_S, self.control.controller.snapshot().gpus.values())
        self.now_s += TICK_S
        self.wrote_now = self.told_now = False
        self._power()
        self.clients.step(self.now_s, takes=self.takes)
        self._gateway()
        for name in list(self.workers):
            self._work(self.workers[name], self.links[name])
        self._transfers()
        self._controllers()
        check(self)

    def _gateway(self) -> None:
        desk = self.clients.desk
        for frame in self.to_gateway.take():
            answer = gate.to_gateway(frame)
            if isinstance(answer, gate.Answer) and answer.question < self._asked >> 1:
                self.reached["not ruled" if answer.refused else "ruled"] += 1
            desk.heard(answer, self.now_s)
        for name, links in self.links.items() if desk.is_complete else ():
            for frame in links.chunks.take():
                message = gate_workers.from_worker(f"{name}/{self.workers[name].incarnation}".encode(), frame)
                assert message is not None, "a worker says who it is"
                self.reached[f"chunk {desk.heard_from_worker(message, self.now_s)}"] += 1
        asked = None if self.operator is None else self.operator.says(desk.status)
        if asked is not None:
            self.from_gateway.put(gate.encoded(asked))
        for said in desk.due(self.now_s):
            if not isinstance(said, ToOwner):
                self.from_gateway.put(gate.encoded(said))
                continue
            worker = self.workers.get(said.address.worker)
            if worker is not None and worker.incarnation == said.address.incarnation:
                self.links[worker.name].steer.put(said.frame)

    def _work(self, worker: SimulatedWorker, links: Links) -> None:
        if worker.hangs:
            return
        for line, decoded in ((links.down, wire.from_controller), (links.steer, wire.from_gateway)):
            frames = line.take()
            heard: list[Message] = [message for frame in frames if (message := decoded([frame])) is not None]
            assert len(heard) == len(frames), "what is said can be read"
            line.put_back(frames[len(frames) - len(worker.hear(heard)) :])
        if self.rough and self.chance.random() < 0.2:
            return  # it is busy
        worker.turn()
        if worker.name in self._poison:
            self._taken_down(worker.name)
            return
        for copy in list(worker.copies.under_way):
            if not self.rough or self.chance.random() < 0.6:
                copy.finish()
                worker.copies.under_way.remove(copy)
        worker.beat()
        for frame in worker.frames("controller"):
            links.up.put(frame)
        for frame in worker.frames("gateway"):
            links.chunks.put(frame)

    def _taken_down(self, name: str) -> None:
        """L4. Nothing of what it did in this turn is heard of."""
        session_id = self._poison.pop(name)
        self.gone(name, "poisoned")
        self.poisoned[session_id] += 1
        downed = self.poisoned[session_id]
        assert downed <= FALLS_MAX, f"L4: {session_id} has taken {downed} workers down"

    def _transfers(self) -> None:
        for attempt in self.attempts():
            sides = [worker for worker in self.workers.values() if attempt in worker.lanes.open and not worker.hangs]
            sending = [w for w in sides if isinstance(w.lanes.open[attempt].opened, OpenSending)]
            receiving = [w for w in sides if isinstance(w.lanes.open[attempt].opened, OpenReceiving)]
            if not sending or not receiving or not sending[0].lanes.open[attempt].rounds:
                continue
            if not self.rough or self.chance.random() < 0.6:
                flip = self.rough and self.chance.random() < LOSS
                self.reached["checksum"] += flip
                sending[0].lanes.send_to(receiving[0].lanes, attempt, flip=flip)

    def attempts(self) -> list[AttemptId]:
        """Whose lanes are open."""
        return sorted({attempt for worker in self.workers.values() for attempt in worker.lanes.open})

    def _controllers(self) -> None:
        heard = self._heard()
        for control in list(self.older):
            if self.chance.random() < 0.5:  # otherwise it is slow
                ours, heard = heard[::2], heard[1::2]  # it still has some of the connections
                self._turn_older(control, ours)
        exits, self.exits = self.exits, []
        self.control.turn([*heard, *exits, Ticked()], self.now_s)
        self.reached["disk full"] += self.control.is_full

    def _heard(self) -> list[Happening]:
        """All that has come to a controller."""
        heard: list[Happening] = []
        for links in self.links.values():
            for frame in links.up.take():
                message = wire.from_worker(frame)
                if isinstance(message, wire.Said):
                    self.reached[type(message.report).__name__] += 1
                heard.append(message)
        heard += [gate.from_gateway(frame) for frame in self.from_gateway.take()]
        return heard

    # Chunks.

    def _computed(self, worker: SimulatedWorker, chunk: Chunk, carried: Carried, ownership: int) -> bool:
        owned = self.control.journal.truth.sessions.get(chunk.session)
        stranger = owned is not None and owned.ownership == ownership and owned.worker not in (None, worker.name)
        assert not stranger, f"{chunk.session} is computed by {worker.name}, which does not own it"
        assert worker.is_leased, f"{worker.name} computes without a lease"
        if carried.head.prompt.startswith(POISON) and self.deadly(chunk.session):
            self._poison[worker.name] = chunk.session
        assert chunk.number < carried.up_to, f"{chunk.session}: chunk {chunk.number} is computed without credit"
        self.truthful.check(with_fields(carried.head, chunk_number=chunk.number), chunk)
        self._bodies.add((chunk.session, chunk.lineage, chunk.number, chunk.frames.tobytes()))
        can = self.chance.random() >= self.undelivered
        self.reached["undelivered"] += not can
        return can

    def _is_proved(self, session_id: str, lineage: int, number: int, body: bytes) -> bool:
        return (session_id, lineage, number, body) in self._bodies

    def heal(self) -> None:
        """From now on nothing goes wrong, and all that is under way arrives."""
        self.rough = False
        self.deadly = lambda _: False
        if self.operator is not None:
            self.operator.always = True
        self.undelivered = 0.0
        self.disk_full = False
        for gpu_id in self.control.controller.truth.withheld:
            self.maintain(gpu_id, withhold=False)
        self.luck = self.control.luck = Luck()
        for links in self.links.values():
            for each in links.all:
                each.rough = False
        self.from_gateway.rough = self.to_gateway.rough = False
        for name in list(self.hanging):
            self.gone(name, "hung and killed")
        for worker in self.workers.values():
            worker.copies.busy_chance = 0.0
        for user in self.clients.users:
            user.away_s = user.slow_s = 0.0

    def close(self) -> None:
        for control in (*self.older, self.control):
            control.close()
