"""Sessions stay where they were placed; GPUs follow the load.

Decides as an autoscaler without migration does: the reference's budget (`BudgetRule`), the least-loaded GPU for whoever
waits, and nobody migrates. GPUs that are to go empty by themselves, as their sessions idle (and are offloaded) or end.
"""

from __future__ import annotations

from scheduler.policies.budget_rule import BudgetRule
from scheduler.policies.dispatching import Dispatching, LeastLoaded, Rules
from scheduler.policies.fleet_facts import FleetFacts
from scheduler.policies.given import Given, Recipe
from scheduler.policies.parameters import Headroom, PolicySettings, Seconds
from scheduler.policies.sizing import HEADROOM, HOLD_S, gpus_at_start
from scheduler.policy import Prepared


class StickySettings(PolicySettings):
    headroom: Headroom = HEADROOM  # share of capacity in use (arXiv 2606.19271)
    hold_s: Seconds = HOLD_S  # a lower target must have held for so long (the same source)


def _build(given: Given, settings: StickySettings) -> Prepared:
    facts = FleetFacts(given.fleet)
    scale = BudgetRule(headroom=settings.headroom, hold_s=settings.hold_s)
    rules = Rules(name=given.name, dispatch=LeastLoaded(), scale=scale)
    return given.heuristic(Dispatching(given.fleet, rules, facts), gpus_at_start(facts, given.trace))


def recipe() -> Recipe:
    return Recipe(settings=StickySettings, build=_build)
