"""Two candidates per session by hash, the less loaded of which is taken: DualMap's idea (arXiv 2602.06502).

Decides as published there for prompts: two rings of consistent hashing map a session to two GPUs, the freer one takes
it, and overloaded GPUs hand sessions over to their other candidate. We decide: the key is the session's id (there are
no prefixes to share), so that a session comes back to where its state may still be; where neither candidate may take
it, the walk goes on along the rings, as consistent hashing does when a place is full; rings hold the GPUs of the
profile's home type, and others are asked last; a GPU is overloaded when somebody
on it is late; the fleet's size is fixed, as for the other dispatchers.
"""

from __future__ import annotations

from bisect import bisect
from functools import lru_cache
from hashlib import blake2b
from itertools import chain

from scheduler.cluster import Session
from scheduler.policies.dispatching import is_late
from scheduler.policies.fixed_fleet import FixedFleetSettings, fixed_fleet
from scheduler.policies.fleet_facts import NEVER, ON_TIME
from scheduler.policies.given import Given, Recipe
from scheduler.policies.orders import Orders
from scheduler.policies.view import Place, View
from scheduler.policy import Prepared

RINGS = ("first", "second")
KNOWN_MAX = 16  # sets of GPUs whose rings are kept


class Rings:
    """GPUs on two rings; the same GPUs give the same rings."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], list[list[tuple[int, str]]]] = {}

    def walk(self, session_id: str, places: list[Place]) -> tuple[list[Place], list[Place]]:
        """The candidates, different where there are two GPUs, and everybody else as the walk goes on."""
        names = tuple(place.gpu.gpu_id for place in places)
        if names not in self._known:
            if len(self._known) >= KNOWN_MAX:
                del self._known[next(iter(self._known))]
            self._known[names] = [sorted((position(ring, name), name) for name in names) for ring in RINGS]
        by_name = {place.gpu.gpu_id: place for place in places}
        walks = []
        for ring, members in zip(RINGS, self._known[names], strict=True):
            begin = bisect(members, (position(ring, session_id), ""))
            walks.append([name for _, name in members[begin:] + members[:begin]])
        turns = dict.fromkeys(chain.from_iterable(zip(*walks, strict=True)))
        order = [by_name[name] for name in turns if name in by_name]
        return order[:2], order[2:]


class TwoChoices:
    """A `Dispatch` and a `Rebalance` by the same rings."""

    def __init__(self) -> None:
        self._rings = Rings()

    def __call__(self, session: Session, orders: Orders, view: View) -> Place | None:
        near = self._near(session, orders, view)
        candidates, others = self._rings.walk(session.session_id, near)
        able = [place for place in candidates if orders.outcome(place, session) != NEVER]
        if able:
            return min(able, key=lambda place: (orders.outcome(place, session) != ON_TIME, place.load))
        far = [] if near is orders.receiving else orders.receiving
        return next((place for place in (*others, *far) if orders.outcome(place, session) != NEVER), None)

    def rebalance(self, orders: Orders, view: View) -> None:
        """From GPUs that are late, fullest first, one session after another to its other candidate."""
        for source in sorted(orders.receiving, key=lambda place: -place.load):
            for session in sorted(source.active, key=lambda session: session.session_id):
                if not is_late(source, view.facts):
                    break
                candidates, _ = self._rings.walk(session.session_id, self._near(session, orders, view))
                for target in candidates:
                    if (
                        target is not source
                        and orders.outcome(target, session) == ON_TIME
                        and orders.may_migrate(session, source, target)
                    ):
                        orders.migrate(session, source, target, "late")
                        break

    def _near(self, session: Session, orders: Orders, view: View) -> list[Place]:
        """GPUs of the types on which the profile runs; its home type alone where that has two."""
        k = view.facts.column[session.profile]
        home = [place for place in orders.receiving if place.gpu.gpu_type == view.facts.home[k]]
        return home if len(home) > 1 else orders.receiving


@lru_cache(maxsize=65536)
def position(ring: str, name: str) -> int:
    """Where somebody is on a ring."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, key=ring.encode()).digest(), "big")


def _build(given: Given, settings: FixedFleetSettings) -> Prepared:
    choices = TwoChoices()
    return fixed_fleet(given, settings.gpus, choices, choices.rebalance)


def recipe() -> Recipe:
    return Recipe(settings=FixedFleetSettings, build=_build)
