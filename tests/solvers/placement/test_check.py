"""One forbidden and one allowed placement per rule, and values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvers.placement.check import evaluate, violations
from solvers.placement.problem import NEVER_US, Problem, Tiers
from solvers.placement.solution import Placement, Value, better
from tests.solvers.placement.builders import a_placement, a_placement_problem, grouped, packed, turboserve


def refused(problem: Problem, *, out: str = "", arrived: str = "", placed: str = "") -> str:
    """The one rule that the placement breaks."""
    wrong = violations(problem, a_placement(problem, out=out, arrived=arrived, placed=placed))
    assert len(wrong) == 1, wrong
    return wrong[0]


def allowed(problem: Problem, *, out: str = "", arrived: str = "", placed: str = "") -> bool:
    return not violations(problem, a_placement(problem, out=out, arrived=arrived, placed=placed))


def test_only_sessions_that_are_there_leave() -> None:
    problem = a_placement_problem("A | B | ")
    assert "2 of class 0 leave, 1 are there" in refused(problem, out="AA | | ", arrived=" | | AA")
    assert allowed(problem, out="A | | ", arrived=" | | A")


def test_a_session_that_leaves_arrives() -> None:
    problem = a_placement_problem("A | ")
    assert refused(problem, out="A | ") == "class 0: 1 leave, 0 arrive"
    assert refused(problem, arrived=" | A") == "class 0: 0 leave, 1 arrive"
    assert allowed(problem, out="A | ", arrived=" | A")


def test_sessions_of_one_class_do_not_change_places() -> None:
    problem = a_placement_problem("A | A")
    wrong = violations(problem, a_placement(problem, out="A | A", arrived="A | A"))
    assert wrong == [f"GPU {gpu}: sessions of class 0 leave and arrive; they are interchangeable" for gpu in (0, 1)]
    assert allowed(a_placement_problem("A | B"), out="A | B", arrived="B | A")


def test_nobody_is_placed_who_does_not_wait() -> None:
    problem = a_placement_problem(" | ", waiting="A")
    assert refused(problem, placed="A | A") == "class 0: 2 are placed, 1 wait"
    assert allowed(problem, placed=" | A")


@pytest.mark.parametrize("closed", ["shut", "leaving"])
def test_a_closed_gpu_receives_nobody(closed: str) -> None:
    problem = a_placement_problem("A | A", waiting="A", **{closed: [1]})  # type: ignore[arg-type]
    assert refused(problem, placed=" | A") == "GPU 1: 1 enter, and it receives nobody"
    assert refused(problem, out="A | ", arrived=" | A") == "GPU 1: 1 enter, and it receives nobody"
    assert allowed(problem, out=" | A", arrived="A | ", placed="A | ")


def test_migrations_are_limited_and_placing_is_free() -> None:
    problem = a_placement_problem("AA | ", waiting="AA", moves_max=1)
    assert refused(problem, out="AA | ", arrived=" | AA") == "2 migrations, 1 are allowed"
    assert allowed(problem, out="A | ", arrived=" | A", placed=" | AA")


def test_migrated_mib_are_limited() -> None:
    problem = a_placement_problem("AB | ", waiting="B", state_mib=[2, 3], moved_mib_max=4)
    assert refused(problem, out="AB | ", arrived=" | AB") == "5 MiB migrated, 4 are allowed"
    assert allowed(problem, out="B | ", arrived=" | B", placed=" | B")


def test_departures_of_each_gpu_are_limited() -> None:
    problem = a_placement_problem("AB | AB | ", out_max=[2, 1, 1])
    assert refused(problem, out=" | AB | ", arrived=" | | AB") == "GPU 1: 2 leave, 1 are allowed"
    assert allowed(problem, out="AB | | ", arrived=" | | AB")


def test_arrivals_of_each_gpu_are_limited_and_placing_is_free() -> None:
    problem = a_placement_problem("AB | | ", waiting="AA", in_max=1)
    assert refused(problem, out="AB | | ", arrived=" | AB | ") == "GPU 1: 2 arrive, 1 are allowed"
    assert allowed(problem, out="AB | | ", arrived=" | A | B", placed=" | AA | ")


def test_a_migrating_session_occupies_memory_on_both_sides() -> None:
    problem = a_placement_problem("A | B", memory_mib=1)
    wrong = violations(problem, a_placement(problem, out="A | B", arrived="B | A"))
    assert wrong == [f"GPU {gpu}: 2 MiB during moves, it has 1" for gpu in (0, 1)]
    assert allowed(replace(problem, memory_mib=np.array([2, 2])), out="A | B", arrived="B | A")


def test_a_gpu_that_is_too_full_takes_nothing_and_may_give() -> None:
    problem = a_placement_problem("AAA | B", memory_mib=[2, 9])
    assert refused(problem, out=" | B", arrived="B | ") == "GPU 0: 4 MiB during moves, it has 2"
    assert allowed(problem)
    assert allowed(problem, out="A | ", arrived=" | A")


def test_nobody_enters_a_batch_that_may_not_run() -> None:
    problem = a_placement_problem("AA | A", tables=grouped([[10, 20], [10]]), waiting="B")
    assert refused(problem, out=" | A", arrived="A | ") == "GPU 0: its batch may not run"
    assert allowed(problem, placed="B | ")


def test_a_broken_batch_may_stay_and_shrink() -> None:
    problem = a_placement_problem("AAA | ", tables=grouped([[10], [10]]))
    assert allowed(problem)
    assert allowed(problem, out="A | ", arrived=" | A")


def test_a_batch_that_is_mended_may_be_entered() -> None:
    problem = a_placement_problem("AA | ", tables=grouped([[10], [10]]), waiting="B")
    assert refused(problem, placed="B | ") == "GPU 0: its batch may not run"
    assert allowed(problem, out="A | ", arrived=" | A", placed="B | ")


@pytest.mark.parametrize(
    ("part", "words"), [(np.zeros((1, 2), dtype=np.int64), "shape"), (np.full((2, 2), -1), "whole numbers >= 0")]
)
def test_a_placement_of_wrong_shape_or_sign_is_refused(
    part: np.ndarray[tuple[int, int], np.dtype[np.int64]], words: str
) -> None:
    problem = a_placement_problem("A | ")
    (wrong,) = violations(problem, replace(Placement.unchanged(problem), placed=part))
    assert words in wrong


def test_fractions_of_sessions_are_refused() -> None:
    problem = a_placement_problem("A | ")
    (wrong,) = violations(problem, replace(Placement.unchanged(problem), placed=np.zeros((2, 2))))  # type: ignore[arg-type]
    assert "whole numbers" in wrong


def test_the_value_of_a_grouped_placement() -> None:
    problem = a_placement_problem(
        "AAB | B", waiting="AB", tables=grouped([[10, 15, 18], [20, 30]]), state_mib=[2, 3], priority_rank=[1, 0]
    )
    value = evaluate(problem, a_placement(problem, out="A | ", arrived=" | A", placed="A | "))
    assert value == Value(
        repair=0,
        serve=(1, 0),  # B waits, and is of the first rank
        meet=0,
        leave=0,
        balance=35_000,  # AAB: 15 + 20; AB: 10 + 20
        move=2,
        smooth=35**2 + 30**2,
    )


def test_the_value_of_a_packed_placement() -> None:
    problem = a_placement_problem("AAB | | B", tables=packed((5, [1, 4], 9), (7, [2, 8], 9)), gpu_type=[0, 0, 1])
    assert evaluate(problem, Placement.unchanged(problem)) == Value(
        repair=0, serve=(0,), meet=0, leave=0, balance=15_000, move=0, smooth=11**2 + 15**2
    )


def test_the_value_of_a_turboserve_placement() -> None:
    problem = a_placement_problem("AAB | A", tables=turboserve(([10, 30], [1, 4, 9])))
    value = evaluate(problem, Placement.unchanged(problem))
    assert (value.balance, value.smooth) == (39_000, 39**2 + 11**2)


def test_lateness_is_weighted_and_includes_the_transfer_of_those_who_migrated() -> None:
    problem = a_placement_problem(
        "AA | B", waiting="A", target_ms=[15, 60], transfer_ms=[7, 0], lateness_weight=[2, 1], in_max=2
    )
    assert evaluate(problem, Placement.unchanged(problem)).meet == 2 * 2 * 5_000
    moved = evaluate(problem, a_placement(problem, out="A | ", arrived=" | A", placed="A | "))
    assert moved.meet == 2 * (2 * 5_000 + (15_000 + 7_000))  # AA: 20 ms; AB: 30 ms, and whoever arrived 37 ms


def test_lateness_is_nothing_where_it_does_not_count() -> None:
    problem = a_placement_problem("AA | B", target_ms=[1, 1], tiers=Tiers(meet=False))
    assert evaluate(problem, Placement.unchanged(problem)).meet == 0


def test_sessions_on_gpus_that_are_to_be_emptied_are_counted() -> None:
    problem = a_placement_problem("AAB | B | ", leaving=[0])
    assert evaluate(problem, a_placement(problem, out="A | | ", arrived=" | | A")).leave == 2


def test_what_is_broken_is_priced_in_mib_and_sessions() -> None:
    problem = a_placement_problem("AAA | AA", tables=grouped([[10, 20], [5]]), state_mib=[4, 1], memory_mib=[10, 7])
    value = evaluate(problem, Placement.unchanged(problem))
    assert value.repair == (12 - 10) + (8 - 7) + 3
    assert value.balance == NEVER_US


def test_earlier_tiers_count_first_and_near_latencies_are_equal() -> None:
    problem = a_placement_problem("A | ")
    base = Value(repair=0, serve=(0, 1), meet=5, leave=0, balance=100_000, move=4, smooth=9)
    assert better(problem, replace(base, serve=(0, 0), meet=99), base)
    assert better(problem, replace(base, meet=4, balance=200_000), base)
    assert better(problem, replace(base, balance=99_800, move=9), base)
    assert not better(problem, replace(base, balance=99_950, move=9), base)
    assert better(problem, replace(base, balance=100_050, move=3), base)
    assert not better(problem, base, base)


def test_a_tier_that_does_not_count_decides_nothing() -> None:
    problem = a_placement_problem("A | ", tiers=Tiers(meet=False, leave=False, balance=False, move=False))
    base = Value(repair=0, serve=(0,), meet=0, leave=3, balance=100_000, move=4, smooth=9)
    assert not better(problem, replace(base, leave=0, smooth=10), base)
    assert better(problem, replace(base, leave=9, balance=900_000, move=9, smooth=8), base)
