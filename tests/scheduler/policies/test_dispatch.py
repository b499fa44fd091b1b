"""Where each rule of dispatch sends who waits."""

from __future__ import annotations

from dataclasses import replace

from scheduler.cluster import Snapshot
from scheduler.plan import Plan
from scheduler.policies.fleet_facts import FleetFacts
from scheduler.policies.registry import prepare
from scheduler.policies.two_choices import Rings
from scheduler.policies.view import View
from scheduler.policy import Budget
from tests.builders import a_trace
from tests.scheduler.clusters import a_cluster, gpu, moves_of, node, two_profiles

FLEET = two_profiles()
EARLY = Budget(work=5, early=True)


def planned(
    name: str, snapshot: Snapshot, gpus: int = 4, budget: Budget = EARLY, *, keep_idle_s: float = 1000.0
) -> Plan:
    parameters = {"gpus": f"h100={gpus}", "keep_idle_s": f"{keep_idle_s}"}
    prepared = prepare(name, FLEET, a_trace("s1:a 0-10"), parameters=parameters)
    return prepared.policy.step(snapshot, 0.0, budget).plan


def targets(plan: Plan) -> dict[str, str | None]:
    return {name: move.target for name, move in moves_of(plan).items()}


def test_round_robin_takes_gpus_in_turn_and_passes_over_full_ones() -> None:
    plan = planned("fixed-round-robin", a_cluster(FLEET, "b8@1 b9@1 a1 a2 a3 a4", on=4))
    assert targets(plan) == {"a1": gpu(0), "a2": gpu(2), "a3": gpu(3), "a4": gpu(0)}


def test_round_robin_goes_on_where_it_stopped() -> None:
    policy = prepare("fixed-round-robin", FLEET, a_trace("s1:a 0-10"), parameters={"gpus": "h100=4"}).policy
    seen = [policy.step(a_cluster(FLEET, "a1", on=4), 0.0, EARLY).plan.moves[0].target for _ in range(5)]
    assert seen == [gpu(0), gpu(1), gpu(2), gpu(3), gpu(0)]


def test_the_least_loaded_gpu_takes_who_waits() -> None:
    plan = planned("fixed-least-loaded", a_cluster(FLEET, "a1@0 a2@0 b1@1 a3@3 a4", on=4))
    assert targets(plan) == {"a4": gpu(2)}


def test_of_equally_loaded_gpus_the_one_beside_the_state_resumes_it() -> None:
    plan = planned("fixed-least-loaded", a_cluster(FLEET, "a1@n1", on=4))
    assert targets(plan) == {"a1": gpu(2)}
    assert moves_of(plan)["a1"].source_node == node(1)


def test_who_idles_longest_makes_room() -> None:
    plan = planned("fixed-least-loaded", a_cluster(FLEET, "b1@0~ b2@0~ b3", on=1), gpus=1)
    assert [(move.session_id, move.kind, move.wave) for move in plan.moves] == [
        ("b1", "offload", 0),
        ("b3", "place", 1),
    ]


def test_who_idles_longer_than_it_may_goes_to_host_memory() -> None:
    """b1 idles for 100 s, b2 for 99."""
    plan = planned("fixed-least-loaded", a_cluster(FLEET, "b1@0~ b2@0~", on=1), gpus=1, keep_idle_s=99.5)
    assert [(move.session_id, move.kind, move.reason) for move in plan.moves] == [("b1", "offload", "idle")]


def test_a_session_has_two_candidates_and_the_freer_one_takes_it() -> None:
    snapshot = a_cluster(FLEET, "a1", on=4)
    view = View(FleetFacts(FLEET), snapshot)
    candidates, others = Rings().walk("a1", list(view.places.values()))
    first, second = (place.gpu.gpu_id for place in candidates)
    assert len(others) == 2
    assert first != second
    chosen = []
    for busy in (first, second):
        sessions = dict(snapshot.sessions)
        other = a_cluster(FLEET, "b1@0", on=4).sessions
        sessions |= {name: replace(session, gpu=busy) for name, session in other.items()}
        plan = planned("two-choices", replace(snapshot, sessions=sessions))
        chosen.append(moves_of(plan)["a1"].target)
    assert chosen == [second, first]


def test_of_two_choices_a_late_gpu_hands_over_to_the_other() -> None:
    """Three of profile a are late on one GPU (300 ms, 250 are promised)."""
    snapshot = a_cluster(FLEET, "a1@0 a2@0 a3@0", on=4)
    plan = planned("two-choices", snapshot, budget=Budget(work=5))
    moved = [move for move in plan.moves if move.kind == "migrate"]
    assert len(moved) == 1
    view = View(FleetFacts(FLEET), snapshot)
    candidates, _ = Rings().walk(moved[0].session_id, list(view.places.values()))
    assert moved[0].target in {place.gpu.gpu_id for place in candidates}


def test_rings_change_little_when_a_gpu_goes() -> None:
    places = list(View(FleetFacts(FLEET), a_cluster(FLEET, "", on=4)).places.values())
    rings = Rings()
    for n in range(30):
        before, _ = rings.walk(f"s{n}", places)
        left, _ = rings.walk(f"s{n}", places[:-1])
        assert {place.gpu.gpu_id for place in before} - {gpu(3)} <= {place.gpu.gpu_id for place in left}
