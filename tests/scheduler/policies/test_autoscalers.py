"""What each autoscaler's published rule says, on fleets where one GPU holds two sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from scheduler.cluster import Session, SessionId, Snapshot
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from scheduler.plan import Plan
from scheduler.policies.registry import prepare
from scheduler.policy import Budget, Policy
from tests.builders import a_fleet, a_trace

FLEET = a_fleet({"pools": [{"gpu_type": "h100", "nodes": 5, "gpus_per_node": 4, "gpus_min": 1}]})
EPOCH, EARLY = Budget(work=20), Budget(work=5, early=True)


def a_policy(name: str, fleet: Fleet = FLEET, parameters: Mapping[str, str] | None = None) -> Policy:
    return prepare(name, fleet, a_trace("s1 0-100"), parameters=parameters or {}).policy


def at_work(active: int, on: int, fleet: Fleet = FLEET) -> Snapshot:
    """So many sessions in turn on the first `on` GPUs."""
    empty = all_off(fleet)
    ready = list(empty.gpus)[:on]
    sessions = {
        SessionId(f"s{n}"): Session(
            session_id=SessionId(f"s{n}"), profile="a", status="active", since_s=float(n), gpu=ready[n % on]
        )
        for n in range(active)
    }
    gpus = {name: replace(gpu, status="ready") if name in ready else gpu for name, gpu in empty.gpus.items()}
    return replace(empty, gpus=gpus, sessions=sessions)


def kept(plan: Plan) -> int:
    return sum(aim in ("keep", "start") for aim in plan.gpus.values())


def after(policy: Policy, *looks: tuple[float, int, int], budget: Budget = EPOCH) -> int:
    """GPUs wanted in the last of some looks (time, active, on)."""
    return [kept(policy.step(at_work(active, on), now_s, budget).plan) for now_s, active, on in looks][-1]


@pytest.mark.parametrize(("active", "gpus"), [(9, 5), (10, 6), (18, 10), (19, 11), (36, 20)])
def test_the_reference_keeps_a_tenth_of_the_capacity_free(active: int, gpus: int) -> None:
    """ceil(active / (2 * 0.9)), within the pool."""
    assert after(a_policy("turboserve"), (0.0, active, 5)) == max(5, gpus)


def test_the_reference_scales_in_once_the_lower_target_has_held_for_five_seconds() -> None:
    policy = a_policy("turboserve")
    assert after(policy, (0.0, 18, 10), (4.0, 9, 10), (8.9, 9, 10)) == 10
    assert after(policy, (9.0, 9, 10)) == 5


def test_the_reference_scales_out_at_once_also_between_epochs() -> None:
    assert after(a_policy("turboserve"), (0.0, 4, 3), (1.0, 9, 3), budget=EARLY) == 5


@pytest.mark.parametrize(("steps", "migrations"), [(0, 0), (1, 1), (3, 2)])
def test_the_reference_takes_so_many_steps_while_they_gain_enough(steps: int, migrations: int) -> None:
    """Three on one of three GPUs: two migrations, of 100 ms each, leave everybody alone."""
    snapshot = at_work(3, 3)
    crowded = next(iter(snapshot.gpus))
    sessions = {name: replace(session, gpu=crowded) for name, session in snapshot.sessions.items()}
    policy = a_policy("turboserve", parameters={"headroom": "0.5", "steps": f"{steps}"})
    plan = policy.step(replace(snapshot, sessions=sessions), 0.0, EPOCH).plan
    assert [move.kind for move in plan.moves] == ["migrate"] * migrations


@pytest.mark.parametrize(
    ("active", "on", "desired"),
    [(16, 10, 10), (17, 10, 10), (18, 10, 12), (14, 10, 9), (15, 10, 10), (32, 10, 20), (4, 10, 3)],
)
def test_hpa_wants_the_ratio_of_utilisation_to_its_target(active: int, on: int, desired: int) -> None:
    """ceil(on * (active / (2 on)) / 0.8), and nothing while that ratio is within 10 % of one."""
    policy = a_policy("hpa", parameters={"window_s": "0"})
    assert after(policy, (0.0, active, on), (15.0, active, on)) == desired


def test_hpa_scales_in_to_the_most_that_it_desired_in_its_window() -> None:
    policy = a_policy("hpa")
    looks = [(15.0 * n, 8, 10) for n in range(1, 20)]
    assert after(policy, (0.0, 16, 10), *looks) == 10
    assert after(policy, (300.0, 8, 10)) == 5


def test_hpa_starts_four_gpus_or_as_many_as_there_are_and_decides_every_fifteen_seconds() -> None:
    assert after(a_policy("hpa"), (0.0, 30, 2)) == 6
    assert after(a_policy("hpa"), (0.0, 30, 6)) == 12
    assert after(a_policy("hpa"), (0.0, 16, 10), (10.0, 20, 10)) == 10
    assert after(a_policy("hpa"), (0.0, 16, 10), (15.0, 20, 10)) == 13


def test_llumnix_keeps_its_average_freeness_within_limits() -> None:
    """(2 on - active) / active: below 0.1 GPUs start, above 0.3 they go once that has held."""
    policy = a_policy("llumnix")
    assert after(policy, (0.0, 19, 10)) == 11
    assert after(policy, (5.0, 18, 10)) == 10
    assert after(policy, (10.0, 14, 10), (35.0, 14, 10)) == 10
    assert after(policy, (40.0, 14, 10)) == 10, "ceil(7 * 1.3) is what they are"
    assert after(policy, (45.0, 12, 10), (75.0, 12, 10)) == 8


def test_llumnix_pairs_the_least_free_with_the_freest() -> None:
    snapshot = at_work(3, 3)
    names = list(snapshot.gpus)
    sessions = {name: replace(session, gpu=names[0]) for name, session in snapshot.sessions.items()}
    plan = a_policy("llumnix").step(replace(snapshot, sessions=sessions), 0.0, EPOCH).plan
    assert [(move.source, move.target) for move in plan.moves] == [(names[0], names[1])]
    even = a_policy("llumnix").step(at_work(4, 2), 0.0, EPOCH).plan
    assert not even.moves


def test_sticky_sessions_stay_on_a_gpu_that_is_to_go() -> None:
    policy = a_policy("sticky-autoscale", parameters={"hold_s": "0"})
    first = policy.step(at_work(4, 4), 0.0, EPOCH).plan
    assert set(list(first.gpus.values())[:4]) == {"keep"}, "what is on when it begins counts as wanted"
    plan = policy.step(at_work(4, 4), 5.0, EPOCH).plan
    assert sorted(plan.gpus[name] for name in list(plan.gpus)[:4]) == ["drain", "keep", "keep", "keep"]
    assert not plan.moves


def test_q_learning_learns_not_to_run_short() -> None:
    """The load stays; where it began with too few GPUs it ends with enough, and with few too many."""
    policy = a_policy("q-learning", parameters={"explore": "0"})
    on = 3
    for epoch in range(60):
        on = after(policy, (10.0 * epoch, 16, on))
    assert 9 <= on <= 12


def test_q_learning_draws_from_its_seed() -> None:
    def run(seed: int) -> list[int]:
        policy = prepare("q-learning", FLEET, a_trace("s1 0-100"), seed=seed, parameters={"explore": "0.5"}).policy
        return [after(policy, (10.0 * n, 12, 8)) for n in range(20)]

    assert run(1) == run(1)
    assert run(1) != run(2)
