"""Our own planner, and what it is without one of its parts.

Decides which part is missing in each ablation; must never know how the planner works. Without look-ahead, GPUs follow
present demand by the reference's budget (`BudgetRule`: 90 % of capacity, in after 5 s). Without migration, and with the
reference's budget of migrations, the fleet's own budget is lowered to 0 and 3 per epoch. Without exact solvers, only
greedy placement and local search run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scheduler.cluster import Snapshot
from scheduler.fleet import Fleet
from scheduler.gpu_decision import GpuDecision
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings, ScalingSettings
from scheduler.policies.budget_rule import BudgetRule
from scheduler.policies.dispatching import Scale, aims_for
from scheduler.policies.fixed_fleet import FixedCount
from scheduler.policies.fleet_facts import FleetFacts
from scheduler.policies.given import Given, Recipe
from scheduler.policies.parameters import (
    Headroom,
    PolicySettings,
    PositiveCount,
    Seconds,
    ServiceLevel,
    Share,
    SpareShare,
    gpus_by_type,
)
from scheduler.policies.sizing import HEADROOM, HOLD_S, gpus_at_start
from scheduler.policies.turboserve_placement import REBALANCING_STEPS
from scheduler.policies.view import View
from scheduler.policy import Prepared
from scheduler.scaling import hold_what_is_on
from solvers.placement.meter import Meter

PLANNING_S = 0.1
_SCALING, _PLANNER = ScalingSettings(), PlannerSettings()


class EpochalSettings(PolicySettings):
    """Those of the planner that matter most, with its own defaults."""

    service_level: ServiceLevel = _SCALING.service_level  # share of epochs in which capacity is to hold demand
    spare_share: SpareShare = _SCALING.spare_share  # of demand, held beyond that level
    peak_hold_s: Seconds = _SCALING.peak_hold_s  # the most wanted at once in so long a past is held, too
    scale_in_hold_s: Seconds = _SCALING.scale_in_hold_s  # fewer GPUs must have done for so long
    horizon_epochs: PositiveCount = _SCALING.horizon_epochs  # looked ahead
    balance_gain_min: Share = _PLANNER.balance_gain_min  # of the worst latency, for a migration below the target
    gpus: str = ""  # h100=8+b200=2: so many all the time; empty: by forecast
    work: PositiveCount = 60  # units of a step at an epoch boundary, about milliseconds; a look at two types takes 45


class NoLookaheadSettings(EpochalSettings):
    headroom: Headroom = HEADROOM  # share of capacity in use (arXiv 2606.19271)
    hold_s: Seconds = HOLD_S  # a lower target must have held for so long (the same source)


class CountByRule:
    """A heuristic's rule as a `CountGpus`."""

    def __init__(self, facts: FleetFacts, rule: Scale) -> None:
        self._facts, self._rule = facts, rule

    def __call__(self, snapshot: Snapshot, fleet: Fleet, now_s: float, meter: Meter) -> GpuDecision:  # noqa: ARG002
        view = View(self._facts, snapshot)
        return GpuDecision(aims=aims_for(view, self._rule(view, now_s, early=False), may_shrink=True))


def epochal() -> Recipe:
    return Recipe(settings=EpochalSettings, build=_build)


def no_exact() -> Recipe:
    return Recipe(settings=EpochalSettings, build=lambda given, own: _build(given, own, {"exact": False}))


def no_migration() -> Recipe:
    return Recipe(settings=EpochalSettings, build=lambda given, own: _build(given, own, moves_per_epoch=0))


def reference_budget() -> Recipe:
    return Recipe(
        settings=EpochalSettings, build=lambda given, own: _build(given, own, moves_per_epoch=REBALANCING_STEPS)
    )


def no_lookahead() -> Recipe:
    return Recipe(settings=NoLookaheadSettings, build=_without_lookahead)


def _build(
    given: Given,
    own: EpochalSettings,
    changes: Mapping[str, Any] | None = None,
    *,
    moves_per_epoch: int | None = None,
) -> Prepared:
    fleet = given.fleet
    if moves_per_epoch is not None:
        fleet = fleet.model_copy(
            update={"budget": fleet.budget.model_copy(update={"moves_per_epoch": moves_per_epoch})}
        )
    settings, facts = _settings(given, own, changes or {}), FleetFacts(given.fleet)
    if own.gpus:
        count = gpus_by_type(own.gpus, given.fleet, given.name)
        return _prepared(given, own, Planner(fleet, settings, count_gpus=CountByRule(facts, FixedCount(count))), count)
    return _prepared(given, own, Planner(fleet, settings), gpus_at_start(facts, given.trace))


def _without_lookahead(given: Given, own: NoLookaheadSettings) -> Prepared:
    facts = FleetFacts(given.fleet)
    count = CountByRule(facts, BudgetRule(headroom=own.headroom, hold_s=own.hold_s))
    planner = Planner(given.fleet, _settings(given, own, {}), count_gpus=count, hold_gpus=hold_what_is_on)
    return _prepared(given, own, planner, gpus_at_start(facts, given.trace))


def _settings(given: Given, own: EpochalSettings, changes: Mapping[str, Any]) -> PlannerSettings:
    scaling = ScalingSettings(
        service_level=own.service_level,
        spare_share=own.spare_share,
        peak_hold_s=own.peak_hold_s,
        scale_in_hold_s=own.scale_in_hold_s,
        horizon_epochs=own.horizon_epochs,
    )
    return PlannerSettings(seed=given.seed, balance_gain_min=own.balance_gain_min, scaling=scaling, **changes)


def _prepared(given: Given, own: EpochalSettings, planner: Planner, at_start: Mapping[str, int]) -> Prepared:
    return Prepared(name=given.name, policy=planner, planning_s=PLANNING_S, gpus_at_start=at_start, work=own.work)
