"""Whatever happens to messages, transfers and workers: one owner, every byte accounted for, and every attempt ends."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.state.blocks import Block, BlockMap
from runtime.transfer.messages import AttemptId
from runtime.worker.books import SERVES
from runtime.worker.events import StateLost, Ticked
from runtime.worker.messages import Demand, Resume, Suspend
from scheduler.cluster import SessionId
from tests.runtime.worker.toy_controller import DEADLINE_S, ToyFleet
from tests.runtime.worker.toy_worker import ToyWorker

NAMES = "abc"
SETTLE_ROUNDS = 40


class Fleets(RuleBasedStateMachine):
    """Three workers, one controller, up to five sessions."""

    @initialize(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4))
    def begin(self, sizes: list[int]) -> None:
        self.fleet = ToyFleet(NAMES)
        for index, size in enumerate(sizes):
            self.fleet.open(NAMES[index % 2], size)

    def _worker(self, data: st.DataObject) -> ToyWorker:
        return self.fleet.workers[data.draw(st.sampled_from(NAMES))]

    def _session(self, data: st.DataObject) -> SessionId | None:
        return data.draw(st.sampled_from(sorted(self.fleet.owner))) if self.fleet.owner else None

    @rule(data=st.data(), further=st.integers(1, 2), steps=st.integers(0, 9))
    def migrate(self, data: st.DataObject, further: int, steps: int) -> None:
        """Nothing goes wrong for some steps, so that every phase is reached."""
        session_id = self._session(data)
        if session_id is None:
            return
        source = NAMES.index(self.fleet.owner[session_id][0])
        self.fleet.migrate(session_id, NAMES[(source + further) % len(NAMES)])
        for _ in range(steps):
            self.fleet.nudge()
            self._step()

    @rule()
    def nudge(self) -> None:
        self.fleet.nudge()

    @rule(data=st.data(), what=st.sampled_from(["suspend", "resume", "active", "idle"]))
    def desire(self, data: st.DataObject, what: str) -> None:
        session_id = self._session(data)
        if session_id is None:
            return
        desires: dict[str, Any] = {
            "suspend": Suspend(session_id=session_id),
            "resume": Resume(session_id=session_id),
            "active": Demand(session_id=session_id, active=True),
            "idle": Demand(session_id=session_id, active=False),
        }
        self.fleet.send(self.fleet.owner[session_id][0], desires[what])

    @rule(data=st.data(), count=st.integers(1, 4), fate=st.sampled_from(["once", "once", "once", "twice", "lost"]))
    def deliver_command(self, data: st.DataObject, count: int, fate: str) -> None:
        for _ in range(min(count, len(self.fleet.to_worker))):
            at = data.draw(st.integers(0, len(self.fleet.to_worker) - 1))
            name, command = self.fleet.to_worker[at] if fate == "twice" else self.fleet.to_worker.pop(at)
            if fate != "lost":
                self.fleet.workers[name].told(command)

    @rule(data=st.data(), count=st.integers(1, 4), fate=st.sampled_from(["once", "once", "once", "twice", "lost"]))
    def deliver_report(self, data: st.DataObject, count: int, fate: str) -> None:
        for _ in range(min(count, len(self.fleet.to_controller))):
            at = data.draw(st.integers(0, len(self.fleet.to_controller) - 1))
            told = self.fleet.to_controller[at] if fate == "twice" else self.fleet.to_controller.pop(at)
            if fate != "lost":
                self.fleet.controller_hears(*told)

    @rule(data=st.data(), count=st.integers(1, 4))
    def take_events(self, data: st.DataObject, count: int) -> None:
        worker = self._worker(data)
        for _ in range(min(count, len(worker.events))):
            worker.take_event()

    @rule(data=st.data())
    def compute(self, data: st.DataObject) -> None:
        worker = self._worker(data)
        for session_id in worker.begin_round():
            assert self.fleet.owner[session_id][0] == worker.name, "somebody computes who does not own"

    @rule(data=st.data())
    def end_chunk(self, data: st.DataObject) -> None:
        worker = self._worker(data)
        if worker.computing:
            worker.end_chunk(data.draw(st.sampled_from(worker.computing)))

    @rule(data=st.data(), failure=st.sampled_from([None, None, "the device is busy"]))
    def end_copy(self, data: st.DataObject, failure: str | None) -> None:
        worker = self._worker(data)
        if worker.copies:
            worker.end_copy(failure)

    def _lanes(self) -> list[AttemptId]:
        return sorted({attempt for worker in self.fleet.workers.values() for attempt in worker.lanes})

    @rule(data=st.data(), flip=st.sampled_from([False, False, False, True]))
    def transfer(self, data: st.DataObject, flip: bool) -> None:
        if self._lanes():
            self.fleet.lane_step(data.draw(st.sampled_from(self._lanes())), flip=flip)

    @rule(data=st.data(), sides=st.sampled_from(["one", "all"]))
    def transfer_fails(self, data: st.DataObject, sides: str) -> None:
        if not self._lanes():
            return
        attempt = data.draw(st.sampled_from(self._lanes()))
        there = [worker for worker in self.fleet.workers.values() if attempt in worker.lanes]
        for worker in there if sides == "all" else there[:1]:
            worker.end_lane(attempt, "peer lost")

    @rule(seconds=st.sampled_from([1.0, DEADLINE_S]))
    def wait(self, seconds: float) -> None:
        self.fleet.now_s += seconds
        for worker in self.fleet.workers.values():
            worker.now(Ticked())

    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        if self.fleet.attempts:
            self.fleet.abort(data.draw(st.sampled_from([a.attempt for a in self.fleet.attempts])))

    @rule()
    def restart_controller(self) -> None:
        self.fleet.restart()

    @precondition(lambda self: any(a.phase == "committed" for a in self.fleet.attempts))
    @rule()
    def kill_who_is_to_serve(self) -> None:
        self.fleet.kill(next(a.target for a in self.fleet.attempts if a.phase == "committed"))

    @precondition(lambda self: len(self.fleet.owner) > 1)
    @rule(data=st.data(), who=st.sampled_from(["any", "source", "target", "committed"]))
    def kill(self, data: st.DataObject, who: str) -> None:
        attempts = self.fleet.attempts
        sides = {
            "any": list(NAMES),
            "source": [a.source for a in attempts],
            "target": [a.target for a in attempts],
            "committed": [a.target for a in attempts if a.phase == "committed"],
        }[who]
        known = [name for name in sides if name]  # after a restart only one side of an attempt that is over may be
        if known:
            self.fleet.kill(data.draw(st.sampled_from(known)))

    @precondition(lambda self: len(self.fleet.owner) > 1)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        session_id = self._session(data)
        if session_id is not None:
            worker = self.fleet.workers[self.fleet.owner[session_id][0]]
            worker.now(StateLost(session_id=session_id, reason="the device has failed"))

    @invariant()
    def one_owner(self) -> None:
        for worker in self.fleet.workers.values():
            for session_id, record in worker.table.records.items():
                if record.state in SERVES:
                    name, ownership = self.fleet.owner[session_id]
                    assert (name, record.ownership) == (worker.name, ownership), f"{session_id} is served by a stranger"

    @invariant()
    def states_are_whole(self) -> None:
        for worker in self.fleet.workers.values():
            for session_id, record in worker.table.records.items():
                at_rest = record.state in (*SERVES, "frozen") and session_id not in worker.computing
                if at_rest and self.fleet.owner.get(session_id, ("", 0))[0] == worker.name:
                    assert worker.content(session_id) == self.fleet.truth[session_id].content

    @invariant()
    def memory_is_accounted_for(self) -> None:
        for worker in self.fleet.workers.values():
            records = worker.table.records.values()
            device = [record.device for record in records if record.device is not None]
            reserved = [r.device for r in records if r.incoming is not None and r.device is not None]
            _check_books(worker.device, device, reserved)
            _check_books(worker.host, [record.host for record in records if record.host is not None], [])
            assert worker.table.lanes <= 2

    def teardown(self) -> None:
        """The world heals: messages arrive, copies end, workers live. Then nothing is left undone."""
        if not hasattr(self, "fleet"):
            return
        fleet = self.fleet
        for _ in range(SETTLE_ROUNDS):
            fleet.now_s += DEADLINE_S / 4
            fleet.nudge()
            self._settle()
        assert not fleet.attempts, f"these never ended: {fleet.attempts}"
        for session_id in fleet.owner:
            fleet.send(fleet.owner[session_id][0], Resume(session_id=session_id))
        self._settle()
        for worker in fleet.workers.values():
            assert worker.table.lanes == 0
            assert worker.device.room.draining == worker.host.room.draining == worker.device.room.reserved == 0
            for session_id, record in worker.table.records.items():
                assert record.state in ("active", "idle", "suspended", "lost"), f"{session_id} is {record.state}"
                if record.state != "lost":
                    assert fleet.owner[session_id][0] == worker.name

    def _settle(self) -> None:
        """Until nobody has anything left to do."""
        for worker in self.fleet.workers.values():
            worker.now(Ticked())
        while self._step():
            pass

    def _step(self) -> bool:
        """Everything that is under way arrives; False if there was nothing."""
        fleet = self.fleet
        workers = list(fleet.workers.values())
        commands, fleet.to_worker[:] = fleet.to_worker[:], []
        reports, fleet.to_controller[:] = fleet.to_controller[:], []
        for name, command in commands:
            fleet.workers[name].told(command)
        for told in reports:
            fleet.controller_hears(*told)
        for attempt in self._lanes():
            fleet.lane_step(attempt)
        for worker in workers:
            for session_id in list(worker.computing):
                worker.end_chunk(session_id)
            while worker.copies:
                worker.end_copy(None)
        events = sum(len(worker.events) for worker in workers)
        for worker in workers:
            for _ in range(len(worker.events)):
                worker.take_event()
        return bool(commands or reports or events)


def _check_books(blocks: BlockMap, held: list[Block], reserved: list[Block]) -> None:
    there = {block for block, use in blocks.uses.items() if use != "draining"}
    assert there == set(held)
    assert len(held) == len(set(held)), "two sessions have one block"
    assert {block for block, use in blocks.uses.items() if use == "reserved"} == set(reserved)


TestFleets = Fleets.TestCase
TestFleets.settings = settings(stateful_step_count=60, suppress_health_check=[HealthCheck.too_slow])
