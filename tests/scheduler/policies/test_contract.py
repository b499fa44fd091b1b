"""What every registered policy keeps to, whatever happens to a fleet."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from scheduler.fleet import Fleet
from scheduler.patience import patience_s
from scheduler.plan_check import check_plan
from scheduler.policies.fleet_facts import NEVER, FleetFacts
from scheduler.policies.orders import Orders
from scheduler.policies.registry import POLICIES, prepare
from scheduler.policies.view import View
from tests.builders import a_trace
from tests.scheduler.policies.loops import Step, a_loop, fleets

FLEETS = fleets()
SEEDS = (1, 2, 3)
EPOCHS = 25

on_every_fleet = pytest.mark.parametrize("fleet_name", FLEETS)
for_every_policy = pytest.mark.parametrize("name", POLICIES)


@cache
def steps_of(name: str, fleet_name: str, seed: int) -> tuple[Step, ...]:
    """A run in which executors fail in every other seed."""
    fleet = FLEETS[fleet_name]
    prepared = prepare(name, fleet, a_trace(_sessions(fleet)), seed=seed)
    return tuple(a_loop(fleet, prepared.policy, seed, fails=seed % 2 == 0).run(EPOCHS))


def _sessions(fleet: Fleet) -> str:
    profiles = list(fleet.profiles)
    return "; ".join(f"s{n}:{profiles[n % len(profiles)]} {n}-{n + 100}" for n in range(8))


@for_every_policy
@on_every_fleet
@pytest.mark.parametrize("seed", SEEDS)
def test_plans_may_be_carried_out(name: str, fleet_name: str, seed: int) -> None:
    steps = steps_of(name, fleet_name, seed)
    assert any(step.decision.plan.moves for step in steps)
    for step in steps:
        assert not check_plan(step.snapshot, FLEETS[fleet_name], step.decision.plan)


@for_every_policy
@on_every_fleet
def test_early_steps_migrate_only_the_late_and_drain_nothing(name: str, fleet_name: str) -> None:
    early = [step for seed in SEEDS for step in steps_of(name, fleet_name, seed) if step.budget.early]
    assert early
    for step in early:
        migrations = [move.reason for move in step.decision.plan.moves if move.kind == "migrate"]
        assert not migrations or (name.startswith("epochal") and set(migrations) <= {"late", "repair"})
        for gpu_id, aim in step.decision.plan.gpus.items():
            assert aim != "drain" or step.snapshot.gpus[gpu_id].status == "draining"
        assert not step.decision.scale_in_wanted


@for_every_policy
@on_every_fleet
@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_waits_while_a_gpu_has_room(name: str, fleet_name: str, seed: int) -> None:
    """Room that the plan leaves unused. Where host memory is short, or links are, who has to wait is another matter."""
    facts = FleetFacts(FLEETS[fleet_name])
    offloads = FLEETS[fleet_name].pools[0].host_memory_gib is None
    for step in steps_of(name, fleet_name, seed):
        plan, snapshot = step.decision.plan, step.snapshot
        left = [s for s in View(facts, snapshot).waiting if plan.seats[s.session_id].gpu is None]
        if name.startswith("epochal"):  # who finds no place on time may wait for one
            left = [s for s in left if step.now_s >= s.since_s + patience_s(FLEETS[fleet_name], s.profile)]
        if not left or any(move.kind != "place" for move in plan.moves):
            continue
        orders = Orders(View(facts, snapshot), plan.gpus)
        for move in plan.moves:
            assert move.target is not None
            place = next(place for place in orders.receiving if place.gpu.gpu_id == move.target)
            orders.place(snapshot.sessions[move.session_id], place)
        for session in left:
            free = [
                place.gpu.gpu_id
                for place in orders.receiving
                if orders.outcome(place, session) != NEVER
                and (offloads or place.free_mib >= facts.state_mib[facts.column[session.profile]])
            ]
            assert not free, f"{session.session_id} waits at {step.now_s} s"


@for_every_policy
@on_every_fleet
def test_equal_sequences_give_equal_decisions(name: str, fleet_name: str) -> None:
    again = steps_of.__wrapped__(name, fleet_name, SEEDS[0])
    for step, other in zip(steps_of(name, fleet_name, SEEDS[0]), again, strict=True):
        assert step.decision.plan == other.decision.plan


@for_every_policy
@on_every_fleet
def test_pools_never_fall_below_their_least(name: str, fleet_name: str) -> None:
    """But for GPUs that are lost, and those that were not on to begin with."""
    fleet = FLEETS[fleet_name]
    for step in steps_of(name, fleet_name, 1):
        before, after = Counter[str](), Counter[str]()
        for gpu_id, aim in step.decision.plan.gpus.items():
            pool = step.snapshot.gpus[gpu_id].node.partition("/")[0]
            before[pool] += step.snapshot.gpus[gpu_id].status in ("ready", "starting")
            after[pool] += aim in ("keep", "start")
        for index, pool_of in enumerate(fleet.pools):
            assert after[str(index)] >= min(before[str(index)], pool_of.gpus_min)
