"""A fleet whose sessions come, idle, return and close at random, and an executor that may be slow and fail.

Decides fleets and sequences of events from a seed; must never know a policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from scheduler import events
from scheduler.cluster import GpuId, SessionId, Snapshot
from scheduler.cluster_checks import validate
from scheduler.cluster_state import ClusterState, all_off
from scheduler.fleet import Fleet
from scheduler.plan import Decision
from scheduler.policy import Budget, Policy
from tests.builders import a_fleet
from tests.scheduler.clusters import become_ready, switched, two_profiles
from tests.scheduler.test_gpu_count import several_types

EPOCH = Budget(work=40)
EARLY = Budget(work=5, early=True)
SESSIONS_MAX = 40


def fleets() -> dict[str, Fleet]:
    """One profile; two and little host memory; three types."""
    little = {"pools": [{"gpu_type": "h100", "nodes": 2, "gpus_per_node": 4, "gpus_min": 1, "host_memory_gib": 24.0}]}
    return {
        "one": a_fleet({"pools": [{"gpu_type": "h100", "nodes": 3, "gpus_per_node": 4}]}),
        "two": two_profiles(little),
        "types": several_types(),
    }


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a policy was asked and what it answered."""

    snapshot: Snapshot
    now_s: float
    budget: Budget
    decision: Decision


@dataclass(kw_only=True)
class Loop:
    """Virtual time in which a policy is asked."""

    fleet: Fleet
    policy: Policy
    state: ClusterState
    rng: np.random.Generator
    fails: bool  # whether moves fail and GPUs are lost
    now_s: float = 0.0
    opened: int = 0
    wanted: float = 12.0  # sessions aimed at
    steps: list[Step] = field(default_factory=list)

    def run(self, epochs: int) -> list[Step]:
        """Each epoch has a step at its boundary and a few early ones."""
        for _ in range(epochs):
            self.now_s = (self.now_s // self.fleet.epoch_s + 1) * self.fleet.epoch_s
            self.wanted = float(np.clip(self.wanted + self.rng.normal(0, 4), 0, SESSIONS_MAX))
            self._tell(events.EpochEnded())
            self._step(EPOCH)
            for _ in range(int(self.rng.integers(0, 4))):
                self.now_s += self.fleet.epoch_s / 5
                self._users()
                self._time_passes()
                if any(session.status == "waiting" for session in self.state.snapshot().sessions.values()):
                    self._step(EARLY)
            self.now_s += self.fleet.epoch_s / 4
            self._users()
            self._time_passes()
        return self.steps

    def _tell(self, event: events.Event) -> None:
        self.state.apply(event, self.now_s)

    def _users(self) -> None:
        sessions = list(self.state.snapshot().sessions.values())
        profiles = list(self.fleet.profiles)
        for _ in range(int(self.rng.poisson(max(0.0, self.wanted - len(sessions)) / 2))):
            self.opened += 1
            profile = profiles[int(self.rng.integers(len(profiles)))]
            priority = int(self.rng.random() < 0.2)
            name = SessionId(f"{profile}{self.opened}")
            self._tell(events.SessionOpened(session_id=name, profile=profile, priority=priority))
        for session in sessions:
            drawn = self.rng.random()
            if drawn < 0.06 or (drawn < 0.3 and len(sessions) > self.wanted):
                self._tell(events.SessionClosed(session_id=session.session_id))
            elif drawn > 0.7 and session.status in ("idle", "suspended"):
                self._tell(events.SessionActivated(session_id=session.session_id))
            elif drawn > 0.85 and session.status in ("active", "waiting"):
                self._tell(events.SessionIdled(session_id=session.session_id))

    def _time_passes(self) -> None:
        snapshot = self.state.snapshot()
        for session_id in list(snapshot.moves):
            drawn = self.rng.random()
            if drawn < 0.8:
                self._tell(events.MoveEnded(session_id=session_id))
            elif self.fails and drawn < 0.9:
                self._tell(events.MoveFailed(session_id=session_id))
        for event in become_ready(self.state.snapshot(), self.now_s):
            self._tell(event)
        if self.fails and self.rng.random() < 0.05:
            on = [gpu.gpu_id for gpu in snapshot.gpus.values() if gpu.status in ("ready", "draining")]
            if on:
                self._tell(events.GpuLost(gpu_id=on[int(self.rng.integers(len(on)))]))
        for gpu in snapshot.gpus.values():
            if gpu.status == "lost" and self.rng.random() < 0.3:
                self._tell(events.GpuStopped(gpu_id=gpu.gpu_id))

    def _step(self, budget: Budget) -> None:
        snapshot = self.state.snapshot()
        decision = self.policy.step(snapshot, self.now_s, budget)
        self.steps.append(Step(snapshot=snapshot, now_s=self.now_s, budget=budget, decision=decision))
        for event in self._carried_out(decision, snapshot):
            self._tell(event)
        assert not validate(self.state.snapshot(), self.fleet)

    def _carried_out(self, decision: Decision, snapshot: Snapshot) -> Iterator[events.Event]:
        """First waves begin; first places end at once."""
        yield from decision.events
        yield from switched(decision.plan, snapshot, self.fleet, self.now_s)
        for move in decision.plan.moves:
            if move.wave == 0:
                yield events.MoveStarted(
                    session_id=move.session_id, kind=move.kind, source=move.source, target=move.target
                )
            if move.wave == 0 and move.kind == "place":
                yield events.MoveEnded(session_id=move.session_id)


def a_loop(fleet: Fleet, policy: Policy, seed: int, *, on: int = 3, fails: bool = False) -> Loop:
    """`on` GPUs are ready at the beginning."""
    state = ClusterState(all_off(fleet))
    for gpu_id in list(state.snapshot().gpus)[:on]:
        state.apply(events.GpuReady(gpu_id=GpuId(gpu_id)), 0.0)
    return Loop(fleet=fleet, policy=policy, state=state, rng=np.random.default_rng(seed), fails=fails)
