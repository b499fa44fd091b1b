"""One test per rule of the offline schedule: an allowed case is accepted, a forbidden one refused.

Decides whether the executable specification says what the written one does; must never know any solver.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from solvers.contents import RoundCosts, TypeLimits
from solvers.offline_objective import evaluate, violations
from solvers.offline_problem import NEVER_ON, MoveBudget, OfflineProblem
from tests.solvers.builders import a_problem, a_solution

Pieces = Sequence[tuple[int, int, int, int]]
Spans = Sequence[tuple[int, int, int]]


def assert_allowed(problem: OfflineProblem, pieces: Pieces, spans: Spans | None = None) -> None:
    assert violations(problem, a_solution(problem, pieces, spans)) == []


def assert_refused(problem: OfflineProblem, words: str, pieces: Pieces, spans: Spans | None = None) -> None:
    found = violations(problem, a_solution(problem, pieces, spans))
    assert found, "the rule is not enforced"
    assert all(words in text for text in found), found


def limits(memory_gib: float) -> tuple[TypeLimits, ...]:
    costs = RoundCosts(batching="grouped", tables_ms=((100.0, 200.0, 400.0),))
    return (TypeLimits(costs=costs, memory_gib=memory_gib, state_gib=(1.0,)),)


def test_a_piece_lies_inside_its_period() -> None:
    problem = a_problem([(5, 25)])
    assert_allowed(problem, [(0, 0, 5, 25)])
    assert_refused(problem, "must lie inside period 0", [(0, 0, 4, 25)])
    assert_refused(problem, "must lie inside period 0", [(0, 0, 5, 26)])


def test_a_piece_has_a_length() -> None:
    problem = a_problem([(5, 25)])
    assert_refused(problem, "must be after start", [(0, 0, 9, 9)], [])


def test_a_session_is_on_one_gpu_at_a_time() -> None:
    problem = a_problem([(0, 30)])
    assert_allowed(problem, [(0, 0, 0, 20), (0, 1, 20, 30)])
    assert_refused(problem, "pieces must not overlap", [(0, 0, 0, 21), (0, 1, 20, 30)])


def test_pieces_are_sorted() -> None:
    problem = a_problem([(0, 30), (0, 30)])
    assert_allowed(problem, [(0, 0, 0, 30), (1, 0, 0, 30)])
    assert_refused(problem, "sorted by (period, start)", [(1, 0, 0, 30), (0, 0, 0, 30)])
    assert_refused(problem, "sorted by (period, start)", [(0, 0, 10, 30), (0, 0, 0, 10)])


@pytest.mark.parametrize("piece", [(1, 0, 0, 30), (-1, 0, 0, 30), (0, 2, 0, 30), (0, -1, 0, 30)])
def test_pieces_name_periods_and_gpus_that_exist(piece: tuple[int, int, int, int]) -> None:
    assert_refused(a_problem([(0, 30)]), "does not exist", [piece], [])


def test_a_gpu_is_usable_a_startup_after_it_is_on_and_until_it_is_off() -> None:
    problem = a_problem([(25, 45)])
    assert_allowed(problem, [(0, 0, 25, 45)], [(0, 10, 50)])
    assert_refused(problem, "not usable", [(0, 0, 25, 45)], [(0, 20, 50)])
    assert_refused(problem, "not usable", [(0, 0, 25, 45)], [(0, 10, 40)])
    assert_refused(problem, "not usable", [(0, 0, 25, 45)], [(1, 10, 50)])
    assert_refused(problem, "not usable", [(0, 0, 25, 45)], [])


def test_a_gpu_that_was_off_starts_up_again() -> None:
    problem = a_problem([(0, 20), (40, 50)])
    assert_allowed(problem, [(0, 0, 0, 20), (1, 0, 40, 50)], [(0, -20, 20), (0, 20, 50)])
    assert_refused(problem, "not usable", [(0, 0, 0, 20), (1, 0, 40, 50)], [(0, -20, 20), (0, 30, 50)])


def test_spans_are_sorted_and_disjoint() -> None:
    problem = a_problem([(0, 30)])
    assert_allowed(problem, [], [(0, 0, 10), (0, 10, 20), (1, 0, 10)])
    assert_refused(problem, "spans must not overlap", [], [(0, 0, 20), (0, 10, 30)])
    assert_refused(problem, "sorted by (GPU, on)", [], [(1, 0, 20), (0, 10, 30)])
    assert_refused(problem, "must be after on", [], [(0, 10, 10)])
    assert_refused(problem, "does not exist", [], [(2, 10, 20)])


def test_spans_are_on_the_epoch_grid() -> None:
    problem = a_problem([(0, 30)])
    assert_refused(problem, "must be a multiple of 10 us", [], [(0, 5, 20)])
    assert_refused(problem, "must be a multiple of 10 us", [], [(0, 0, 25)])


def test_no_gpu_is_on_before_the_startup_before_zero() -> None:
    problem = a_problem([(0, 30)])
    assert_allowed(problem, [], [(0, -20, 10)])
    assert_refused(problem, "must not be before -20 us", [], [(0, -30, 10)])


def test_a_gpu_on_already_is_paid_from_its_known_instant_until_zero() -> None:
    problem = a_problem([(0, 30)], gpu_on_us=np.array([-33, NEVER_ON]))
    assert_allowed(problem, [(0, 0, 0, 30)], [(0, -33, 30)])
    assert_allowed(problem, [], [(0, -33, 0)])
    assert_refused(problem, "its first span must begin there", [], [(0, -20, 10)])
    assert_refused(problem, "must last until then", [], [(0, -33, -10)])
    assert_refused(problem, "a span must say so", [], [])


def test_a_gpu_still_starting_at_zero_is_usable_when_it_has_started() -> None:
    problem = a_problem([(0, 30)], gpu_on_us=np.array([-5, NEVER_ON]))
    assert_allowed(problem, [(0, 0, 10, 30)], [(0, -5, 30)])
    assert_refused(problem, "not usable", [(0, 0, 9, 30)], [(0, -5, 30)])


def test_a_gpu_always_on_is_usable_throughout() -> None:
    problem = a_problem([(0, 25)], gpu_always_on=np.array([True, False]))
    assert_allowed(problem, [], [(0, -20, 30)])
    assert_refused(problem, "usable throughout", [], [(0, -10, 30)])
    assert_refused(problem, "usable throughout", [], [(0, -20, 20)])
    assert_refused(problem, "usable throughout", [], [(0, -20, 10), (0, 10, 30)])
    assert_refused(problem, "usable throughout", [], [])


def test_a_gpu_always_on_that_is_still_starting_may_finish() -> None:
    problem = a_problem([(0, 25)], gpu_always_on=np.array([True, False]), gpu_on_us=np.array([-7, NEVER_ON]))
    assert_allowed(problem, [(0, 0, 8, 25)], [(0, -7, 30)])
    assert_refused(problem, "usable throughout", [], [(0, -7, 20)])


def test_a_batch_is_no_larger_than_was_measured() -> None:
    problem = a_problem([(0, 30)] * 4, types=limits(100.0))
    assert_allowed(problem, [(p, 0, 0, 30) for p in range(3)])
    assert_refused(problem, "more than its batches allow", [(p, 0, 0, 30) for p in range(4)])


def test_states_fit_into_memory() -> None:
    problem = a_problem([(0, 30)] * 3, types=limits(2.0))
    assert_allowed(problem, [(p, 0, 0, 30) for p in range(2)])
    assert_refused(problem, "more than its memory", [(p, 0, 0, 30) for p in range(3)])


def test_a_session_may_follow_another_at_the_same_instant() -> None:
    problem = a_problem([(0, 7), (7, 30)], types=limits(1.0))
    assert_allowed(problem, [(0, 0, 0, 7), (1, 0, 7, 30)])
    overlapping = a_problem([(0, 8), (7, 30)], types=limits(1.0))
    assert_refused(overlapping, "more than its memory", [(0, 0, 0, 8), (1, 0, 7, 30)])


def test_migrations_are_at_epoch_boundaries_also_after_a_gap() -> None:
    problem = a_problem([(0, 30)])
    assert_allowed(problem, [(0, 0, 0, 10), (0, 1, 10, 30)])
    assert_allowed(problem, [(0, 0, 0, 7), (0, 1, 10, 30)])
    assert_allowed(problem, [(0, 0, 0, 7), (0, 0, 12, 30)])
    assert_refused(problem, "must be a multiple of 10 us", [(0, 0, 0, 7), (0, 1, 7, 30)])
    assert_refused(problem, "must be a multiple of 10 us", [(0, 0, 0, 10), (0, 1, 12, 30)])


def test_memory_holds_the_states_that_leave_besides_those_that_stay_and_arrive() -> None:
    swap = [(0, 0, 0, 10), (0, 1, 10, 30), (1, 1, 0, 10), (1, 0, 10, 30)]
    assert_allowed(a_problem([(0, 30)] * 2, types=limits(2.0)), swap)
    assert_refused(a_problem([(0, 30)] * 2, types=limits(1.0)), "while sessions leave", swap)
    handover = [(0, 0, 0, 10), (0, 1, 10, 30), (1, 0, 10, 30)]
    assert_allowed(a_problem([(0, 30), (9, 30)], types=limits(2.0)), handover)
    assert_refused(a_problem([(0, 30), (9, 30)], types=limits(1.0)), "while sessions leave", handover)
    a_moment_later = [(0, 0, 0, 10), (0, 1, 10, 30), (1, 0, 11, 30)]
    assert_allowed(a_problem([(0, 30), (9, 30)], types=limits(1.0)), a_moment_later)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (MoveBudget(moves=1), "2 migrations at 10 us"),
        (MoveBudget(out_per_gpu=1), "2 sessions leave GPU 0 at 10 us"),
        (MoveBudget(in_per_gpu=1), "2 sessions enter GPU 1 at 10 us"),
        (MoveBudget(gib=1.5), "2.0 GiB migrate at 10 us"),
    ],
)
def test_budgets_hold_at_each_boundary(budget: MoveBudget, words: str) -> None:
    problem = a_problem([(0, 30)] * 2, budget=budget)
    one_by_one = [(0, 0, 0, 10), (0, 1, 10, 30), (1, 0, 0, 20), (1, 1, 20, 30)]
    at_once = [(0, 0, 0, 10), (0, 1, 10, 30), (1, 0, 0, 10), (1, 1, 10, 30)]
    assert_allowed(problem, one_by_one)
    assert_refused(problem, words, at_once)


def test_a_session_held_at_zero_begins_where_it_is_or_later() -> None:
    problem = a_problem([(0, 30)], home=np.array([1], dtype=np.int32))
    assert_allowed(problem, [(0, 1, 0, 30)])
    assert_allowed(problem, [(0, 0, 3, 30)])
    assert_refused(problem, "is on GPU 1 at 0", [(0, 0, 0, 30)])


def test_many_findings_are_told_by_number() -> None:
    problem = a_problem([(0, 30)] * 9)
    found = violations(problem, a_solution(problem, [(p, 0, 0, 31) for p in range(9)]))
    assert len(found) == 6
    assert found[-1] == "... and 4 more like the last one"


def test_a_solution_is_worth_what_its_rules_say() -> None:
    changes: dict[str, Any] = {"priority": np.array([0, 1, 0, 0], dtype=np.int32), "gpu_node": np.array([0, 1])}
    problem = a_problem([(0, 30), (0, 30), (0, 20), (5, 30)], **changes)
    solution = a_solution(problem, [(0, 0, 0, 30), (1, 0, 0, 20), (1, 1, 20, 28), (2, 0, 0, 20)])
    value = evaluate(problem, solution)
    assert value.unserved_us == (2, 25)
    assert value.late_us == 3 * 20
    assert value.gpu_dollars == pytest.approx(50 + 30)  # on from -20 and from 0, both off at 30
    assert value.move_dollars == pytest.approx(1.0)
    assert value.migrations == 1
    assert value.latency_ms_max == 400.0
    assert value.latency_ms_mean == pytest.approx((3 * 400 * 20 + 100 * 10 + 100 * 8) / 78)
    assert value.gpu_hours == pytest.approx(80 / 3.6e9)


def test_many_classes_do_not_confuse_the_sweep() -> None:
    """Codes of contents exceed 63 bits here, so that they are built in parts."""
    classes = 70
    costs = RoundCosts(batching="packed", fixed_ms=1.0, per_session_ms=(1.0,) * classes, sessions_max=9)
    changes: dict[str, Any] = {
        "types": (TypeLimits(costs=costs, memory_gib=100.0, state_gib=(1.0,) * classes),),
        "target_ms": tuple(2.0 + (k % 2) * 2.0 for k in range(classes)),
        "state_gib": (1.0,) * classes,
        "transfer_same_s": (1.0,) * classes,
        "transfer_cross_s": (1.0,) * classes,
        "class_index": np.array([0, 69, 35], dtype=np.int32),
    }
    problem = a_problem([(0, 30), (10, 20), (15, 30)], **changes)
    value = evaluate(
        problem, a_solution(problem, [(p, 0, *span) for p, span in enumerate([(0, 30), (10, 20), (15, 30)])])
    )
    assert value.latency_ms_max == 4.0
    assert value.late_us == 5 + 5 + 10  # class 0 has the target of 2 ms, and company from 10 to 30
    assert value.latency_ms_mean == pytest.approx((2 * 10 + 2 * 3 * 5 + 3 * 4 * 5 + 2 * 3 * 10) / 55)
