"""What one step of the planner does, rule by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.cluster import Migrated, SessionId, Snapshot
from scheduler.cluster_checks import validate
from scheduler.fleet import Fleet
from scheduler.gpu_decision import GpuDecision, keep_what_is_on
from scheduler.plan import Plan
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings
from scheduler.policy import Budget
from solvers.placement.meter import Meter
from tests.scheduler.clusters import WORK, a_cluster, a_plan_for, gpu, moves_of, node, two_profiles

FLEET = two_profiles()


def test_who_waits_is_placed() -> None:
    plan = a_plan_for(FLEET, a_cluster(FLEET, "a1 b1"))
    assert {move.kind for move in plan.moves} == {"place"}
    assert all(plan.seats[name].gpu in (gpu(0), gpu(1)) for name in plan.seats)
    assert plan.version == 1


def test_a_settled_fleet_is_left_alone() -> None:
    snapshot = a_cluster(FLEET, "a1@0 a2@0 b1@1 a3@1~")
    plan = a_plan_for(FLEET, replace(snapshot, version=7))
    assert plan.moves == ()
    assert plan.version == 7


def test_equal_snapshots_and_work_give_equal_decisions() -> None:
    snapshot = a_cluster(FLEET, "a1@0 a2@0 a3@0 b1 b2 a4@n0", on=3)
    first, second = (Planner(FLEET).step(snapshot, 3.0, WORK) for _ in range(2))
    assert first.plan == second.plan
    assert first.report.tiers == second.report.tiers


def test_a_state_in_host_memory_is_resumed_on_its_node() -> None:
    plan = a_plan_for(FLEET, a_cluster(FLEET, "a1@n1", on=4))
    move = moves_of(plan)["a1"]
    assert (move.kind, move.source_node) == ("resume", node(1))
    # Two empty GPUs of equal speed: nothing but the node tells them apart for a session that resumes alone.
    assert move.state_bytes == 4 * 2**30


def test_among_equals_who_waits_longest_is_placed() -> None:
    plan = a_plan_for(FLEET, a_cluster(FLEET, "b1 b2 b3 b4", on=1))
    assert set(moves_of(plan, "place")) == {"b1", "b2"}


def test_a_higher_priority_comes_first_also_within_a_profile() -> None:
    snapshot = a_cluster(FLEET, "b1 b2 b3", on=1)
    sessions = dict(snapshot.sessions)
    last = sessions[next(reversed(sessions))]
    sessions[last.session_id] = replace(last, priority=5)
    plan = a_plan_for(FLEET, replace(snapshot, sessions=sessions))
    assert set(moves_of(plan, "place")) == {"b1", "b3"}


def test_who_waits_too_long_comes_before_smaller_states() -> None:
    """A b needs half of the GPU; two more a would fit as well, and served sessions are counted, not weighed."""
    snapshot = a_cluster(FLEET, "b1 a1@0 a2@0 a3 a4", on=1)
    young = PlannerSettings(urgent_after_s=1000.0)
    assert set(moves_of(a_plan_for(FLEET, snapshot, young))) == {"a3", "a4"}
    urgent = PlannerSettings(urgent_after_s=99.5)
    assert set(moves_of(a_plan_for(FLEET, snapshot, urgent))) == {"b1"}


def test_idle_sessions_never_hold_up_active_ones() -> None:
    plan = a_plan_for(FLEET, a_cluster(FLEET, "b1@0~ b2@0~ b3", on=1))
    needed = [move for move in plan.moves if move.reason == "memory"]
    assert [move.kind for move in needed] == ["offload"]
    assert needed[0].wave < moves_of(plan, "place")["b3"].wave


def test_idle_sessions_stay_where_host_memory_is_full() -> None:
    fleet = two_profiles({"pools.0.host_memory_gib": 4.0})
    plan = a_plan_for(fleet, a_cluster(fleet, "b1@0~ b2@0~ b3", on=1))
    assert plan.moves == ()
    assert plan.seats[SessionId("b3")].gpu is None


def test_idle_sessions_stay_while_there_is_room() -> None:
    assert a_plan_for(FLEET, a_cluster(FLEET, "a1@0 a2@0~ a3@0~", on=1), now_s=1e6).moves == ()


def test_a_draining_gpu_is_emptied_and_receives_nobody() -> None:
    snapshot = a_cluster(FLEET, "a1@0 a2@0~ a3", status={0: "draining"})
    plan = a_plan_for(FLEET, snapshot)
    assert plan.gpus[gpu(0)] == "drain"
    assert moves_of(plan)["a1"].kind == "migrate"
    assert moves_of(plan)["a1"].reason == "drain"
    assert moves_of(plan)["a2"].kind == "offload"
    assert moves_of(plan)["a3"].target == gpu(1)


def test_an_empty_draining_gpu_is_stopped() -> None:
    assert a_plan_for(FLEET, a_cluster(FLEET, "a1@1", status={0: "draining"})).gpus[gpu(0)] == "stop"


def test_sessions_of_a_lost_gpu_are_placed_anew() -> None:
    snapshot = a_cluster(FLEET, "a1@0 a2@0~", status={0: "lost"})
    assert validate(snapshot, FLEET)
    plan = a_plan_for(FLEET, snapshot)
    assert moves_of(plan)["a1"].kind == "place"
    assert plan.seats[SessionId("a2")].gpu is None


def test_a_batch_that_may_not_run_is_repaired_by_a_migration() -> None:
    plan = a_plan_for(FLEET, a_cluster(two_profiles(), "b1@0 b2@0 b3@0"))
    assert [move.kind for move in plan.moves] == ["migrate"]


def test_where_nobody_can_migrate_the_last_to_come_gives_way() -> None:
    plan = a_plan_for(FLEET, a_cluster(FLEET, "a1@0 a2@0 a3@0 a4@0 a5@0", on=1))
    assert list(moves_of(plan)) == ["a5"]
    assert moves_of(plan)["a5"].kind == "offload"
    assert moves_of(plan)["a5"].reason == "repair"


def test_a_move_in_flight_is_kept_and_uses_budget() -> None:
    fleet = two_profiles({"budget.moves_per_epoch": 1})
    snapshot = a_cluster(fleet, "a1@0 a2@0 a3@0", moves={"a1": ("migrate", 0, 1)})
    plan = a_plan_for(fleet, snapshot)
    assert plan.moves == ()
    assert next(iter(plan.seats.values())).gpu == gpu(1)


def test_a_budget_that_is_exceeded_already_allows_nothing_more() -> None:
    fleet = two_profiles({"budget.moves_per_epoch": 1})
    moving = {"a1": ("migrate", 0, 1), "a2": ("migrate", 0, 1)}
    plan = a_plan_for(fleet, a_cluster(fleet, "a1@0 a2@0 a3@0 a4@0", on=3, moves=moving))  # type: ignore[arg-type]
    assert not moves_of(plan, "migrate")


def test_memory_of_a_transfer_is_taken_on_both_sides() -> None:
    snapshot = a_cluster(FLEET, "b1@0~ b2@1 b3", moves={"b1": ("offload", 0, None)}, status={1: "draining"})
    plan = a_plan_for(FLEET, snapshot)
    on_first = [move for move in plan.moves if move.target == gpu(0)]
    assert len(on_first) == 1, "8 of 16 GiB are taken until the transfer has ended"


def test_no_gpu_is_no_plan_but_no_failure() -> None:
    planner = Planner(FLEET, PlannerSettings(pay=False))
    decision = planner.step(a_cluster(FLEET, "a1 a2@n0", on=0), 0.0, WORK)
    assert decision.plan.moves == ()
    assert decision.report.headline.value == 2
    assert decision.report.warnings == ("2 sessions have no GPU",)


def test_the_next_step_is_when_a_gpu_is_ready() -> None:
    assert Planner(FLEET).step(a_cluster(FLEET), 0.0, WORK).next_step_s == 10.0
    assert Planner(FLEET).step(a_cluster(FLEET, status={2: "starting"}), 0.0, WORK).next_step_s == 5.0


def test_a_gpu_that_is_chosen_to_go_is_emptied_at_once() -> None:
    def without_first(snapshot: Snapshot, fleet: Fleet, now_s: float, meter: Meter) -> GpuDecision:
        kept = keep_what_is_on(snapshot, fleet, now_s, meter)
        return GpuDecision(aims={**kept.aims, gpu(0): "drain", gpu(2): "start"})

    plan = Planner(FLEET, count_gpus=without_first).step(a_cluster(FLEET, "a1@0 a2"), 0.0, WORK).plan
    assert {move.target for move in plan.moves} == {gpu(1)}
    assert plan.gpus[gpu(2)] == "start"


def test_who_has_most_slack_migrates() -> None:
    snapshot = a_cluster(FLEET, "a1@0 a2@0 a3@0")
    sessions = {name: replace(s, slack_ms=900.0 if name == "a2" else 10.0) for name, s in snapshot.sessions.items()}
    plan = a_plan_for(FLEET, replace(snapshot, sessions=sessions))
    assert list(moves_of(plan, "migrate")) == ["a2"]
    assert moves_of(plan)["a2"].reason == "late"


@pytest.mark.parametrize("tier", ["meet", "leave", "balance", "move", "smooth"])
def test_every_tier_can_be_switched_off(tier: str) -> None:
    off = PlannerSettings.model_validate({tier: False})
    decision = Planner(FLEET, off).step(a_cluster(FLEET, "a1@0 a2@0 b1"), 0.0, WORK)
    assert tier not in {report.tier for report in decision.report.tiers}


def test_seconds_by_a_clock_are_a_budget_too() -> None:
    times = iter(range(10**9))
    decision = Planner(FLEET).step(
        a_cluster(FLEET, "a1 a2"), 0.0, Budget(seconds=1e9, clock=lambda: float(next(times)))
    )
    assert len(decision.plan.moves) == 2


def test_migrations_that_are_over_use_up_the_budget_of_their_epoch() -> None:
    """Three late sessions on one GPU, an empty one beside it, and a budget of one migration per epoch."""
    fleet = FLEET.model_copy(update={"budget": FLEET.budget.model_copy(update={"moves_per_epoch": 1})})
    snapshot = a_cluster(fleet, "a1@0 a2@0 a3@0 a4@0")
    assert len(moves_of(a_plan_for(fleet, snapshot), "migrate")) == 1
    spent = Migrated(source=gpu(1), target=gpu(0), profile="a")
    later = replace(snapshot, history=replace(snapshot.history, migrated_now=(spent,)))
    assert not moves_of(a_plan_for(fleet, later), "migrate")


def an_early_plan(snapshot: Snapshot) -> Plan:
    decision = Planner(FLEET).step(snapshot, 0.0, Budget(work=5, early=True))
    assert not decision.scale_in_wanted
    return decision.plan


def test_between_epochs_nobody_migrates_for_balance() -> None:
    """Two share one GPU on time, and the other two are empty."""
    snapshot = a_cluster(FLEET, "a1@0 a2@0 a3", on=3)
    assert {move.kind for move in a_plan_for(FLEET, snapshot).moves} == {"place", "migrate"}
    plan = an_early_plan(snapshot)
    assert [(move.kind, move.target) for move in plan.moves] == [("place", gpu(1))]
    assert set(plan.gpus.values()) == {"keep", "off"}


def test_between_epochs_the_late_make_way_within_what_is_left_of_the_budget() -> None:
    """Three on one GPU are late, and the other one is empty."""
    snapshot = a_cluster(FLEET, "a1@0 a2@0 a3@0")
    assert [move.reason for move in an_early_plan(snapshot).moves] == ["late"]
    fleet = FLEET.model_copy(update={"budget": FLEET.budget.model_copy(update={"moves_per_epoch": 1})})
    spent = Migrated(source=gpu(1), target=gpu(0), profile="a")
    later = replace(snapshot, history=replace(snapshot.history, migrated_now=(spent,)))
    assert not Planner(fleet).step(later, 0.0, Budget(work=5, early=True)).plan.moves


def test_between_epochs_idle_sessions_make_room() -> None:
    plan = an_early_plan(a_cluster(FLEET, "b1@0~ b2@0~ b3", on=1))
    assert sorted(move.reason for move in plan.moves) == ["memory", "return", "waiting"]
    first = next(move for move in plan.moves if move.reason == "memory")
    assert first.wave < moves_of(plan, "place")["b3"].wave


def test_between_epochs_a_gpu_starts_only_for_who_finds_no_place_in_time() -> None:
    assert "start" not in an_early_plan(a_cluster(FLEET, "a1@0 a2", on=1)).gpus.values()
    assert "start" in an_early_plan(a_cluster(FLEET, "b1@0 b2@0 b3", on=1)).gpus.values()


def test_between_epochs_a_draining_gpu_drains_on() -> None:
    plan = an_early_plan(a_cluster(FLEET, "a1@0 a2@0~ a3", status={0: "draining"}))
    assert plan.gpus[gpu(0)] == "drain"
    assert set(moves_of(plan)) == {"a3"}


def test_where_places_are_short_lower_priorities_take_what_is_left() -> None:
    """A b of higher priority takes half of the GPU; of those behind it two a fit, though three a would serve more."""
    snapshot = a_cluster(FLEET, "b1 a1 a2 a3 a4", on=1)
    sessions = dict(snapshot.sessions)
    sessions[SessionId("b1")] = replace(sessions[SessionId("b1")], priority=1)
    assert set(moves_of(a_plan_for(FLEET, replace(snapshot, sessions=sessions)))) == {"b1", "a1", "a2"}
