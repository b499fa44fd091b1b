"""The Kubernetes horizontal pod autoscaler over GPUs that share who waits by least load.

Decides desired = ceil(current * metric / target) with the published defaults (kubernetes.io, "Horizontal Pod
Autoscaling"): every 15 s; nothing within a tolerance of 10 %; out at once, by at most 4 GPUs or 100 % in 15 s,
whichever is more; in to the most that was desired in the last 300 s. A stateless rule, and the documents are silent on
sessions and GPUs; we decide: the metric is the load of those who want chunks, waiting ones included, over the GPUs that
are ready or start (so that one that starts counts as unused, as an unready pod does on the way up); the target is 80 %;
once a type has been used it keeps one GPU, as HPA never scales to zero; each type scales by its own load; sessions
never migrate, and a GPU that is to go takes nobody and empties by itself, as a pod that terminates gracefully.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping

from scheduler.policies.dispatching import LeastLoaded, of_rules
from scheduler.policies.fleet_facts import FULL, FleetFacts
from scheduler.policies.given import Given, Recipe
from scheduler.policies.parameters import Headroom, HeuristicSettings, PositiveCount, Seconds, Share
from scheduler.policies.sizing import gpus_at_start, loads_by_type
from scheduler.policies.view import View
from scheduler.policy import Prepared

_NEARLY = 1e-6


class HpaSettings(HeuristicSettings):
    target: Headroom = 0.8  # utilisation aimed at (ours: 50-80 % is usual, and less would cost more)
    tolerance: Share = 0.1  # of the ratio to the target, within which nothing changes (Kubernetes' default)
    window_s: Seconds = 300.0  # scale-down stabilisation (Kubernetes' default)
    period_s: Seconds = 15.0  # between two decisions (Kubernetes' default)
    gpus_up: PositiveCount = 4  # at most so many, or 100 %, more per period (Kubernetes' default)


class Hpa:
    """A `Scale` that remembers what it desired."""

    def __init__(self, settings: HpaSettings) -> None:
        self._settings = settings
        self._desired: deque[tuple[float, dict[str, int]]] = deque()

    def __call__(self, view: View, now_s: float, *, early: bool) -> Mapping[str, int] | None:
        settings = self._settings
        if early or (self._desired and now_s - self._desired[-1][0] < settings.period_s - _NEARLY):
            return None
        current = Counter(gpu.gpu_type for gpu in view.snapshot.gpus.values() if gpu.status in ("ready", "starting"))
        loads = loads_by_type(view.facts, view.wanted, headroom=1.0)
        desired = {t: self._of(current[t], load / FULL) for t, load in loads.items()}
        if not self._desired:  # as in Kubernetes, what is on when it begins counts as desired
            desired = {t: max(count, current[t]) for t, count in desired.items()}
        self._desired.append((now_s, desired))
        while self._desired[0][0] <= now_s - settings.window_s and len(self._desired) > 1:
            self._desired.popleft()
        now = self._desired[-1][1]
        held = {t: max(each[t] for _, each in self._desired) for t in now}
        most = {t: current[t] + max(settings.gpus_up, current[t]) for t in now}
        return {t: min(most[t], max(now[t], min(held[t], current[t]))) for t in now}

    def _of(self, current: int, load: float) -> int:
        """The rule itself; `load` is in full GPUs."""
        if current == 0:
            return math.ceil(load / self._settings.target - _NEARLY)
        ratio = load / current / self._settings.target
        if abs(ratio - 1.0) <= self._settings.tolerance + _NEARLY:
            return current
        return max(1, math.ceil(current * ratio - _NEARLY))


def _build(given: Given, settings: HpaSettings) -> Prepared:
    facts = FleetFacts(given.fleet)
    return of_rules(
        given, settings, facts, gpus_at_start(facts, given.trace), dispatch=LeastLoaded(), scale=Hpa(settings)
    )


def recipe() -> Recipe:
    return Recipe(settings=HpaSettings, build=_build)
