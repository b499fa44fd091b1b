"""A controller, workers, a gateway and the network between them in one thread, with a seed for all that goes wrong.

Decides which message is delivered, lost or doubled and who dies when; must never repair anything itself. Workers have
the product's tables of sessions; the controller plans with the product's planner; the journal is a list of records.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field

from runtime.controller.controller import (
    Available,
    Controller,
    ControllerSettings,
    EpochOver,
    Exited,
    Happening,
    Planned,
    Ticked,
)
from runtime.controller.step import Step, Word
from runtime.gateway import messages as gate
from runtime.journal.records import Began, Record
from runtime.journal.rules import after
from runtime.journal.truth import Truth
from runtime.state.ranges import GRANULE_BYTES
from runtime.transfer.messages import AttemptId, Sent
from runtime.worker.books import SERVES
from runtime.worker.events import StateLost
from runtime.worker.events import Ticked as WorkerTicked
from runtime.worker.messages import Command, Frozen, Report, Text
from runtime.worker.process.messages import (
    PROTOCOL,
    AskInventory,
    FromWorker,
    Goodbye,
    Heartbeat,
    Held,
    Hello,
    Inventory,
    Memory,
    ProfileRoom,
    Renew,
    Said,
)
from scheduler.cluster import GpuId, SessionId
from scheduler.cluster_checks import validate
from scheduler.plan import Move, Plan
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings
from scheduler.policy import Budget
from tests.builders import a_fleet
from tests.runtime.worker.toy_controller import move_round
from tests.runtime.worker.toy_worker import ToyWorker, World
from tests.runtime.worker.toy_worker import Truth as Content

GRANULES = 2  # of a state: a worker holds seven, and five in its host memory
FLEET = a_fleet(
    {
        "epoch_s": 5.0,
        "gpu_types.h100": {"memory_gib": 7.0, "weights_gib": 0.0, "price_per_hour": 3.6, "startup_s": 3.0},
        "pools": [{"gpu_type": "h100", "nodes": 4, "gpus_per_node": 1, "gpus_min": 1, "host_memory_gib": 5.0}],
        "profiles": {"a": {"chunk_s": 1.0, "state_gib": 1.0, "latency_ms": {"h100": [60.0, 120.0, 180.0, 240.0]}}},
    }
)
TICK_S = 0.1
TOKEN = bytes(32)


@dataclass
class Wires:
    """Messages between two ends, in order; some are lost, and some come twice."""

    chance: random.Random
    loss: float
    frames: deque[object] = field(default_factory=deque)

    def put(self, message: object) -> None:
        if self.chance.random() >= self.loss:
            self.frames.append(message)
            if self.chance.random() < self.loss:
                self.frames.append(message)

    def take(self) -> list[object]:
        """A random share of what is there."""
        count = self.chance.randint(0, len(self.frames)) if self.loss else len(self.frames)
        return [self.frames.popleft() for _ in range(count)]


class SimulatedWorld(World):
    """`step` lets a tenth of a second go by."""

    def __init__(self, seed: int, *, loss: float = 0.05, mode: gate.Mode = "execute") -> None:
        super().__init__()
        self.chance, self.loss = random.Random(seed), loss  # noqa: S311
        self.workers: dict[str, ToyWorker] = {}
        self.starting: dict[str, float] = {}  # name -> when it will be there
        self.repairs: dict[str, float] = {}
        self.incarnation = 0
        self.down: dict[str, Wires] = {}
        self.up: dict[str, Wires] = {}
        self.from_gateway, self.to_gateway = self._wires(), self._wires()
        self.wanted: dict[str, bool] = {}  # what clients have been promised, and whether they want chunks
        self.creating: set[str] = set()
        self.ending: set[str] = set()
        self.reached: Counter[str] = Counter()
        self.planner = Planner(FLEET, PlannerSettings())
        self.records: list[Record] = [Began(controller_epoch=1)]
        self.version, self.next_epoch_s, self.next_early_s = 0, 0.0, 0.0
        self.disk_full, self.again = False, list[Happening]()  # what could not be written
        self.settings = ControllerSettings(mode=mode)
        self.proposal: int | None = None  # as the gateway has heard
        self.questions = 0
        self.proposed: dict[int, Plan] = {}  # plans that an operator could see
        self.approved = set[int]()  # versions that an operator has said yes to
        self.controller, begun = Controller.begin(FLEET, after(Truth(), self.records), 0.0, self.settings)
        self._carry_out(begun)

    def _wires(self) -> Wires:
        return Wires(self.chance, self.loss)

    # ------------------------------------------------------------------ what goes wrong, and what clients do

    def create(self) -> None:
        name = f"s{len(self.truth)}"
        self.truth[SessionId(name)] = Content(GRANULES, bytearray(GRANULES))
        self.creating.add(name)

    def toggle(self) -> None:
        if self.wanted:
            name = self.chance.choice(sorted(self.wanted))
            self.wanted[name] = not self.wanted[name]

    def end(self) -> None:
        if self.wanted:
            self.ending.add(self.chance.choice(sorted(self.wanted)))

    def kill(self) -> None:
        """The provider sees it at once, and can start it again some time later."""
        if self.workers:
            self._gone(self.chance.choice(sorted(self.workers)), "killed")

    def lose(self) -> None:
        """A device fails for one session."""
        there = [(w, name) for w in self.workers.values() for name in w.table.records]
        if there:
            worker, session_id = self.chance.choice(there)
            worker.now(StateLost(session_id=session_id, reason="the device has failed"))
            self.reached["lose"] += 1

    def rule(self, *, always: bool = False) -> None:
        """An operator approves or rejects what is proposed, or what was proposed before."""
        if self.proposal is None or not (always or self.chance.random() < 0.2):
            return
        version = self.proposal if always else self.chance.choice([self.proposal, *self.proposed])
        about: gate.About = "approve" if always or self.chance.random() < 0.7 else "reject"
        if about == "approve":
            self.approved.add(version)
        self.questions += 1
        self.from_gateway.put(gate.Ask(question=self.questions, about=about, version=version))

    def fail_lanes(self) -> None:
        for attempt in self._lanes():
            for worker in self.workers.values():
                if attempt in worker.lanes and self.chance.random() < 0.7:
                    worker.end_lane(attempt, "peer lost")
                    self.reached["lane fails"] += 1

    def restart(self) -> None:
        """Another controller goes on from the journal."""
        truth = after(Truth(), self.records)
        began = Began(controller_epoch=truth.controller_epoch + 1)
        self.records.append(began)
        self.version = 0
        self.controller, begun = Controller.begin(FLEET, after(truth, [began]), self.now_s, self.settings)
        self._carry_out(begun)
        self.reached["restart"] += 1

    def _gone(self, name: str, reason: str) -> None:
        worker = self.workers.pop(name)
        self.down.pop(name), self.up.pop(name)
        self.repairs[name] = self.now_s + 2.0
        self.reached[reason] += 1
        self._happens(Exited(worker=name, incarnation=worker.incarnation, reason=reason))

    # ------------------------------------------------------------------ time

    def step(self) -> None:
        self.now_s += TICK_S
        self._power()
        self._clients()
        self._network()
        self._work()
        if not self.disk_full:
            again, self.again = self.again, []
            while again:
                self._happens(again.pop(0))
        self._happens(Ticked())
        self._plan()
        self.check()

    def _power(self) -> None:
        for name in [name for name, at_s in self.starting.items() if at_s <= self.now_s]:
            del self.starting[name]
            self.incarnation += 1
            self.workers[name] = ToyWorker(self, name, self.incarnation)
            self.down[name], self.up[name] = self._wires(), self._wires()
            self.up[name].put(self._hello(self.workers[name]))
        for name in [name for name, at_s in self.repairs.items() if at_s <= self.now_s]:
            del self.repairs[name]
            self._happens(Available(worker=name))

    def _clients(self) -> None:
        """What is wanted is said until it is answered."""
        for name in sorted(self.creating):
            text = Text(profile="a", seed=1, prompt="red circle")
            self.from_gateway.put(gate.Create(session_id=name, tenant="", text=text, token_sha256=TOKEN))
        for name, active in sorted(self.wanted.items()):
            if self.chance.random() < 0.3:
                self.from_gateway.put(gate.Want(session_id=name, active=active))
        for name in sorted(self.ending):
            self.from_gateway.put(gate.End(session_id=name))

    def _network(self) -> None:
        for name in list(self.workers):
            for frame in self.down[name].take():
                self._worker_hears(name, frame)
        for name in list(self.workers):
            for frame in self.up[name].take() if name in self.up else ():
                self._happens(frame)  # type: ignore[arg-type]
        for frame in self.to_gateway.take():
            self._gateway_hears(frame)
        for frame in self.from_gateway.take():
            self._happens(frame)  # type: ignore[arg-type]

    def _worker_hears(self, name: str, frame: object) -> None:
        worker = self.workers[name]
        match frame:
            case Command():
                worker.told(frame)
            case AskInventory():
                if worker.table.hears(frame.controller_epoch, frame.incarnation):
                    self.up[name].put(self._inventory(worker, frame.question))
            case Renew():
                worker.table.hears(frame.controller_epoch, frame.incarnation)

    def _gateway_hears(self, frame: object) -> None:
        match frame:
            case gate.Created() if frame.session_id in self.creating:
                self.creating.discard(frame.session_id)
                self.wanted[frame.session_id] = True
            case gate.Refused():
                self.creating.discard(frame.session_id)
            case gate.Ended():
                self.wanted.pop(frame.session_id, None)
                self.ending.discard(frame.session_id)
            case gate.Status():
                self.proposal = frame.proposal
            case gate.Answer():
                self.reached["refused" if frame.refused else "ruled"] += 1
            case gate.AwaitTaken():
                taken = gate.Taken(session_id=frame.session_id, lineage=frame.lineage, up_to=frame.up_to)
                self.from_gateway.put(taken)
            case _:
                pass

    def _work(self) -> None:
        """Workers compute, copy and transfer, some of them now."""
        for worker in list(self.workers.values()):
            worker.now(WorkerTicked())
            if self.chance.random() < 0.6:
                for session_id in worker.begin_round():
                    owned = self.controller.truth.sessions.get(session_id)
                    assert owned is None or owned.worker == worker.name, f"{session_id} is computed by a stranger"
            for session_id in [s for s in worker.computing if self.chance.random() < 0.5]:
                worker.end_chunk(session_id)
            while worker.copies and self.chance.random() < 0.7:
                worker.end_copy("the device is busy" if self.chance.random() < self.loss else None)
            for _ in range(self.chance.randint(0, len(worker.events)) if self.loss else len(worker.events)):
                worker.take_event()
        for attempt in self._lanes():
            if self.chance.random() < 0.6:
                move_round(self.workers.values(), attempt, flip=self.chance.random() < self.loss / 2)
        told, self.to_controller[:] = self.to_controller[:], []
        for name, incarnation, report in told:
            worker_now = self.workers.get(name)
            if worker_now is not None and worker_now.incarnation == incarnation:
                if isinstance(report, Sent):  # the table does not know chunk numbers; nothing is delivered here
                    frozen = Frozen(session_id=report.session_id, attempt=report.attempt, chunk_number=1)
                    self.up[name].put(self._said(worker_now, frozen))
                self.up[name].put(self._said(worker_now, report))
        for worker in self.workers.values():
            self.up[worker.name].put(self._heartbeat(worker))

    def _plan(self) -> None:
        controller = self.controller
        if not controller.ready:
            return
        if self.now_s >= self.next_epoch_s:
            self.next_epoch_s = self.now_s + FLEET.epoch_s
            self._happens(EpochOver())
            budget = Budget(work=20)
        elif controller.waiting and self.now_s >= self.next_early_s:
            budget = Budget(work=5, early=True)
        else:
            return
        self.next_early_s = self.now_s + 0.5
        decision = self.planner.step(controller.snapshot(), self.now_s, budget)
        for move in decision.plan.moves:
            self.reached[move.kind] += 1
        self._happens(Planned(decision=decision, early=budget.early, made_s=self.now_s))
        if self.controller.approval.proposal == decision.plan.version:
            self.proposed.setdefault(decision.plan.version, decision.plan)

    # ------------------------------------------------------------------ the controller's shell

    def _happens(self, happening: Happening) -> None:
        """Decided on a copy, written, and only then said; what could not be written comes first once there is room."""
        if self.again and isinstance(happening, Exited | Goodbye | Available):
            self.again.append(happening)
            return
        trial = self.controller.copy()
        before = {flight.move for flight in trial._execution.flights}
        step = trial.handle(happening, self.now_s)
        if self.settings.mode == "approve":
            self._check_approved([f.move for f in trial._execution.flights if f.move not in before], step)
        if step.records and self.disk_full:
            self.reached["disk full"] += 1
            if isinstance(happening, Exited | Goodbye | Available | Planned | EpochOver):
                self.again.append(happening)  # nobody else repeats it
            return
        self.controller = trial
        self._carry_out(step)

    def _carry_out(self, step: Step) -> None:
        self.records += step.records
        self.reached.update(type(record).__name__ for record in step.records)
        for word in step.words:
            self._send(word)
        for reply in step.replies:
            self.to_gateway.put(reply)
        for switch in step.switches:
            if switch.on and switch.worker not in self.workers:
                self.starting[switch.worker] = self.now_s + self.chance.uniform(0.5, 4.0)
            elif not switch.on:
                self._stop(switch.worker)

    def _stop(self, name: str) -> None:
        self.starting.pop(name, None)
        worker = self.workers.get(name)
        if worker is None:
            return
        assert not worker.table.records, f"{name} is stopped and holds {sorted(worker.table.records)}"
        self.reached["stopped"] += 1
        del self.workers[name], self.down[name], self.up[name]
        self._happens(Goodbye(worker=name, incarnation=worker.incarnation, reason="stopped"))

    def _send(self, word: Word) -> None:
        worker = self.workers.get(word.worker)
        if worker is None:
            return
        if isinstance(word.body, Renew | AskInventory):
            if word.incarnation == worker.incarnation:
                self.down[word.worker].put(word.body)
            return
        self.version += 1
        command = Command(
            controller_epoch=self.controller.truth.controller_epoch,
            incarnation=self.controller.truth.workers.get(word.worker, 0),
            version=self.version,
            body=word.body,
        )
        self.down[word.worker].put(command)

    # ------------------------------------------------------------------ what workers say

    def _hello(self, worker: ToyWorker) -> Hello:
        room = ProfileRoom(name="a", state_bytes=GRANULES * GRANULE_BYTES, chunk_s=1.0, sessions_max=7)
        return Hello(
            protocol=PROTOCOL,
            worker=worker.name,
            incarnation=worker.incarnation,
            revision="r",
            profiles=(room,),
            device_bytes=worker.device.total_bytes,
            host_bytes=worker.host.total_bytes,
            coalesce_max=8,
            ways=("tcp",),
            sent_s=self.now_s,
        )

    def _heartbeat(self, worker: ToyWorker) -> FromWorker:
        return Heartbeat(
            worker=worker.name,
            incarnation=worker.incarnation,
            controller_epoch=worker.table.controller_epoch,
            sent_s=self.now_s,
            turn=1,
            turn_age_s=0.0,
            leased=True,
            dropped=0,
            chunks=(),
        )

    def _said(self, worker: ToyWorker, report: Report) -> FromWorker:
        self.reached[type(report).__name__] += 1
        return Said(
            worker=worker.name,
            incarnation=worker.incarnation,
            controller_epoch=worker.table.controller_epoch,
            report=report,
        )

    def _inventory(self, worker: ToyWorker, question: int) -> Inventory:
        attempts = {part.session_id: part.attempt for part in worker.parts()}
        return Inventory(
            question=question,
            controller_epoch=worker.table.controller_epoch,
            hello=self._hello(worker),
            leased=True,
            lanes=worker.table.lanes,
            device=Memory.of(worker.device.room),
            host=Memory.of(worker.host.room),
            sessions=tuple(
                Held(
                    session_id=record.session_id,
                    state=record.state,
                    state_bytes=record.state_bytes,
                    ownership=record.ownership,
                    active=record.active,
                    attempt=attempts.get(record.session_id),
                    profile="a",
                )
                for record in worker.table.records.values()
            ),
        )

    def _lanes(self) -> list[AttemptId]:
        return sorted({attempt for worker in self.workers.values() for attempt in worker.lanes})

    # ------------------------------------------------------------------ what must hold

    def _check_approved(self, begun: list[Move], step: Step) -> None:
        """Who is served moves, and GPUs are switched, only where an operator has said so."""
        plans = [self.proposed[version] for version in self.approved if version in self.proposed]
        for move in begun:
            enters, leaves_a_draining_gpu = move.kind in ("place", "resume"), move.reason == "drain"
            assert enters or leaves_a_draining_gpu or any(move in plan.moves for plan in plans), f"unasked: {move}"
        for switch in step.switches:
            aims = {plan.gpus[GpuId(switch.worker)] for plan in plans}
            assert aims & ({"start"} if switch.on else {"stop", "drain"}), f"unasked: {switch}"

    def check(self) -> None:
        truth = self.controller.truth
        assert after(Truth(), self.records) == truth, "the journal does not lead to where the controller is"
        assert set(self.wanted) - self.ending <= set(truth.sessions), "somebody was promised a session that is gone"
        for worker in self.workers.values():
            for session_id, record in worker.table.records.items():
                owned = truth.sessions.get(session_id)
                if record.state in SERVES and owned is not None and owned.worker == worker.name:
                    assert record.ownership <= owned.ownership
                if record.state in SERVES and owned is not None and owned.worker not in (None, worker.name):
                    raise AssertionError(f"{session_id} is served by {worker.name} and owned by {owned.worker}")
        if self.controller.ready:  # before that it does not know who is in host memory
            wrong = validate(self.controller.snapshot(), FLEET)
            assert not wrong, wrong[:3]

    def heal(self, seconds: float) -> None:
        """From now on nothing goes wrong, and all that is under way arrives."""
        self.loss = 0.0
        for wires in (*self.down.values(), *self.up.values(), self.from_gateway, self.to_gateway):
            wires.loss = 0.0
        for _ in range(round(seconds / TICK_S)):
            self.rule(always=True)
            self.step()

    def empty(self, seconds: float) -> None:
        """Most clients leave and the others rest, so that fewer workers will do."""
        for name in sorted(self.wanted):
            if self.chance.random() < 0.6:
                self.ending.add(name)
            else:
                self.wanted[name] = False
        for _ in range(round(seconds / TICK_S)):
            self.rule(always=True)
            self.step()

    def unsettled(self) -> list[str]:
        """What is not as it ought to be once the world has healed."""
        truth, found = self.controller.truth, list[str]()
        found += [f"hand-over {attempt} never ended" for attempt in truth.handovers]
        found += [f"{name} was never answered" for name in sorted(self.creating | self.ending)]
        for name, active in sorted(self.wanted.items()):
            owner = truth.sessions[name].worker
            if owner is None:
                found += [f"{name} waits"] if active else []
                continue
            state = self.workers[owner].table.records[SessionId(name)].state
            if state != ("active" if active else state) or state not in ("active", "idle", "suspended"):
                found.append(f"{name} is {state} at {owner}, and active={active}")
        for worker in self.workers.values():
            for session_id in worker.table.records:
                owned = truth.sessions.get(session_id)
                if owned is None or owned.worker != worker.name:
                    found.append(f"{worker.name} still holds {session_id}")
        return found
