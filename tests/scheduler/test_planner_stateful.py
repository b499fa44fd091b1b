"""Whatever happens to a fleet, plans can be carried out, nobody starves, and a fleet that is settled is left alone."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scheduler import events
from scheduler.cluster import GpuId, SessionId, Snapshot
from scheduler.cluster_checks import validate
from scheduler.cluster_state import ClusterState, all_off
from scheduler.fleet import Fleet
from scheduler.gpu_decision import keep_what_is_on
from scheduler.plan import Decision, Plan
from scheduler.plan_check import check_plan
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings, ScalingSettings
from tests.scheduler.clusters import WORK, become_ready, switched, two_profiles

SESSIONS_MAX = 12
HOLD_S = 40.0
SETTINGS = PlannerSettings(scaling=ScalingSettings(scale_in_hold_s=HOLD_S))
QUIET_EPOCHS = 16

_ARRIVALS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1)), min_size=1, max_size=4)


class Fleets(RuleBasedStateMachine):
    """A fleet of four GPUs whose executor may be slow, lose GPUs and fail moves."""

    @initialize(
        host_gib=st.sampled_from([None, 8.0, 64.0]),
        moves=st.sampled_from([None, 1, 4]),
        on=st.integers(2, 4),
        profiles=st.lists(st.sampled_from("ab"), min_size=4, max_size=SESSIONS_MAX),
    )
    def begin(self, host_gib: float | None, moves: int | None, on: int, profiles: list[str]) -> None:
        """A fleet at work: some GPUs are on, and whoever fits is placed."""
        pool: dict[str, Any] = {"gpu_type": "h100", "nodes": 2, "gpus_per_node": 2}
        if host_gib is not None:
            pool["host_memory_gib"] = host_gib
        self.fleet: Fleet = two_profiles({"pools": [pool]})
        self.fleet = self._with_moves(moves)
        self.state = ClusterState(all_off(self.fleet))
        self.now_s = 0.0
        self.opened = 0
        for gpu_id in list(self._snapshot.gpus)[:on]:
            self._tell(events.GpuStarting(gpu_id=gpu_id, ready_s=0.0))
            self._tell(events.GpuReady(gpu_id=gpu_id))
        self.open([(profile, 0) for profile in profiles])
        self._carry_out(self._planned().plan)

    def _with_moves(self, moves: int | None) -> Fleet:
        return self.fleet.model_copy(update={"budget": self.fleet.budget.model_copy(update={"moves_per_epoch": moves})})

    @property
    def _snapshot(self) -> Snapshot:
        return self.state.snapshot()

    def _tell(self, event: events.Event) -> None:
        self.now_s += 0.25
        self.state.apply(event, self.now_s)

    def _some_sessions(self, data: st.DataObject, *statuses: str) -> list[SessionId]:
        found = [s.session_id for s in self._snapshot.sessions.values() if s.status in statuses]
        return data.draw(st.lists(st.sampled_from(found), unique=True, max_size=3)) if found else []

    def _some_gpu(self, data: st.DataObject, *statuses: str) -> GpuId | None:
        found = [g.gpu_id for g in self._snapshot.gpus.values() if g.status in statuses]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(arrivals=_ARRIVALS)
    def open(self, arrivals: list[tuple[str, int]]) -> None:
        for profile, priority in arrivals[: SESSIONS_MAX - len(self._snapshot.sessions)]:
            self.opened += 1
            session_id = SessionId(f"{profile}{self.opened}")
            self._tell(events.SessionOpened(session_id=session_id, profile=profile, priority=priority))

    @rule(data=st.data(), passed_s=st.sampled_from([0.0, 10.0, 100.0]), some=st.booleans())
    def epoch(self, data: st.DataObject, passed_s: float, some: bool) -> None:
        """Sessions idle, return, close and arrive; then a plan begins its first wave, or some of it."""
        for session_id in self._some_sessions(data, "active", "waiting"):
            self._tell(events.SessionIdled(session_id=session_id))
        for session_id in self._some_sessions(data, "idle", "suspended"):
            self._tell(events.SessionActivated(session_id=session_id))
        for session_id in self._some_sessions(data, "active", "waiting", "idle", "suspended")[:2]:
            self._tell(events.SessionClosed(session_id=session_id))
        self.open(data.draw(_ARRIVALS))
        self.now_s += passed_s
        if passed_s:  # otherwise an early step: migrations that are over already count
            self._tell(events.EpochEnded())
        decision = self._planned()
        plan = decision.plan
        self._switch(decision)
        first = [move.session_id for move in plan.moves if move.wave == 0]
        for session_id in data.draw(st.lists(st.sampled_from(first), unique=True)) if some and first else first:
            self._begin(session_id, plan)

    @rule(data=st.data(), kind=st.sampled_from(["lose", "drain", "drain", "keep", "start", "start"]))
    def switch(self, data: st.DataObject, kind: str) -> None:
        if kind == "start":
            gpu_id = self._some_gpu(data, "off", "lost")
            if gpu_id is not None:
                self._tell(events.GpuStarting(gpu_id=gpu_id, ready_s=self.now_s + 1))
                self._tell(events.GpuReady(gpu_id=gpu_id))
        elif kind == "keep":
            gpu_id = self._some_gpu(data, "starting", "draining")
            if gpu_id is not None:
                self._tell(events.GpuReady(gpu_id=gpu_id))
        elif kind == "drain":
            gpu_id = self._some_gpu(data, "ready")
            if gpu_id is not None:
                self._tell(events.GpuDraining(gpu_id=gpu_id))
        else:
            gpu_id = self._some_gpu(data, "ready", "draining", "starting")
            if gpu_id is not None:
                self._tell(events.GpuLost(gpu_id=gpu_id))

    @rule(moves=st.sampled_from([None, 0, 1, 2, 4]))
    def change_budget(self, moves: int | None) -> None:
        self.fleet = self._with_moves(moves)
        self._tell(events.EpochEnded())

    @rule(data=st.data())
    def end_moves(self, data: st.DataObject) -> None:
        """Each move in flight ends, fails or goes on."""
        for session_id in list(self._snapshot.moves):
            match data.draw(st.sampled_from(["end", "end", "fail", "go on"])):
                case "end":
                    self._tell(events.MoveEnded(session_id=session_id))
                case "fail":
                    self._tell(events.MoveFailed(session_id=session_id))

    @rule()
    def settle(self) -> None:
        """If nothing happens, plans come to an end: everybody who fits is served, and nobody moves any more."""
        for session_id in list(self._snapshot.moves):
            self._tell(events.MoveEnded(session_id=session_id))
        for _ in range(40):
            self.now_s += 10.0  # longer than anybody waits for a place on time
            self._tell(events.EpochEnded())
            plan = self._planned().plan
            if plan.version == self._snapshot.version:
                break
            self._carry_out(plan)
        assert plan.version == self._snapshot.version, f"still {plan.moves} after 40 plans"
        assert not plan.moves
        self._nobody_waits_in_vain(plan)

    def _planner(self) -> Planner:
        return Planner(self.fleet, SETTINGS, count_gpus=keep_what_is_on)

    def _planned(self) -> Decision:
        snapshot = self._snapshot
        before = (dict(snapshot.gpus), dict(snapshot.sessions), dict(snapshot.moves))
        decision = self._planner().step(snapshot, self.now_s, WORK)
        assert (snapshot.gpus, snapshot.sessions, snapshot.moves) == before, "a step changes nothing that it is given"
        assert not check_plan(snapshot, self.fleet, decision.plan)
        for session_id, move in snapshot.moves.items():
            assert session_id not in {planned.session_id for planned in decision.plan.moves}
            if move.target is not None:
                assert decision.plan.seats[session_id].gpu == move.target
        return decision

    def _switch(self, decision: Decision) -> None:
        """GPUs are switched by the test alone here."""

    def _begin(self, session_id: SessionId, plan: Plan) -> None:
        move = next(move for move in plan.moves if move.session_id == session_id)
        self._tell(events.MoveStarted(session_id=session_id, kind=move.kind, source=move.source, target=move.target))

    def _carry_out(self, plan: Plan) -> None:
        """Wave by wave, at once and without mishap."""
        for wave in sorted({move.wave for move in plan.moves}):
            members = [move.session_id for move in plan.moves if move.wave == wave]
            for session_id in members:
                self._begin(session_id, plan)
            assert not validate(self._snapshot, self.fleet)
            for session_id in members:
                self._tell(events.MoveEnded(session_id=session_id))
        for gpu_id, aim in plan.gpus.items():
            if aim == "stop" and self._snapshot.gpus[gpu_id].status != "off":
                self._tell(events.GpuStopped(gpu_id=gpu_id))
        self._tell(events.PlanIssued(version=plan.version))

    def _nobody_waits_in_vain(self, plan: Plan) -> None:
        """Whoever still waits fits on no GPU beside those who are active there; idle sessions make room."""
        snapshot = self._snapshot
        most = {"a": 4, "b": 2}
        for session in snapshot.sessions.values():
            if session.status != "waiting":
                continue
            for gpu in snapshot.gpus.values():
                if gpu.status != "ready" or plan.gpus[gpu.gpu_id] != "keep":
                    continue
                there = [s for s in snapshot.sessions.values() if s.gpu == gpu.gpu_id and s.status == "active"]
                idle = [s for s in snapshot.sessions.values() if s.gpu == gpu.gpu_id and s.status == "idle"]
                if idle and self.fleet.pools[0].host_memory_gib is not None:
                    continue  # host memory may be full, so that idle sessions have to stay
                used_gib = sum(self.fleet.profiles[s.profile].state_gib for s in (*there, session))
                same = sum(s.profile == session.profile for s in there)
                assert used_gib > 16.0 or same >= most[session.profile], f"{session} fits on {gpu}"

    @invariant()
    def the_state_is_consistent(self) -> None:
        if hasattr(self, "state"):
            assert not validate(self._snapshot, self.fleet)


class CountedFleets(Fleets):
    """The same fleet, whose GPUs start, drain and stop by forecast, whatever else happens to them."""

    def __init__(self) -> None:
        super().__init__()
        self.started_s: dict[GpuId, float] = {}

    def _planner(self) -> Planner:
        return Planner(self.fleet, SETTINGS)

    def _switch(self, decision: Decision) -> None:
        for event in (*switched(decision.plan, self._snapshot, self.fleet, self.now_s), *decision.events):
            if isinstance(event, events.GpuStarting):
                self.started_s[event.gpu_id] = self.now_s
            if isinstance(event, events.GpuDraining | events.GpuStopped):
                self._held_long_enough(event.gpu_id)
            self.state.apply(event, self.now_s)

    def _held_long_enough(self, gpu_id: GpuId) -> None:
        """A GPU that the planner started and that is in use; what the test drains by hand may stop at any time."""
        if gpu_id in self.started_s and self._snapshot.gpus[gpu_id].status == "ready":
            assert self.now_s - self.started_s[gpu_id] >= HOLD_S - 0.01, "started and drained within the hold"

    @rule()
    def settle(self) -> None:
        """Some quiet epochs: who fits is served, the last GPUs are on if somebody waits, and none starts in the end."""
        for session_id in list(self._snapshot.moves):
            self._tell(events.MoveEnded(session_id=session_id))
        for epoch in range(QUIET_EPOCHS):
            self.now_s += 10.0
            for event in become_ready(self._snapshot, self.now_s):
                self.state.apply(event, self.now_s)
            self.state.apply(events.EpochEnded(), self.now_s)
            decision = self._planned()
            self._switch(decision)
            aims = set(decision.plan.gpus.values())
            assert epoch < QUIET_EPOCHS - 6 or "start" not in aims, "nothing has changed for ten epochs"
            self._carry_out(decision.plan)
        waiting = any(session.status == "waiting" for session in self._snapshot.sessions.values())
        idle_may_go = self.fleet.pools[0].host_memory_gib is None  # where host memory is full they keep their room
        if waiting and idle_may_go:
            assert "off" not in {gpu.status for gpu in self._snapshot.gpus.values()}
        self._nobody_waits_in_vain(decision.plan)


TestFleets = Fleets.TestCase
TestFleets.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)

TestCountedFleets = CountedFleets.TestCase
TestCountedFleets.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
