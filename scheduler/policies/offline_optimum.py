"""What hindsight allows, carried out: the trace is planned offline, and the plan is followed in virtual time.

Decides how a schedule that knows no transfers is followed by moves that take time; must never know how it was found.
GPUs start and stop when the schedule says (their order within a pool is ours, so that those that are on at the start
come first), sessions run where it says, and an idle state that will be wanted elsewhere goes to host memory at once.
Where a session cannot be where the schedule has it (its GPU is not ready or has no room yet), it goes to the
least-loaded one and migrates at the next epoch. Without a plan and without a clock only the repeatable stages of the
offline planner run.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Mapping

from scheduler.cluster import GpuId, Session, SessionId, Snapshot
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from scheduler.gpu_decision import STEADY
from scheduler.offline import plan_offline
from scheduler.offline_options import OfflineOptions
from scheduler.offline_plan import OfflinePlan
from scheduler.plan import Decision, GpuAim, Report
from scheduler.policies.dispatching import least_loaded
from scheduler.policies.fleet_facts import NEVER, FleetFacts
from scheduler.policies.given import Given, Recipe
from scheduler.policies.orders import Orders
from scheduler.policies.parameters import PolicySettings, Positive
from scheduler.policies.view import Place, View
from scheduler.policy import Budget, Prepared

_NEARLY_S = 1e-6


class OfflineOptimumSettings(PolicySettings):
    deadline_s: Positive = 60.0  # of planning the trace, where a clock is given


class Schedule:
    """An offline plan by GPU and by session."""

    def __init__(self, plan: OfflinePlan, fleet: Fleet) -> None:
        names = renamed(plan, fleet)
        self.on: dict[GpuId, list[tuple[float, float]]] = {}
        for gpu_id, on_s, off_s in plan.gpus.select("gpu_id", "on_s", "off_s").iter_rows():
            self.on.setdefault(names[gpu_id], []).append((on_s, off_s))
        self._starts_s: dict[SessionId, list[float]] = {}
        self._gpus: dict[SessionId, list[GpuId]] = {}
        for session_id, gpu_id, start_s in (
            plan.placements.sort("start_s").select("session_id", "gpu_id", "start_s").iter_rows()
        ):
            self._starts_s.setdefault(session_id, []).append(start_s)
            self._gpus.setdefault(session_id, []).append(names[gpu_id])

    def is_on(self, gpu_id: GpuId, now_s: float) -> bool:
        return any(on_s <= now_s + _NEARLY_S < off_s for on_s, off_s in self.on.get(gpu_id, ()))

    def gpu_of(self, session_id: SessionId, now_s: float) -> GpuId | None:
        """Where an active session is to be."""
        index = bisect(self._starts_s.get(session_id, ()), now_s + _NEARLY_S) - 1
        return self._gpus[session_id][index] if index >= 0 else None

    def next_gpu_of(self, session_id: SessionId, now_s: float) -> GpuId | None:
        """Where an idle session will be wanted; None: nowhere."""
        starts_s = self._starts_s.get(session_id, ())
        index = bisect(starts_s, now_s + _NEARLY_S)
        return self._gpus[session_id][index] if index < len(starts_s) else None


class FollowSchedule:
    """A `Policy` that keeps no state."""

    def __init__(self, fleet: Fleet, schedule: Schedule) -> None:
        self._facts, self._schedule = FleetFacts(fleet), schedule
        self._report = Report(
            solver="offline", end_reason="the schedule is followed", tiers=(), stages=(), fallback=None
        )

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision:
        view = View(self._facts, snapshot)
        orders = Orders(view, self._aims(view, now_s, may_drain=not budget.early))
        self._clear(orders, view, now_s)
        if not budget.early:
            self._migrate(orders, view, now_s)
        for session in view.waiting:
            planned = self._planned(session, view, now_s)
            able = planned in orders.receiving and orders.outcome(planned, session) != NEVER if planned else False
            target = planned if able else least_loaded(orders.receiving, session, orders, view)
            if target is not None:
                orders.place(session, target)
        return Decision(plan=orders.plan(), report=self._report, next_step_s=now_s + self._facts.fleet.epoch_s)

    def _aims(self, view: View, now_s: float, *, may_drain: bool) -> Mapping[GpuId, GpuAim]:
        aims: dict[GpuId, GpuAim] = {}
        for gpu_id, gpu in view.snapshot.gpus.items():
            aim = STEADY[gpu.status]
            if gpu.status != "lost" and self._schedule.is_on(gpu_id, now_s):
                aim = "start" if gpu.status == "off" else "keep"
            elif gpu.status == "draining" or (gpu.status == "ready" and may_drain):
                aim = "stop" if view.places[gpu_id].empty else "drain"
            aims[gpu_id] = aim
        for index, pool in enumerate(self._facts.fleet.pools):  # the schedule ends with the trace
            mine = [gpu_id for gpu_id, gpu in view.snapshot.gpus.items() if gpu.node.partition("/")[0] == str(index)]
            kept = sum(aims[gpu_id] in ("keep", "start") for gpu_id in mine)
            leaving = [gpu_id for gpu_id in mine if aims[gpu_id] in ("drain", "stop")]
            aims.update(dict.fromkeys(leaving[: max(0, pool.gpus_min - kept)], "keep"))
        return aims

    def _clear(self, orders: Orders, view: View, now_s: float) -> None:
        """Idle states leave GPUs that go, and those where they will not be wanted."""
        for gpu_id, place in view.places.items():
            for session in list(place.idle):
                following = self._schedule.next_gpu_of(session.session_id, now_s)
                if place in orders.leaving or following not in (None, gpu_id):
                    orders.offload(session, place, "idle")

    def _migrate(self, orders: Orders, view: View, now_s: float) -> None:
        for source in view.places.values():
            for session in list(source.active):
                target = self._planned(session, view, now_s)
                if target is None or target is source or target not in orders.receiving:
                    continue
                if orders.may_migrate(session, source, target) and orders.outcome(target, session) != NEVER:
                    orders.migrate(session, source, target, "drain" if source in orders.leaving else "balance")

    def _planned(self, session: Session, view: View, now_s: float) -> Place | None:
        gpu_id = self._schedule.gpu_of(session.session_id, now_s)
        return None if gpu_id is None else view.places.get(gpu_id)


def renamed(plan: OfflinePlan, fleet: Fleet) -> dict[GpuId, GpuId]:
    """The schedule's GPUs under the names that they have here: pool by pool, those that are on first come first."""
    earliest: dict[GpuId, float] = {}
    for gpu_id, on_s in plan.gpus.select("gpu_id", "on_s").iter_rows():
        earliest[gpu_id] = min(on_s, earliest.get(gpu_id, on_s))
    names: dict[GpuId, GpuId] = {}
    gpus = all_off(fleet).gpus
    for pool in range(len(fleet.pools)):
        mine = [gpu_id for gpu_id, gpu in gpus.items() if gpu.node.partition("/")[0] == str(pool)]
        order = sorted((gpu_id for gpu_id in mine if gpu_id in earliest), key=lambda gpu_id: earliest[gpu_id])
        names.update(zip(order, mine, strict=False))
    return names


def _build(given: Given, settings: OfflineOptimumSettings) -> Prepared:
    plan = given.plan or _solved(given, settings)
    gpu_type = dict(plan.gpus.select("gpu_id", "gpu_type").iter_rows())
    early = plan.gpus.filter(plan.gpus["on_s"] < 0)["gpu_id"].unique().to_list()
    return Prepared(
        name=given.name,
        policy=FollowSchedule(given.fleet, Schedule(plan, given.fleet)),
        planning_s=0.0,  # it is planned already
        gpus_at_start=Counter(gpu_type[gpu_id] for gpu_id in early),
    )


def _solved(given: Given, settings: OfflineOptimumSettings) -> OfflinePlan:
    if given.clock is None:
        options = OfflineOptions(solver="sweep", seed=given.seed)
        return plan_offline(given.trace, given.fleet, options, clock=lambda: 0.0)
    options = OfflineOptions(deadline_s=settings.deadline_s, seed=given.seed)
    return plan_offline(given.trace, given.fleet, options, clock=given.clock)


def recipe() -> Recipe:
    return Recipe(settings=OfflineOptimumSettings, build=_build)
