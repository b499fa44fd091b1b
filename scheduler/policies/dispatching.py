"""A heuristic put together from rules: where who waits goes, who moves, how many GPUs there are.

Decides the order in which rules are asked in a step; must never know a rule.

In a step at an epoch boundary GPUs are counted, then the rebalancing rule moves who is on a GPU, then who waits is
dispatched. In an early step who waits is dispatched, and GPUs are counted by rules that scale out at once. Idle
sessions go to host memory after `keep_idle_s`, from where they are dispatched anew when they return; where room is
needed those that idle longest go before, and all that idle on a GPU which is to be emptied go at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scheduler.cluster import Gpu, GpuId, Session, Snapshot
from scheduler.fleet import Fleet
from scheduler.gpu_decision import STEADY
from scheduler.plan import Decision, GpuAim, Report
from scheduler.policies.fleet_facts import NEVER, ON_TIME, FleetFacts
from scheduler.policies.given import Given
from scheduler.policies.orders import Orders
from scheduler.policies.parameters import HeuristicSettings
from scheduler.policies.view import Place, View
from scheduler.policy import Budget, Prepared
from scheduler.scaling import aims_of_changes

PLANNING_S = 0.01  # stated for every heuristic: they take less than that, and messages take time as well


class Dispatch(Protocol):
    """Where a waiting session goes; None: it waits on."""

    def __call__(self, session: Session, orders: Orders, view: View) -> Place | None: ...


class Rebalance(Protocol):
    """Orders migrations."""

    def __call__(self, orders: Orders, view: View) -> None: ...


class Scale(Protocol):
    """GPUs wanted by type, those that start included; None: as many as there are."""

    def __call__(self, view: View, now_s: float, *, early: bool) -> Mapping[str, int] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a heuristic consists of."""

    name: str
    dispatch: Dispatch
    scale: Scale
    keep_idle_s: float  # how long an idle session keeps its room on the device
    rebalance: Rebalance | None = None  # None: nobody ever migrates


def of_rules(
    given: Given,
    own: HeuristicSettings,
    facts: FleetFacts,
    at_start: Mapping[str, int],
    *,
    dispatch: Dispatch,
    scale: Scale,
    rebalance: Rebalance | None = None,
) -> Prepared:
    """A heuristic ready to run; `at_start` are its GPUs at the start, by type."""
    rules = Rules(name=given.name, dispatch=dispatch, scale=scale, rebalance=rebalance, keep_idle_s=own.keep_idle_s)
    policy = Dispatching(given.fleet, rules, facts)
    return Prepared(name=given.name, policy=policy, planning_s=PLANNING_S, gpus_at_start=at_start)


class Dispatching:
    """A `Policy` of rules."""

    def __init__(self, fleet: Fleet, rules: Rules, facts: FleetFacts | None = None) -> None:
        self._facts = facts or FleetFacts(fleet)
        self._rules = rules
        self._report = Report(
            solver=rules.name, end_reason="the rule is carried out", tiers=(), stages=(), fallback=None
        )

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision:
        view = View(self._facts, snapshot)
        wanted = self._rules.scale(view, now_s, early=budget.early)
        aims = aims_for(view, wanted, may_shrink=not budget.early)
        orders = Orders(view, aims)
        for place in view.places.values():
            orders.offload_idle(place, since_s=now_s - self._rules.keep_idle_s, reason="idle")
        if not budget.early:
            for place in orders.leaving:
                orders.offload_idle(place, since_s=now_s, reason="drain")
            if self._rules.rebalance is not None:
                self._rules.rebalance(orders, view)
        for session in view.waiting:
            if session.session_id in orders.placed:
                continue
            target = self._rules.dispatch(session, orders, view)
            if target is not None:
                orders.place(session, target)
        next_step_s = now_s + self._facts.fleet.epoch_s
        return Decision(plan=orders.plan(), report=self._report, next_step_s=next_step_s)


def aims_for(view: View, wanted: Mapping[str, int] | None, *, may_shrink: bool) -> dict[GpuId, GpuAim]:
    """Which GPUs switch so that as many as wanted are on, within pools and their least counts.

    GPUs that drain come back before others start; those that are not ready yet go first, the last of them before the
    others, as Kubernetes does it; then those with the least to lose drain, and empty ones stop.
    """
    gpus = view.snapshot.gpus
    aims: dict[GpuId, GpuAim] = {gpu_id: STEADY[gpu.status] for gpu_id, gpu in gpus.items()}
    facts = view.facts
    if wanted is not None:
        count = Counter((gpu.gpu_type, gpu.status) for gpu in gpus.values() if gpu.status != "off")
        types = facts.gpu_types
        on = np.array([count[t, "ready"] + count[t, "starting"] for t in types])
        draining = np.array([count[t, "draining"] for t in types])
        target = np.array([min(max(wanted.get(t, 0), facts.gpus_min[t]), facts.gpus_max[t]) for t in types])
        more = np.maximum(target - on, 0)
        fewer = np.maximum(on - target, 0) if may_shrink else np.zeros_like(on)
        unready = np.minimum(fewer, [count[t, "starting"] for t in types])
        if more.any() or fewer.any():
            back, drained = np.minimum(more, draining), fewer - unready
            aims = aims_of_changes(
                view.snapshot, facts.fleet, types, taken_back=back, starts=more - back, stops=drained
            )
            for gpu_type, number in zip(types, unready.tolist(), strict=True):
                aims |= dict.fromkeys(_last_to_be_ready(gpus, gpu_type)[:number], "stop")
    for gpu_id, place in view.places.items():
        if aims[gpu_id] == "drain" and place.empty:
            aims[gpu_id] = "stop"
    return aims


def _last_to_be_ready(gpus: Mapping[GpuId, Gpu], gpu_type: str) -> list[GpuId]:
    starting = [gpu for gpu in gpus.values() if gpu.gpu_type == gpu_type and gpu.status == "starting"]
    return [gpu.gpu_id for gpu in sorted(starting, key=lambda gpu: -(gpu.ready_s or 0.0))]


class LeastLoaded:
    """The rule of dispatch that most heuristics share: the GPU with the least load.

    GPUs on which everybody would be on time come before those on which somebody would be late, GPUs of the profile's
    home type before others. Of equal loads the GPU on the node that holds the state wins, then the first one.
    """

    def __call__(self, session: Session, orders: Orders, view: View) -> Place | None:
        return least_loaded(orders.receiving, session, orders, view)


def least_loaded(places: list[Place], session: Session, orders: Orders, view: View) -> Place | None:
    home = view.facts.home[view.facts.column[session.profile]]
    best: Place | None = None
    best_key: tuple[int, bool, int, bool] | None = None
    for place in places:
        if best_key is not None and best_key[:2] == (-ON_TIME, False) and place.load > best_key[2]:
            continue
        outcome = orders.outcome(place, session)
        if outcome == NEVER:
            continue
        gpu = place.gpu
        key = (-outcome, gpu.gpu_type != home, place.load, gpu.node != session.node)
        if best_key is None or key < best_key:
            best, best_key = place, key
    return best


def is_late(place: Place, facts: FleetFacts) -> bool:
    """Whether somebody on a GPU is late, or the batch may not run at all."""
    latency_us = facts.latency_us(place.gpu.gpu_type, place.content)
    return any(latency_us > target for target, count in zip(facts.target_us, place.counts, strict=True) if count)
