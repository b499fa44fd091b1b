"""An autoscaler that learns: tabular Q-learning on utilisation and its trend, over GPUs that share who waits.

Decides as published for clouds (Barrett, Howley, Duggan 2013; Horovitz, Arian 2018): a state is a bin of utilisation
and whether it falls, stays or rises; an action is to have fewer, as many or more GPUs; after an epoch the action is
rewarded and Q(s, a) += rate * (reward + discount * max Q(s', .) - Q(s, a)); it explores with a small chance. It learns
while it runs. We decide: utilisation is the load of those who want chunks over the GPUs that are ready or start; more
and fewer are one GPU or 10 % of them; the reward is minus the GPUs beyond 80 % utilisation, and minus ten times those
that are missing, as shares of those wanted; each type has a table of its own; it begins with what the reward would be
if the load stayed, so that it does not begin foolishly; sessions never migrate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scheduler.policies.dispatching import Dispatching, LeastLoaded, Rules
from scheduler.policies.fleet_facts import FULL, FleetFacts
from scheduler.policies.given import Given, Recipe
from scheduler.policies.parameters import Headroom, PolicySettings, Positive, Share
from scheduler.policies.sizing import gpus_at_start, loads_by_type
from scheduler.policies.view import View
from scheduler.policy import Prepared

BINS_PER_GPU = 20  # of utilisation; the last one is for all beyond `UTILISATION_MAX`
UTILISATION_MAX = 1.5
ACTIONS = (-2, -1, 0, 1, 2)  # in steps
_LOAD_MIN = 0.05  # of a GPU, to divide by
_STEADY = 0.02  # a change of utilisation below this is none


class QLearningSettings(PolicySettings):
    rate: Share = 0.2  # of learning (ours; 0.1 to 0.5 is usual)
    discount: Share = 0.5  # of the reward to come (as Barrett et al.)
    explore: Share = 0.02  # chance of a random action (ours: what runs live explores little)
    target: Headroom = 0.8  # utilisation beyond which GPUs are missing (ours, as for `hpa`)
    step: Share = 0.1  # of the GPUs that are on, at least one (ours)
    missing_weight: Positive = 10.0  # what a missing GPU counts in GPUs too many (ours)


@dataclass(slots=True)
class _Learner:
    """One GPU type's table and what it did last."""

    table: npt.NDArray[np.float64]  # [bins, trends, actions]
    last: tuple[int, int, int] | None = None
    utilisation: float = 0.0
    used: bool = field(default=False)


class QLearning:
    """A `Scale` that learns; equal seeds and loads give equal decisions."""

    def __init__(self, settings: QLearningSettings, facts: FleetFacts, seed: int) -> None:
        self._settings, self._rng = settings, np.random.default_rng(seed)
        self._learners = {t: _Learner(table=self._expected()) for t in facts.gpu_types}

    def __call__(self, view: View, now_s: float, *, early: bool) -> Mapping[str, int] | None:  # noqa: ARG002
        if early:
            return None
        on = Counter(gpu.gpu_type for gpu in view.snapshot.gpus.values() if gpu.status in ("ready", "starting"))
        loads = loads_by_type(view.facts, view.wanted, headroom=1.0)
        return {t: self._decide(self._learners[t], on[t], load / FULL) for t, load in loads.items()}

    def _decide(self, learner: _Learner, on: int, load: float) -> int:
        utilisation = load / max(on, 1) if on or not load else UTILISATION_MAX
        change = utilisation - learner.utilisation
        trend = 1 if not learner.used or abs(change) < _STEADY else 2 if change > 0 else 0
        state = (min(int(utilisation * BINS_PER_GPU), learner.table.shape[0] - 1), trend)
        if learner.last is not None:
            best = float(learner.table[state].max())
            wanted = self._reward(on, load) + self._settings.discount * best
            learner.table[learner.last] += self._settings.rate * (wanted - learner.table[learner.last])
        explores = self._rng.random() < self._settings.explore
        action = int(self._rng.integers(len(ACTIONS))) if explores else int(learner.table[state].argmax())
        learner.last, learner.utilisation, learner.used = (*state, action), utilisation, True
        return on + ACTIONS[action] * self._step(on)

    def _step(self, on: int) -> int:
        return max(1, math.ceil(self._settings.step * on))

    def _reward(self, on: float, load: float) -> float:
        wanted = load / self._settings.target
        missing, idle = max(0.0, wanted - on), max(0.0, on - wanted)
        return -(idle + self._settings.missing_weight * missing) / max(wanted, _LOAD_MIN)

    def _expected(self) -> npt.NDArray[np.float64]:
        """What each action would be worth, for good, if the load stayed or went on as it did."""
        bins = int(UTILISATION_MAX * BINS_PER_GPU) + 1
        table = np.zeros((bins, 3, len(ACTIONS)))
        for index in range(bins):
            for trend, factor in enumerate((0.95, 1.0, 1.05)):
                load = (index + 0.5) / BINS_PER_GPU * factor
                for a, action in enumerate(ACTIONS):
                    on = max(_LOAD_MIN, 1 + action * self._settings.step)
                    table[index, trend, a] = self._reward(on, load) / (1 - min(self._settings.discount, 0.99))
        return table


def _build(given: Given, settings: QLearningSettings) -> Prepared:
    facts = FleetFacts(given.fleet)
    scale = QLearning(settings, facts, given.seed)
    rules = Rules(name=given.name, dispatch=LeastLoaded(), scale=scale)
    return given.heuristic(Dispatching(given.fleet, rules, facts), gpus_at_start(facts, given.trace))


def recipe() -> Recipe:
    return Recipe(settings=QLearningSettings, build=_build)
