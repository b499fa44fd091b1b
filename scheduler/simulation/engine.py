"""What happens at one instant and in which order, from the first instant of a run to its last.

Decides the phases of an instant and which instants there are; must never know how a phase does what it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scheduler import events
from scheduler.cluster_state import all_off
from scheduler.events import Event
from scheduler.fleet import Fleet
from scheduler.plan import Decision
from scheduler.policy import Budget, Prepared
from scheduler.simulation.demand import Demand, Users
from scheduler.simulation.executor import Executor
from scheduler.simulation.faults import Faults
from scheduler.simulation.instants import FAR_US, to_s, to_us
from scheduler.simulation.pace import Pace
from scheduler.simulation.power import Power, on_at_start
from scheduler.simulation.record import Record
from scheduler.simulation.round_costs import round_costs
from scheduler.simulation.round_state import NOBODY
from scheduler.simulation.rounds import Rounds
from scheduler.simulation.settings import SimulationSettings
from scheduler.simulation.stage import Observer, Stage, with_ready
from scheduler.simulation.transfers import Transfers

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchers:
    """Whom a run is told to, and who may end it."""

    clock: Clock | None = None
    on_progress: Callable[[float], None] | None = None
    observe: Observer | None = None
    stop: Callable[[], bool] | None = None


class Engine:
    """One run. Its parts are there to be read when it is over."""

    def __init__(
        self,
        users: Users,
        fleet: Fleet,
        prepared: Prepared,
        settings: SimulationSettings,
        watchers: Watchers,
        *,
        skip: bool = True,
    ) -> None:
        off = all_off(fleet)
        at_start = on_at_start(off.gpus, fleet, prepared.gpus_at_start)
        profile_index = {name: index for index, name in enumerate(fleet.profiles)}
        type_index = {name: index for index, name in enumerate(fleet.gpu_types)}
        self.rounds = Rounds(
            [profile_index[name] for name in users.profiles],
            len(users.start_us),
            [type_index[gpu.gpu_type] for gpu in off.gpus.values()],
            round_costs(fleet, settings.ahead_chunks),
            skip=skip,
            runs=settings.rounds,
        )
        self.users = users
        self.stage = Stage(with_ready(off, at_start), users, fleet, self.rounds, watchers.observe)
        self.power = Power(fleet, self.stage, self.rounds, at_start)
        self.transfers = Transfers(fleet, self.stage, self.rounds, users.session_index)
        self.executor = Executor(self.stage, self.power, self.transfers)
        self.faults = Faults(settings.faults, self.power, self.rounds, self.stage.gpu_index)
        self.demand = Demand(users)
        self.record = Record(self.stage, self.rounds, self.power)
        self._epoch_us = to_us(fleet.epoch_s)
        self._pace = Pace(
            epoch_us=self._epoch_us, spacing_us=to_us(settings.early_spacing_s), horizon_us=users.horizon_us
        )
        self._epoch_end_us = self._epoch_us
        self._prepared, self._settings, self._watchers = prepared, settings, watchers
        self._decision: Decision | None = None  # being computed
        self.end_us = users.horizon_us

    def run(self) -> None:
        """From 0 to the horizon, or until somebody stops it."""
        now_us = 0
        while now_us < self.users.horizon_us:
            self._observe_world(now_us)
            self._act(now_us)
            self.transfers.settle(now_us)
            if self._watchers.stop is not None and self._watchers.stop():
                self.end_us = now_us
                break
            now_us = self._next_us(now_us)
        else:
            self._observe_world(self.end_us)
        self._finish()

    def _observe_world(self, now_us: int) -> None:
        """Phases 1 to 6: what happens without anybody deciding it. Rounds are followed where somebody asks."""
        self.transfers.freeze_due(now_us)
        self.transfers.arrive_due(now_us)
        self.executor.go_on(now_us)
        self.power.turn_due(now_us)
        self.faults.recover_due(now_us)
        for gpu in self.faults.strike_due(now_us):
            self.transfers.fail_at(gpu, now_us)
            self.executor.go_on(now_us)
        self.power.turn_due(now_us)  # what takes no time to repair
        self.faults.recover_due(now_us)
        for period in self.demand.ends(now_us):
            self._period_ends(period, now_us)
        for period in self.demand.begins(now_us):
            self._period_begins(period, now_us)
        if now_us == self._epoch_end_us:
            self._epoch_ends(now_us)

    def _act(self, now_us: int) -> None:
        """Phases 7 to 9: plans take effect, the policy is asked; rounds that begin do so when somebody asks."""
        self._hear()
        if self._pace.plan_us <= now_us:
            self._take_effect(now_us)
        early = not self._pace.is_epoch_step(now_us)
        if early and not self._pace.is_early_step(self.stage.waiting_free, now_us):
            return
        self._ask(now_us, early=early)
        if self._pace.plan_us <= now_us:
            self._take_effect(now_us)

    def _next_us(self, now_us: int) -> int:
        self._hear()
        found = min(
            self.transfers.next_us,
            self.power.next_us,
            self.faults.next_us,
            self.demand.next_us,
            self._epoch_end_us,
            self._pace.next_us(self.stage.waiting_free, now_us),
        )
        assert found > now_us, "time goes on"
        return found

    def _period_begins(self, period: int, now_us: int) -> None:
        users, session = self.users, self.users.period_session[period]
        self.stage.period_of[session] = period
        self.rounds.period_begins(session, period, now_us)
        name = users.session_ids[session]
        event: Event = events.SessionActivated(session_id=name)
        if users.is_first[period]:
            event = events.SessionOpened(
                session_id=name,
                profile=users.profiles[session],
                tenant=users.tenants[session],
                priority=users.priorities[session],
            )
        self.stage.tell(event, now_us)

    def _period_ends(self, period: int, now_us: int) -> None:
        session = self.users.period_session[period]
        name = self.users.session_ids[session]
        closes = self.users.is_last[period]
        event: Event = events.SessionClosed(session_id=name) if closes else events.SessionIdled(session_id=name)
        self.stage.tell(event, now_us)
        self.rounds.period_ends(session, now_us)
        self.stage.period_of[session] = NOBODY
        if closes:
            self.transfers.cancel(name, now_us)
            self.executor.go_on(now_us)

    def _epoch_ends(self, now_us: int) -> None:
        self.record.epoch_ends(now_us)
        self.stage.tell(events.EpochEnded(), now_us)
        self._epoch_end_us += self._epoch_us
        if self._watchers.on_progress is not None:
            self._watchers.on_progress(to_s(now_us))

    def _hear(self) -> None:
        """What happened since, as far as the pace of steps depends on it."""
        if self.stage.changed or self.stage.calls:
            self._pace.something_changed(hope=self.stage.changed, calls=self.stage.calls)
            self.stage.changed = self.stage.calls = False

    def _ask(self, now_us: int, *, early: bool) -> None:
        self._hear()
        clock, prepared = self._watchers.clock, self._prepared
        budget = Budget(work=prepared.work_early if early else prepared.work, early=early)
        began_s = clock() if clock is not None else 0.0
        self._decision = prepared.policy.step(self.stage.snapshot(), to_s(now_us), budget)
        seconds = clock() - began_s if clock is not None else None
        planning_s = prepared.planning_s
        if self._settings.plan_time == "measured":
            assert seconds is not None, "whoever measures plan times gives a clock"
            planning_s = seconds
        planning_ms = None if seconds is None else 1000 * seconds
        self.record.asked(self._decision, early=early, planning_ms=planning_ms, now_us=now_us)
        wish_s = self._decision.next_step_s
        wish_us = to_us(wish_s) if wish_s < to_s(self.end_us) else FAR_US
        self._pace.asked(early=early, planning_us=to_us(planning_s), wish_us=wish_us, now_us=now_us)

    def _take_effect(self, now_us: int) -> None:
        assert self._decision is not None, "a plan was computed"
        decision, self._decision = self._decision, None
        self._pace.took_effect()
        self.executor.follow(decision, now_us)
        self._hear()

    def _finish(self) -> None:
        """What is under way counts until now."""
        end_us = self.end_us
        self.stage.finish(end_us)
        for session, period in enumerate(self.stage.period_of):
            if period != NOBODY:
                self.rounds.seat(session, NOBODY, end_us)
                self.rounds.period_ends(session, end_us)
        self.record.finish(end_us)
        self.transfers.finish(end_us)
        self.power.finish(end_us)
