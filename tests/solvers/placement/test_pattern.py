from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from solvers.placement.check import evaluate, violations
from solvers.placement.meter import Meter
from solvers.placement.pattern import solve
from solvers.placement.pattern_dual import certifies, least_slack
from solvers.placement.pattern_ground import ground
from solvers.placement.pattern_level import build
from solvers.placement.problem import Problem
from solvers.placement.registry import Found
from solvers.placement.solution import Bounds, Placement
from tests.solvers.placement.exhaustive import best_tiers
from tests.solvers.placement.random_problems import best_without_moves, drifted_fleet, first_fit, tiny_problem

SEEDS = range(240)


def _answer(problem: Problem, hint: Placement | None, bounds: Bounds | None = None) -> Found:
    return solve(problem, Meter(work=100_000), seed=0, hint=hint, bounds=bounds or Bounds())


def test_the_bound_never_exceeds_the_optimum_and_mostly_is_it() -> None:
    answered = tight = attained = 0
    for seed in SEEDS:
        problem = tiny_problem(seed, classes=1 + seed % 3)
        hint = best_without_moves(problem)
        found = _answer(problem, hint)
        if found.placement is None or hint is None:
            assert found.end_reason.startswith("does not apply")
            continue
        assert violations(problem, found.placement) == []
        value, best = evaluate(problem, found.placement), best_tiers(problem)
        tiers = (value.repair, *value.serve, value.meet, value.leave if problem.tiers.leave else 0)
        assert found.bounds.balance <= best[4], seed
        assert found.bounds.move <= best[5], seed
        assert (*tiers, value.balance) >= best[:5], seed
        if tiers == best[:4] and found.end_reason == "optimal":
            assert value.balance == best[4], seed
        answered += 1
        tight += found.bounds.balance == best[4]
        attained += (*tiers, value.balance) == best[:5]
    assert answered > 80
    assert tight > 0.9 * answered
    assert attained > 0.8 * answered


def test_a_limit_that_is_certified_too_low_is_too_low() -> None:
    certified = 0
    for seed in SEEDS:
        problem = tiny_problem(seed, classes=1 + seed % 3)
        best = best_tiers(problem)
        if any(best[:3]):
            continue
        leaves = int(problem.running[problem.leaving].sum()) - best[3] if problem.tiers.leave else 0
        given = ground(problem, on_time=problem.tiers.meet, leave_least=leaves)
        for limit_us in given.limits_us().tolist():
            level = build(given, limit_us)
            if isinstance(level, str):
                too_low = level.startswith("too low")
            else:
                relaxed = least_slack(level, level.rows, None, lambda: True)
                too_low = relaxed.best.slack < 0 and certifies(level, level.rows, relaxed.best.prices)
            assert not (too_low and limit_us >= best[4]), (seed, limit_us, best)
            certified += too_low
    assert certified > 100


@pytest.mark.parametrize(("gpus", "classes", "types"), [(48, 4, 1), (48, 12, 1), (64, 5, 3), (256, 12, 1)])
def test_fleets_are_solved_to_the_tolerance(gpus: int, classes: int, types: int) -> None:
    for seed in range(3):
        problem = drifted_fleet(seed, gpus=gpus, classes=classes, types=types)
        hint = first_fit(problem)
        found = _answer(problem, hint)
        assert found.placement is not None
        assert violations(problem, found.placement) == []
        value = evaluate(problem, found.placement)
        assert value.balance <= evaluate(problem, hint).balance
        assert found.end_reason == "optimal"
        assert value.balance - found.bounds.balance <= problem.tiers.balance_tolerance * value.balance


def test_a_given_bound_shortens_the_search_and_changes_nothing() -> None:
    problem = drifted_fleet(5, gpus=64, classes=6)
    hint = first_fit(problem)
    free = _answer(problem, hint)
    held = _answer(problem, hint, Bounds(balance=free.bounds.balance - 1))
    assert free.bounds.balance == held.bounds.balance
    assert held.bounds.proofs["balance"] == "patterns"


def test_leaving_gpus_give_as_many_as_in_the_hint_and_take_nobody() -> None:
    problem = drifted_fleet(3, gpus=32, classes=4)
    leaving = np.arange(32) < 2
    problem = replace(problem, leaving=leaving, receives=~leaving, out_max=np.where(leaving, 9, 2), moves_max=40)
    hint = first_fit(problem)
    emptied = _with_emptied(problem, hint)
    found = _answer(problem, emptied)
    assert found.placement is not None
    assert evaluate(problem, found.placement).leave <= evaluate(problem, emptied).leave == 0
    assert not (found.placement.arrived + found.placement.placed)[leaving].any()


def _with_emptied(problem: Problem, hint: Placement) -> Placement:
    """The hint, and everybody off the leaving GPUs, one by one to the fastest GPU."""
    out, arrived = hint.out.copy(), hint.arrived.copy()
    for gpu, k in np.argwhere(problem.running * problem.leaving[:, None] > 0):
        for _ in range(int(problem.running[gpu, k])):
            after = problem.running + arrived + hint.placed
            after[:, k] += 1
            fits = problem.receives & (after @ problem.state_mib <= problem.memory_mib) & (arrived.sum(axis=1) < 2)
            target = int(np.where(fits, problem.latency_us(after), 1 << 41).argmin())
            out[gpu, k] += 1
            arrived[target, k] += 1
    placement = Placement(out=out, arrived=arrived, placed=hint.placed)
    assert violations(problem, placement) == []
    return placement


def test_equal_problems_end_equally_in_work_mode() -> None:
    problem = drifted_fleet(7, gpus=48, classes=8, types=3)
    hint = first_fit(problem)
    first, second = _answer(problem, hint), _answer(problem, hint)
    assert first.placement is not None
    assert second.placement is not None
    assert (first.placement.out == second.placement.out).all()
    assert (first.placement.placed == second.placement.placed).all()
    assert (first.bounds, first.end_reason) == (second.bounds, second.end_reason)


def test_without_time_the_hint_comes_back() -> None:
    problem = drifted_fleet(1, gpus=64, classes=8)
    hint = first_fit(problem)
    found = solve(problem, Meter(work=1), seed=0, hint=hint, bounds=Bounds())
    assert found.placement is hint
    assert found.end_reason == "deadline"


def test_the_deadline_is_kept() -> None:
    problem = drifted_fleet(1, gpus=512, classes=12, types=3)
    hint = first_fit(problem)
    solve(problem, Meter(work=100), seed=0, hint=hint, bounds=Bounds())  # what is loaded once does not count
    for seconds in (0.02, 0.1):
        started_s = time.perf_counter()
        found = solve(problem, Meter(clock=time.perf_counter, seconds=seconds), seed=0, hint=hint, bounds=Bounds())
        assert time.perf_counter() - started_s <= seconds + 0.1
        assert found.placement is not None


def test_it_says_why_it_does_not_apply() -> None:
    problem = drifted_fleet(1, gpus=8, classes=2)
    hint = first_fit(problem)
    nobody = Placement.unchanged(problem)
    grouped = replace(problem, tables=replace(problem.tables, batching="grouped"))
    late = replace(problem, target_us=np.ones(2, dtype=np.int64))
    broken = replace(problem, memory_mib=problem.memory_mib // 2, waiting=np.zeros(2, dtype=np.int64))
    unbalanced = replace(problem, tiers=replace(problem.tiers, balance=False))
    for one, placement, reason in (
        (grouped, hint, "batching grouped"),
        (problem, None, "no placement is known"),
        (problem, nobody, "somebody has no GPU"),
        (late, hint, "somebody is late"),
        (broken, nobody, "something is broken"),
        (unbalanced, hint, "the worst latency does not count"),
    ):
        found = _answer(one, placement)
        assert found.placement is None
        assert found.end_reason == f"does not apply: {reason}"
