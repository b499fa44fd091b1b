"""Why sessions move or stay, on clusters whose answers can be worked out by hand.

A GPU runs n sessions of profile a in 100 n ms and of b in 150 n ms, one after the other; the target is 250 ms.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scheduler.cluster import SessionId, Snapshot
from scheduler.cluster_checks import validate
from scheduler.decision_json import DecisionRecord, decision_json, parse_decision
from scheduler.explain import Explanation, explain
from scheduler.fleet import Fleet
from scheduler.plan import Seat
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings
from tests.scheduler.clusters import WORK, a_cluster, gpu, node, two_profiles

FLEET = two_profiles()
UNHURRIED = two_profiles({"target.chunk_latency_ms": 2000.0})


def a_record(fleet: Fleet, snapshot: Snapshot, **settings: Any) -> DecisionRecord:
    chosen = PlannerSettings(**({"pay": False} | settings))
    decision = Planner(fleet, chosen).step(snapshot, 0.0, WORK)
    return DecisionRecord(fleet=fleet, settings=chosen, snapshot=snapshot, now_s=0.0, decision=decision)


def explained(record: DecisionRecord, name: str) -> Explanation:
    return explain(record, SessionId(name), WORK)


def the_mover(record: DecisionRecord) -> str:
    (move,) = record.decision.plan.moves
    return move.session_id


def tiers(found: Explanation) -> Mapping[str, tuple[float, float, float | None]]:
    return {one.tier: (one.before, one.value, one.alternative) for one in found.tiers}


def test_a_late_gpu_is_the_constraint_and_staying_would_be_late() -> None:
    record = a_record(FLEET, a_cluster(FLEET, "a1@0 a2@0 a3@0"))
    found = explained(record, the_mover(record))
    assert (found.kind, found.reason, found.constraint.tier) == ("migrate", "late", "meet")
    assert found.constraint.text == f"GPU {gpu(0)} would run at 300 ms, above the 250 ms target of a"
    assert tiers(found)["meet"] == (150.0, 0.0, 150.0)  # 3 sessions, 50 ms each
    assert found.alternative is not None
    assert found.alternative.difference is not None
    assert (found.alternative.difference.tier, found.alternative.difference.by) == ("meet", 150.0)
    assert found.chosen_among is not None
    assert found.chosen_among.startswith("2 equal sessions beside it could have gone instead")


def test_a_drained_gpu_is_the_constraint() -> None:
    record = a_record(FLEET, a_cluster(FLEET, "a1@0", status={0: "draining"}))
    found = explained(record, "a1")
    assert found.constraint.tier == "leave"
    assert found.constraint.text == f"GPU {gpu(0)} is to be emptied"
    assert tiers(found)["leave"] == (1.0, 0.0, 1.0)
    assert (found.source, found.target) == (Seat(gpu=gpu(0)), Seat(gpu=gpu(1)))


def test_the_worst_gpu_is_the_constraint_where_nobody_is_late() -> None:
    record = a_record(UNHURRIED, a_cluster(UNHURRIED, "a1@0 a2@0 a3@0 a4@0"))
    name = record.decision.plan.moves[0].session_id
    found = explained(record, name)
    assert found.reason == "balance"
    assert found.constraint.tier == "balance"
    assert found.constraint.figures == {"latency_ms": 300.0, "worst_ms": 200.0, "gain_share": 1 / 3}
    # Two of four go. One fewer leaves three behind.
    assert tiers(found)["balance"] == (400.0, 200.0, 300.0)


def test_a_memory_that_is_too_full_is_the_constraint() -> None:
    record = a_record(FLEET, a_cluster(FLEET, "b1@0 b2@0 b3@0"))
    found = explained(record, the_mover(record))
    assert found.constraint.tier == "repair"
    assert found.constraint.figures == {"held_gib": 24.0, "room_gib": 16.0}


def test_a_batch_that_may_not_run_is_the_constraint() -> None:
    fleet = two_profiles({"profiles.a.state_gib": 1.0, "budget.moves_per_epoch": 1})
    record = a_record(fleet, a_cluster(fleet, "a1@0 a2@0 a3@0 a4@0 a5@0"))
    found = explained(record, the_mover(record))
    assert (found.kind, found.constraint.tier) == ("migrate", "repair")
    assert found.constraint.text == f"a batch of 5 sessions may not run on GPU {gpu(0)}"
    assert tiers(found)["repair"] == (5.0, 0.0, 5.0)


def test_the_cost_of_a_migration_is_that_of_its_links() -> None:
    record = a_record(FLEET, a_cluster(FLEET, "a1@0", status={0: "draining"}))
    found = explained(record, "a1")
    assert found.state_bytes == 4 * 2**30
    assert abs(found.transfer_ms - (8.0 + 4 * 2**30 / 300e9 * 1000)) < 1e-6


def test_who_waits_enters_and_otherwise_is_unserved() -> None:
    record = a_record(FLEET, a_cluster(FLEET, "a1@0 b1"))
    found = explained(record, "b1")
    assert (found.kind, found.constraint.tier, found.constraint.figures["waited_s"]) == ("place", "serve", 99.0)
    assert tiers(found)["serve"] == (1.0, 0.0, 1.0)
    assert found.alternative is not None
    assert found.alternative.what == "it keeps waiting"


def test_an_equal_behind_it_in_the_queue_does_not_take_its_place() -> None:
    record = a_record(FLEET, a_cluster(FLEET, "b1 b2 b3 b4 b5", on=2))
    found = explained(record, "b1")
    assert tiers(found)["serve"] == (5.0, 1.0, 2.0)
    assert found.alternative is not None
    assert found.alternative.what == "it keeps waiting, and 1 session of its profile behind it"


def test_who_is_not_placed_is_told_what_the_gpus_lack() -> None:
    record = a_record(FLEET, a_cluster(FLEET, "b1@0 b2@0 b3", on=1))
    found = explained(record, "b3")
    assert (found.kind, found.target, found.constraint.tier) == (None, Seat(), "serve")
    assert found.constraint.figures == {
        "gpus": 1,
        "gpus_without_memory": 1,
        "gpus_with_full_batch": 0,
        "free_max_gib": 0.0,
        "state_gib": 8.0,
    }


def test_nobody_is_placed_where_no_gpu_is_ready() -> None:
    record = a_record(FLEET, a_cluster(FLEET, "a1", on=0))
    assert explained(record, "a1").constraint.text == "no GPU is ready to take sessions"


def test_a_settled_session_stays_because_its_best_move_is_worse() -> None:
    """Beside b1 it would take 250 ms, and the worst is 150 ms now."""
    found = explained(a_record(UNHURRIED, a_cluster(UNHURRIED, "a1@0 b1@1")), "a1")
    assert (found.kind, found.constraint.tier) == (None, "balance")
    assert tiers(found)["balance"] == (150.0, 150.0, 250.0)
    assert found.alternative is not None
    assert found.alternative.what == f"it goes to GPU {gpu(1)}, and all else is as planned"


def test_a_used_up_budget_is_told() -> None:
    fleet = two_profiles({"budget.moves_per_epoch": 0})
    record = a_record(fleet, a_cluster(fleet, "a1@0 a2@0 a3@0"))
    found = explained(record, "a1")
    assert found.constraint.text.endswith("the budget of 0 migrations in this epoch is used up")
    assert found.alternative is None


def test_an_idle_state_gives_way_to_who_needs_its_room() -> None:
    record = a_record(FLEET, a_cluster(FLEET, "b1@0~ b2@0~ b3", on=1))
    name = next(move.session_id for move in record.decision.plan.moves if move.kind == "offload")
    found = explained(record, name)
    assert found.reason == "memory"
    assert found.constraint.figures == {"held_gib": 16.0, "room_gib": 8.0}
    assert found.target == Seat(node=node(0))
    # The other idle state could have given way as well, so holding this one costs nothing.
    assert found.alternative is not None
    assert found.alternative.difference is None


def test_an_idle_state_that_alone_has_to_go_is_worth_a_session() -> None:
    record = a_record(FLEET, a_cluster(FLEET, "b1@0~ b2@0 b3", on=1))
    found = explained(record, "b1")
    assert (found.kind, found.reason) == ("offload", "memory")
    assert tiers(found)["serve"] == (1.0, 0.0, 1.0)


def test_a_session_on_its_way_is_not_moved_again() -> None:
    snapshot = a_cluster(FLEET, "a1@0 a2@0", moves={"a1": ("migrate", 0, 1)})
    found = explained(a_record(FLEET, snapshot), "a1")
    assert found.kind is None
    assert found.constraint.text.startswith("it is on its way (migrate) since 1.0 s")


def test_slack_tells_which_of_equals_goes() -> None:
    snapshot = a_cluster(FLEET, "a1@0 a2@0 a3@0")
    sessions = {
        name: replace(session, slack_ms=900.0 if name == "a2" else 100.0) for name, session in snapshot.sessions.items()
    }
    record = a_record(FLEET, replace(snapshot, sessions=sessions))
    assert the_mover(record) == "a2"
    assert "(slack 900 ms, it never moved)" in (explained(record, "a2").chosen_among or "")


@given(st.lists(st.sampled_from(["a@0", "a@1", "b@0", "b@2", "a", "b", "a@0~", "b@1~", "a@n0", "b@n1~"]), max_size=9))
@settings(max_examples=40, deadline=None)
def test_every_session_of_any_decision_can_be_explained(words: list[str]) -> None:
    """Whatever is written down can be read again, and an alternative never beats a plan that is proven optimal."""
    named = " ".join(f"{word[0]}{number}{word[1:]}" for number, word in enumerate(words))
    snapshot = a_cluster(FLEET, named, on=3, status={1: "draining"})
    assume(not validate(snapshot, FLEET))
    record = a_record(FLEET, snapshot)
    read = parse_decision(json.loads(json.dumps(decision_json(record))), "d.json")
    assert read == record
    planned = {tier.tier: tier for tier in record.decision.report.tiers}
    for session_id, session in snapshot.sessions.items():
        found = explain(read, session_id, WORK)
        assert (found.kind is None) == (found.target == found.source)
        assert found.status == session.status
        json.dumps(asdict(found), allow_nan=False)
        other = found.alternative.difference if found.alternative is not None else None
        if other is not None and other.by < 0:
            assert not planned[other.tier].proven
