"""The formulations say what check.py says, and their solvers find what brute force finds."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from solvers.placement.aggregated import US_PER_MS, AggregatedModel
from solvers.placement.check import evaluate, violations
from solvers.placement.cpsat import solve as solve_cpsat
from solvers.placement.highs import solve as solve_highs
from solvers.placement.meter import Meter
from solvers.placement.milp import milp_through
from solvers.placement.problem import NEVER_US, NO_TARGET_US, Batching, Problem, Tiers
from solvers.placement.reach import Reach
from solvers.placement.registry import SOLVERS, Solver
from solvers.placement.restricted import solve as solve_restricted
from solvers.placement.solution import Bounds, Placement, better
from solvers.placement.tier_by_tier import of_step, steps, tidy
from tests.solvers.placement.brute_force import every, in_order, optimum
from tests.solvers.placement.builders import MS, a_placement, a_placement_problem, grouped
from tests.solvers.placement.fleets import a_fleet, placed_one_by_one
from tests.solvers.placement.strategies import BATCHING, placement_problems

EXACT: dict[str, Solver] = {"cpsat": solve_cpsat, "highs": solve_highs, "milp": milp_through("HiGHS")}
EVERYTHING_PROVEN = "every tier that counts is proven"


def plenty() -> Meter:
    return Meter(clock=time.perf_counter, seconds=60.0)


@settings(max_examples=40)
@given(placement_problems())
def test_every_placement_is_a_solution_of_the_linear_program_with_the_same_value(problem: Problem) -> None:
    model = AggregatedModel(problem, Reach.of(problem))
    program = model.program
    for placement, _ in every(problem):
        tidied = tidy(placement)
        values, value = model.write(tidied), evaluate(problem, tidied)
        assert (model.read(values).after(problem) == tidied.after(problem)).all()
        assert (values >= program.lower - 1e-9).all()
        assert (values <= program.upper + 1e-9).all()
        sides = np.add.reduceat(np.append(program.value * values[program.index], 0.0), program.start[:-1])
        sides[program.start[:-1] == program.start[1:]] = 0.0
        assert (sides >= program.row_lower - 1e-6).all()
        assert (sides <= program.row_upper + 1e-6).all()
        if value.meet == 0 and len(model.on_time_row):
            assert (sides[model.on_time_row] <= model.on_time_upper + 1e-6).all()
        for step in steps(problem):
            costs, offset = model.objective(step)
            said = float(costs @ values) + offset
            if step[0] == "balance":
                assert value.balance >= NEVER_US or said == pytest.approx(value.balance / US_PER_MS)
            elif step[0] != "meet":
                assert said == pytest.approx(of_step(value, step))


@settings(max_examples=40)
@given(placement_problems())
def test_tidying_makes_no_placement_worse_or_forbidden(problem: Problem) -> None:
    for placement, value in every(problem):
        tidied = tidy(placement)
        assert not violations(problem, tidied)
        assert (tidied.after(problem) == placement.after(problem)).all()
        assert in_order(problem, evaluate(problem, tidied)) <= in_order(problem, value)


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=60)
@given(problem=placement_problems())
def test_the_optimum_is_found_and_proven_unless_lateness_is_not_linear(name: str, problem: Problem) -> None:
    found, best = EXACT[name](problem, plenty(), seed=1, hint=None, bounds=Bounds()), optimum(problem)[1]
    assert found.placement is not None
    value = evaluate(problem, found.placement)
    if found.end_reason != EVERYTHING_PROVEN:
        assert name != "cpsat"
        assert best.meet > 0
        return
    for step in steps(problem):
        if step[0] == "balance":  # within the tolerance, and after it fewer MiB may do
            assert value.balance <= best.balance * (1 + 2 * problem.tiers.balance_tolerance)
        elif step[0] == "move":
            assert value.move <= best.move or not problem.tiers.balance
        else:
            assert of_step(value, step) == of_step(best, step)


def test_lateness_that_cannot_be_avoided_is_least_with_cpsat_and_refused_by_linear_programs() -> None:
    problem = a_placement_problem(
        "AAAA | ", target_ms=[15, 15], transfer_ms=8, tables=grouped([[10, 20, 30, 40], [10, 20, 30, 40]])
    )
    best = optimum(problem)[1]
    assert best.meet > 0
    by_cpsat = solve_cpsat(problem, plenty(), seed=1, hint=None, bounds=Bounds())
    assert by_cpsat.placement is not None
    assert evaluate(problem, by_cpsat.placement).meet == by_cpsat.bounds.meet == best.meet
    by_highs = solve_highs(problem, plenty(), seed=1, hint=None, bounds=Bounds())
    assert "sessions are late" in by_highs.end_reason
    assert by_highs.bounds.meet == 1


@pytest.mark.parametrize("name", EXACT)
def test_a_session_moves_where_its_transfer_makes_nobody_late(name: str) -> None:
    # Two As take 20 ms. One that moved waits 12 ms more, so it is on time only where it is alone: on the empty GPU, not
    # with the other A, although the worst latency would be the same there.
    problem = a_placement_problem("AAA | A | ", target_ms=[25, 99], transfer_ms=[12, 0])
    found = EXACT[name](problem, plenty(), seed=1, hint=None, bounds=Bounds())
    assert found.end_reason == EVERYTHING_PROVEN
    assert found.placement is not None
    assert found.placement.arrived.tolist() == [[0, 0], [0, 0], [1, 0]]


@pytest.mark.parametrize("batching", BATCHING)
def test_exact_solvers_agree_on_a_fleet(batching: Batching) -> None:
    problem = a_fleet(12, 3, batching, types=2, seed=3)
    hint = placed_one_by_one(problem)
    found = {name: solver(problem, plenty(), seed=1, hint=hint, bounds=Bounds()) for name, solver in EXACT.items()}
    worst = {}
    for name, answer in found.items():
        assert answer.end_reason == EVERYTHING_PROVEN
        assert answer.placement is not None
        worst[name] = evaluate(problem, answer.placement).balance
    tolerance = problem.tiers.balance_tolerance
    assert max(worst.values()) <= min(worst.values()) * (1 + 2 * tolerance)
    for name, answer in found.items():
        assert answer.bounds.balance <= min(worst.values()), name


def test_bounds_that_are_proven_already_spare_the_work() -> None:
    problem = a_placement_problem("AA | AA", tiers=Tiers(move=False))
    hint = Placement.unchanged(problem)
    known = Bounds(balance=evaluate(problem, hint).balance)
    found = solve_highs(problem, Meter(work=1), seed=1, hint=hint, bounds=known)
    assert found.end_reason == EVERYTHING_PROVEN


@pytest.mark.parametrize("batching", ["grouped", "packed"])
def test_the_restricted_program_lowers_the_worst_latency_and_proves_nothing(batching: Batching) -> None:
    problem = a_fleet(32, 4, batching)
    hint = placed_one_by_one(problem)
    found = solve_restricted(problem, plenty(), seed=1, hint=hint, bounds=Bounds())
    assert found.placement is not None
    assert found.bounds == Bounds()
    assert better(problem, evaluate(problem, found.placement), evaluate(problem, hint))
    assert evaluate(problem, found.placement).serve == evaluate(problem, hint).serve


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (a_fleet(4, 2, "turboserve"), "turboserve"),
        (a_placement_problem("AA | A", target_ms=[1, 1]), "an earlier tier is open"),
        (a_placement_problem("AA | A", tiers=Tiers(balance=False)), "does not count"),
    ],
)
def test_the_restricted_program_says_why_it_does_not_apply(problem: Problem, reason: str) -> None:
    hint = Placement.unchanged(problem)
    found = SOLVERS["restricted"]()(problem, plenty(), seed=1, hint=hint, bounds=Bounds())
    assert found.placement is None
    assert reason in found.end_reason


def test_tidying_turns_a_detour_into_a_placement() -> None:
    problem = a_placement_problem("A | ", waiting="A")
    detour = a_placement(problem, out="A | ", arrived=" | A", placed="A | ")
    assert not violations(problem, detour)
    direct = tidy(detour)
    assert direct.moves == 0
    assert direct.placed.tolist() == [[0, 0], [1, 0]]


def test_highs_is_not_believed_when_only_its_presolve_finds_no_solution() -> None:
    tables = grouped([[1] * 8, [4, *[7] * 7]])
    tables = replace(tables, alone_us=np.minimum(tables.alone_us, 7 * MS))
    problem = a_placement_problem("A | BB | A | ", tables=tables, moves_max=3, out_max=4, in_max=4)
    problem = replace(
        problem,
        receives=np.array([True, True, True, False]),
        memory_mib=np.array([3, 4, 3, 2]),
        state_mib=np.array([1, 2]),
        target_us=np.array([NO_TARGET_US, 6 * MS]),
        transfer_us=np.zeros(2, dtype=np.int64),
    )
    hint = Placement.unchanged(problem)
    found = SOLVERS["highs"]()(problem, Meter(work=2000), seed=7, hint=hint, bounds=Bounds())
    assert found.bounds.meet == 0
    assert found.placement is not None
    assert evaluate(problem, found.placement).meet == 0
