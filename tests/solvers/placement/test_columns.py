"""Column generation: how close it comes on fleets, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvers.placement.bounds import certificate
from solvers.placement.check import evaluate, violations
from solvers.placement.columns import construct, solve_columns
from solvers.placement.kernel import given_of
from solvers.placement.meter import Meter
from solvers.placement.pattern_master import Pattern
from solvers.placement.pattern_program import PatternProgram
from solvers.placement.problem import Batching
from solvers.placement.solution import Bounds, Placement
from tests.solvers.placement.builders import a_placement_problem, turboserve
from tests.solvers.placement.fleets import a_fleet, placed_one_by_one


@pytest.mark.parametrize("batching", ["grouped", "packed", "turboserve"])
@pytest.mark.parametrize("types", [1, 3])
def test_a_crowded_fleet_comes_close_to_what_is_proven(batching: Batching, types: int) -> None:
    problem = replace(a_fleet(96, 4, batching, types=types), moves_max=40)  # 5 % of the sessions
    hint = placed_one_by_one(problem)
    bounds = certificate(problem, given_of(problem))
    found = solve_columns(problem, Meter(work=20_000), seed=0, hint=hint, bounds=bounds)
    placement = hint if found.placement is None else found.placement
    assert not violations(problem, placement)
    bound = max(found.bounds.balance, bounds.balance)
    assert evaluate(problem, placement).balance <= 1.005 * bound


def test_packed_sessions_may_differ_by_the_microsecond_that_tables_are_rounded_to() -> None:
    problem = replace(a_fleet(96, 4, "packed"), moves_max=40)
    counts = np.arange(problem.tables.alone_us.shape[2])
    rounded_us = np.rint(problem.tables.alone_us[:, :, 1:2] * 1.0 * counts + 0.37 * counts).astype(np.int64)
    problem = replace(problem, tables=replace(problem.tables, alone_us=rounded_us))
    assert len(np.unique(np.diff(rounded_us[0, 0]))) == 2
    hint = placed_one_by_one(problem)
    bounds = certificate(problem, given_of(problem))
    found = solve_columns(problem, Meter(work=20_000), seed=0, hint=hint, bounds=bounds)
    assert found.placement is not None
    value = evaluate(problem, found.placement).balance
    assert found.bounds.balance <= value <= 1.001 * found.bounds.balance


def test_nothing_is_proven_where_more_may_leave_a_gpu_than_patterns_hold() -> None:
    problem = a_fleet(24, 2, "grouped")
    problem = replace(problem, out_max=np.full(24, 3, dtype=np.int64))
    meter = Meter(work=3000)
    found = solve_columns(
        problem, meter, seed=0, hint=placed_one_by_one(problem), bounds=certificate(problem, given_of(problem))
    )
    assert found.bounds.balance == 0


def test_a_level_below_what_anybody_can_keep_to_is_impossible() -> None:
    problem = a_placement_problem("AAA | AAA", moves_max=2, out_max=2, in_max=2)
    program = PatternProgram(problem, problem.waiting)
    outcome, master = program.test(29_999, Meter(work=1000))
    assert (outcome, master) == ("impossible", None)
    outcome, master = program.test(30_000, Meter(work=1000))
    assert outcome == "possible"
    assert master is not None


def test_nothing_is_proven_where_tables_are_flat() -> None:
    problem = a_placement_problem(
        "AAA | A", tables=turboserve(([2, 3], [1, 1, 5, 9])), moves_max=2, out_max=2, in_max=2
    )
    hint = Placement.unchanged(problem)
    found = solve_columns(problem, Meter(work=3000), seed=0, hint=hint, bounds=Bounds())
    assert found.bounds.balance <= 3_000


def test_patterns_are_dealt_out_and_room_that_nobody_needs_stays_free() -> None:
    problem = a_placement_problem("AAA | A | A", waiting="B", out_max=2, in_max=2)
    program = PatternProgram(problem, problem.waiting)
    crowded, light = program.group_of[0], program.group_of[1]
    whole = {
        Pattern(group=int(crowded), out=(1, 0), arrived=(0, 0), placed=(0, 0)): 1,
        Pattern(group=int(light), out=(0, 0), arrived=(1, 0), placed=(0, 1)): 2,
    }
    placement = construct(problem, program, whole)
    assert not violations(problem, placement)
    assert placement.arrived.sum() == 1
    assert placement.placed.sum() == 1
