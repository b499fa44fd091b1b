"""The reference's closed loop (arXiv 2606.19271 and public reimplementations of it), honestly tuned.

Decides as published: GPUs by `BudgetRule`; sessions keep their GPU, displaced and waiting ones go to the least-loaded,
then at most 3 rebalancing steps (`turboserve_placement`). Scale out, then rebalance; rebalance, then scale in: GPUs
that start are asked for in the step that rebalances, and GPUs that are to go are emptied by the placement in that step
and stopped in a later one. The publications are silent on these, and we decide: between epochs whoever waits goes to
the GPU with the shortest round, and GPUs start at once if the budget wants them; state goes to host memory when its
room is needed, who idles longest first.
"""

from __future__ import annotations

from scheduler.cluster import Session
from scheduler.formulate import formulate
from scheduler.interpret import changes
from scheduler.planner_settings import PlannerSettings
from scheduler.policies.budget_rule import BudgetRule
from scheduler.policies.dispatching import Dispatching, Rules
from scheduler.policies.fleet_facts import NEVER, FleetFacts
from scheduler.policies.given import Given, Recipe
from scheduler.policies.orders import Orders
from scheduler.policies.parameters import Count, Headroom, PolicySettings, Seconds
from scheduler.policies.sizing import HEADROOM, HOLD_S, gpus_at_start
from scheduler.policies.turboserve_placement import REBALANCING_STEPS, place_like_turboserve
from scheduler.policies.view import Place, View
from scheduler.policy import Prepared

_BY_AGE = PlannerSettings(urgent_after_s=1e9)  # who waits comes by priority, then by age


class TurboServeSettings(PolicySettings):
    headroom: Headroom = HEADROOM  # share of capacity in use (arXiv 2606.19271)
    hold_s: Seconds = HOLD_S  # a lower target must have held for so long (the same source)
    steps: Count = REBALANCING_STEPS  # migrations to rebalance in an epoch (the same source)


class ShortestRound:
    """The GPU whose round takes least, as it is; ties go to fewer sessions, then to the first GPU."""

    def __call__(self, session: Session, orders: Orders, view: View) -> Place | None:
        facts = view.facts
        best: Place | None = None
        best_key = (0, 0)
        for place in orders.receiving:
            key = (facts.latency_us(place.gpu.gpu_type, tuple(place.counts)), sum(place.counts))
            if (best is None or key < best_key) and orders.outcome(place, session) != NEVER:
                best, best_key = place, key
        return best


class ReferencePlacement:
    """The whole placement of an epoch; what it leaves waiting is dispatched as between epochs."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __call__(self, orders: Orders, view: View) -> None:
        if not view.places:
            return
        snapshot, fleet = view.snapshot, view.facts.fleet
        formulated = formulate(snapshot, fleet, _BY_AGE, 0.0, orders.aims)
        placement = place_like_turboserve(formulated.problem, steps_max=self._steps)
        for move in changes(formulated, placement, snapshot, fleet):
            assert move.target is not None, "a placement offloads nobody"
            session, target = snapshot.sessions[move.session_id], view.places[move.target]
            if orders.outcome(target, session) == NEVER:
                continue  # in this order of moves there is no room yet
            if move.source is None:
                orders.place(session, target)
            else:
                orders.migrate(session, view.places[move.source], target, move.reason)


def _build(given: Given, settings: TurboServeSettings) -> Prepared:
    facts = FleetFacts(given.fleet)
    rules = Rules(
        name=given.name,
        dispatch=ShortestRound(),
        scale=BudgetRule(headroom=settings.headroom, hold_s=settings.hold_s),
        rebalance=ReferencePlacement(settings.steps),
    )
    return given.heuristic(Dispatching(given.fleet, rules, facts), gpus_at_start(facts, given.trace))


def recipe() -> Recipe:
    return Recipe(settings=TurboServeSettings, build=_build)
