"""Llumnix' rules (OSDI 24, arXiv 2406.03243): dispatch, migrate and scale by how free instances are.

Decides as published: freeness F = (M - usage) / B of an instance; who waits goes to the freest; every epoch the least
free and the freest instance are paired, a session migrates, and so on; an instance that is to go has none at all, so
that everybody leaves it; instances are added while the average freeness is below a range, and removed above it.
Its freeness counts decoding steps until memory is full, which states that do not grow never reach. We decide: usage is
the load, M a full GPU, and B the load as well (for one profile: free seats per session); a pair is worth a migration if
its freeness differs by `gap_min` and the target stays freer than the source was; the smallest state migrates, as the
shortest sequence does there; the average weighs GPUs by their load, because an empty one would rule any other; as many
GPUs start or go as bring it back into the range, and go only after it was above for `hold_s`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from scheduler.policies.dispatching import Dispatching, LeastLoaded, Rules, least_loaded
from scheduler.policies.fleet_facts import FULL, FleetFacts
from scheduler.policies.given import Given, Recipe
from scheduler.policies.orders import Orders
from scheduler.policies.parameters import PolicySettings, Positive, Seconds
from scheduler.policies.sizing import gpus_at_start, loads_by_type
from scheduler.policies.view import Place, View
from scheduler.policy import Prepared

_NEARLY = 1e-6


class LlumnixSettings(PolicySettings):
    gap_min: Positive = 0.5  # of freeness, for a migration (ours: 3 of 3 seats taken here, 2 of 3 there)
    out_below: Positive = 0.1  # average freeness below which GPUs start (ours: 91 % of the seats are taken)
    in_above: Positive = 0.3  # average freeness above which GPUs go (ours: 77 %)
    hold_s: Seconds = 30.0  # it must have been above for so long (ours)


class ByFreeness:
    """A `Scale` that remembers since when GPUs have been too free."""

    def __init__(self, settings: LlumnixSettings) -> None:
        self._settings = settings
        self._since_s: dict[str, float] = {}

    def __call__(self, view: View, now_s: float, *, early: bool) -> Mapping[str, int] | None:
        if early:
            return None
        on = Counter(gpu.gpu_type for gpu in view.snapshot.gpus.values() if gpu.status in ("ready", "starting"))
        loads = loads_by_type(view.facts, view.wanted, headroom=1.0)
        return {t: self._of(t, on[t], load / FULL, now_s) for t, load in loads.items()}

    def _of(self, gpu_type: str, on: int, load: float, now_s: float) -> int:
        """(M - load) / load of all GPUs stays between the limits."""
        least = math.ceil(load * (1 + self._settings.out_below) - _NEARLY)
        most = math.ceil(load * (1 + self._settings.in_above) - _NEARLY)
        if on <= most:
            self._since_s.pop(gpu_type, None)
            return max(on, least)
        held = now_s - self._since_s.setdefault(gpu_type, now_s) >= self._settings.hold_s
        return most if held else on


class Pairing:
    """Migrations from the least free to the freest GPU."""

    def __init__(self, settings: LlumnixSettings) -> None:
        self._gap_min = settings.gap_min

    def __call__(self, orders: Orders, view: View) -> None:
        for source in orders.leaving:
            for session in list(source.active):
                targets = [place for place in orders.receiving if orders.may_migrate(session, source, place)]
                target = least_loaded(targets, session, orders, view)
                if target is not None:
                    orders.migrate(session, source, target, "drain")
        sources = sorted(orders.receiving, key=lambda place: -place.load)
        for source in sources:
            if not self._relieved(source, orders, view):
                break

    def _relieved(self, source: Place, orders: Orders, view: View) -> bool:
        """Whether one session has left for a GPU that is freer by enough."""
        sizes, column = view.facts.state_mib, view.facts.column
        for session in sorted(source.active, key=lambda s: (sizes[column[s.profile]], s.session_id)):
            k = column[session.profile]
            targets = [
                place
                for place in orders.receiving
                if _freeness(place) - _freeness(source) >= self._gap_min - _NEARLY
                and place.load + place.share[k] < source.load
                and orders.may_migrate(session, source, place)
            ]
            target = least_loaded(targets, session, orders, view)
            if target is not None:
                orders.migrate(session, source, target, "balance")
                return True
        return False


def _freeness(place: Place) -> float:
    return (FULL - place.load) / max(place.load, min(place.share))


def _build(given: Given, settings: LlumnixSettings) -> Prepared:
    facts = FleetFacts(given.fleet)
    rules = Rules(name=given.name, dispatch=LeastLoaded(), scale=ByFreeness(settings), rebalance=Pairing(settings))
    return given.heuristic(Dispatching(given.fleet, rules, facts), gpus_at_start(facts, given.trace))


def recipe() -> Recipe:
    return Recipe(settings=LlumnixSettings, build=_build)
