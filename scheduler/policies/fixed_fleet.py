"""Fleets whose size an operator has guessed: as many GPUs all the time, and a rule of dispatch.

Decides the size by default, and round robin and least loaded; must never know forecasts. By default the operator has
guessed perfectly: the reference's budget (90 % of capacity) at the trace's instant of most demand, which nobody knows
beforehand. GPUs that are lost are replaced.

Round robin: each session goes to the next GPU in the order of the fleet. Where it would make somebody late the one
after it is asked, then the same without regard to lateness. Least loaded: see `LeastLoaded`.
"""

from __future__ import annotations

from collections.abc import Mapping

from scheduler.cluster import Session
from scheduler.policies.dispatching import Dispatch, Dispatching, LeastLoaded, Rebalance, Rules
from scheduler.policies.fleet_facts import LATE, NEVER, ON_TIME, FleetFacts
from scheduler.policies.given import Given, Recipe
from scheduler.policies.orders import Orders
from scheduler.policies.parameters import PolicySettings, gpus_by_type
from scheduler.policies.sizing import gpus_at_peak
from scheduler.policies.view import Place, View
from scheduler.policy import Prepared


class FixedFleetSettings(PolicySettings):
    gpus: str = ""  # h100=8+b200=2; empty: for the trace's peak, at the reference's headroom


class FixedCount:
    """As many GPUs as guessed, whatever happens."""

    def __init__(self, gpus: Mapping[str, int]) -> None:
        self._gpus = gpus

    def __call__(self, view: View, now_s: float, *, early: bool) -> Mapping[str, int]:  # noqa: ARG002
        return self._gpus


class RoundRobin:
    """GPUs in turn."""

    def __init__(self) -> None:
        self._last = -1  # place in the fleet's order

    def __call__(self, session: Session, orders: Orders, view: View) -> Place | None:
        home = view.facts.home[view.facts.column[session.profile]]
        places = sorted(orders.receiving, key=lambda place: (place.gpu.gpu_type != home, self._behind(place, view)))
        for least in (ON_TIME, LATE):
            for place in places:
                if orders.outcome(place, session) >= least > NEVER:
                    self._last = view.index_of(place)
                    return place
        return None

    def _behind(self, place: Place, view: View) -> int:
        return (view.index_of(place) - self._last - 1) % len(view.snapshot.gpus)


def fixed_fleet(given: Given, gpus: str, dispatch: Dispatch, rebalance: Rebalance | None = None) -> Prepared:
    """A policy on as many GPUs as given in `gpus`."""
    facts = FleetFacts(given.fleet)
    count = gpus_by_type(gpus, given.fleet, given.name) if gpus else gpus_at_peak(facts, given.trace)
    rules = Rules(name=given.name, dispatch=dispatch, scale=FixedCount(count), rebalance=rebalance)
    return given.heuristic(Dispatching(given.fleet, rules, facts), count)


def round_robin() -> Recipe:
    return Recipe(settings=FixedFleetSettings, build=lambda given, own: fixed_fleet(given, own.gpus, RoundRobin()))


def fixed_least_loaded() -> Recipe:
    return Recipe(settings=FixedFleetSettings, build=lambda given, own: fixed_fleet(given, own.gpus, LeastLoaded()))
