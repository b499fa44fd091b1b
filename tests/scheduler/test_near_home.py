"""Of GPUs that are alike, the one that is nearer to the state is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scheduler.cluster import Snapshot
from scheduler.formulate import Formulated, formulate
from scheduler.near_home import near_home
from scheduler.planner_settings import PlannerSettings
from solvers.placement.check import evaluate, violations
from solvers.placement.solution import Placement
from tests.scheduler.clusters import a_cluster, a_plan_for, gpu, moves_of, node, two_profiles

FLEET = two_profiles()
A, B = 0, 1


def formulated_of(snapshot: Snapshot) -> Formulated:
    return formulate(snapshot, FLEET, PlannerSettings(), 0.0, dict.fromkeys(snapshot.gpus, "keep"))


def placed(formulated: Formulated, *where: tuple[int, int]) -> Placement:
    """One waiting session on each (row, class)."""
    plan = Placement.unchanged(formulated.problem)
    for row, k in where:
        plan.placed[row, k] += 1
    return plan


def brought_home(snapshot: Snapshot, *where: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    formulated = formulated_of(snapshot)
    before = placed(formulated, *where)
    after = near_home(formulated, before, snapshot, FLEET)
    assert not violations(formulated.problem, after)
    assert evaluate(formulated.problem, after) == evaluate(formulated.problem, before)
    return after.placed


@pytest.mark.parametrize("home", [0, 1])
def test_a_state_is_resumed_in_the_node_that_holds_it(home: int) -> None:
    plan = a_plan_for(FLEET, a_cluster(FLEET, f"a1@n{home}", on=4))
    move = moves_of(plan)["a1"]
    assert (move.kind, move.source_node, move.target_node) == ("resume", node(home), node(home))


def test_everybody_gets_a_twin_in_their_own_node() -> None:
    where = brought_home(a_cluster(FLEET, "b1@n1 b2@n1", on=4), (0, A), (1, A))
    assert where[:, A].tolist() == [0, 0, 1, 1]


def test_a_gpu_with_other_content_is_no_twin() -> None:
    where = brought_home(a_cluster(FLEET, "a1@n1 a2@2 a3@3", on=4), (0, A))
    assert where[:, A].tolist() == [1, 0, 0, 0]


def test_a_gpu_that_is_used_already_is_no_twin() -> None:
    where = brought_home(a_cluster(FLEET, "a1@n1 a2@n1 a3@n1", on=4), (0, A), (2, A), (3, A))
    assert where[:, A].tolist() == [1, 0, 1, 1]


def test_nobody_idle_has_to_go_for_it() -> None:
    idle = "a5@2~ a6@2~ a7@2~ a8@2~ a9@3~ a10@3~ a11@3~ a12@3~"
    where = brought_home(a_cluster(FLEET, f"a1@n1 {idle}", on=4), (0, A))
    assert where[:, A].tolist() == [1, 0, 0, 0]


def test_who_is_new_goes_where_the_solver_said() -> None:
    where = brought_home(a_cluster(FLEET, "a1", on=4), (3, A))
    assert where[:, A].tolist() == [0, 0, 0, 1]


def test_a_migration_stays_in_its_node() -> None:
    snapshot = a_cluster(FLEET, "a1@3 a2@3 b1@3", on=4)
    formulated = formulated_of(snapshot)
    before = Placement.unchanged(formulated.problem)
    before.out[3, A] = before.arrived[0, A] = 1
    after = near_home(formulated, before, snapshot, FLEET)
    assert after.arrived[:, A].tolist() == [0, 0, 1, 0]
    assert not violations(formulated.problem, after)


def test_a_gpu_that_takes_two_is_left_alone() -> None:
    where = brought_home(a_cluster(FLEET, "a1@n1 a2@n1", on=4), (0, A), (0, A))
    assert where[:, A].tolist() == [2, 0, 0, 0]


def test_a_gpu_to_be_emptied_is_no_twin() -> None:
    snapshot = a_cluster(FLEET, "a1@n1", on=4, status={2: "draining", 3: "draining"})
    assert replace(snapshot.gpus[gpu(2)]).status == "draining"
    assert brought_home(snapshot, (0, A))[:, A].tolist() == [1, 0, 0, 0]
