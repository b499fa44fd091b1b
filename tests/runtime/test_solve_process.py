"""A solver that hangs, crashes or lies costs one fallback, and the next question is answered again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from runtime.solve_messages import PREFIX, Ask, MessageError, Reply, decode, encode
from runtime.solve_process import MEMORY_MIB, SolveProcess
from solvers.placement.check import evaluate
from solvers.placement.problem import Problem
from solvers.placement.solution import Placement, better
from tests.solvers.placement.brute_force import optimum
from tests.solvers.placement.builders import a_placement, a_placement_problem
from tests.solvers.placement.fleets import a_fleet, placed_one_by_one

LOADING_S = 60.0
HERE = "tests.runtime.bad_solvers"


def a_problem(gpus: int = 2) -> Problem:
    return a_placement_problem("AA" + " | " * (gpus - 1), waiting="B")


def a_fallback(problem: Problem) -> Placement:
    return a_placement(problem, placed=" | B" + " | " * (problem.gpus - 2))


def solving(name: str, *, memory_mib: int = MEMORY_MIB) -> SolveProcess:
    process = SolveProcess(f"{HERE}:{name}", memory_mib=memory_mib)
    assert process.wait_ready(LOADING_S)
    return process


@pytest.fixture(scope="module")
def honest() -> Iterator[SolveProcess]:
    with solving("honest") as process:
        yield process


def test_an_honest_answer_is_used_and_the_process_stays_warm(honest: SolveProcess) -> None:
    problem = a_problem()
    pids = set()
    for _ in range(3):
        solved = honest.solve(problem, a_fallback(problem), seconds=10.0)
        assert solved.fallback is None
        assert (solved.answer.placement.placed == a_fallback(problem).placed).all()
        assert solved.answer.value == evaluate(problem, solved.answer.placement)
        pids.add(honest.pid)
    assert len(pids) == 1


def test_a_hanging_solver_is_killed_at_the_deadline_and_replaced(honest: SolveProcess) -> None:
    slow, pid = a_problem(gpus=3), honest.pid
    started = time.monotonic()
    solved = honest.solve(slow, a_fallback(slow), seconds=0.5)
    assert time.monotonic() - started < LOADING_S / 2
    assert solved.fallback == "late"
    assert (solved.answer.placement.placed == a_fallback(slow).placed).all()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert honest.wait_ready(LOADING_S)
    assert honest.solve(a_problem(), a_fallback(a_problem()), seconds=10.0).fallback is None


def test_a_crash_costs_one_fallback(honest: SolveProcess) -> None:
    fatal = a_problem(gpus=4)
    assert honest.solve(fatal, a_fallback(fatal), seconds=10.0).fallback == "crashed: SIGABRT"
    assert honest.wait_ready(LOADING_S)
    assert honest.solve(a_problem(), a_fallback(a_problem()), seconds=10.0).fallback is None


def test_a_solver_that_needs_too_much_memory_ends_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with solving("takes_all_memory", memory_mib=4096) as process:
        solved = process.solve(a_problem(), a_fallback(a_problem()), seconds=30.0)
    assert solved.fallback == "crashed: exit status 1"
    assert "MemoryError" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrong_shape", "not allowed: placed has shape"),
        ("negative", "not allowed: placed must be whole numbers"),
        ("places_who_does_not_wait", "not allowed: class"),
        ("does_nothing", "worse than the fallback"),
        ("boasts", "untrue: balance is"),
        ("gives_up", "no answer: does not apply: it is Tuesday"),
    ],
)
def test_a_lie_is_found_out(name: str, reason: str) -> None:
    problem = a_problem()
    with solving(name) as process:
        solved = process.solve(problem, a_fallback(problem), seconds=30.0)
        pid = process.pid
        process.solve(problem, a_fallback(problem), seconds=30.0)
        assert process.pid == pid  # it answers in time, and may be right about the next problem
    assert solved.fallback is not None
    assert solved.fallback.startswith(reason)
    assert (solved.answer.placement.placed == a_fallback(problem).placed).all()


def test_numbers_that_are_none_are_refused_with_the_process() -> None:
    with solving("not_a_number") as process:
        solved = process.solve(a_problem(), a_fallback(a_problem()), seconds=30.0)
    assert solved.fallback == "not understood: Reply.placement.placed must be an array of int64, not of float64"


def test_a_solver_that_cannot_be_loaded_costs_fallbacks_only() -> None:
    with SolveProcess(f"{HERE}:cannot_be_loaded") as process:
        assert not process.wait_ready(LOADING_S)
        solved = process.solve(a_problem(), a_fallback(a_problem()), seconds=LOADING_S)
    assert solved.fallback == "crashed: exit status 1"


def test_a_question_that_comes_before_the_solver_is_loaded_falls_back_and_loading_goes_on() -> None:
    with SolveProcess(f"{HERE}:honest") as process:
        pid = process.pid
        assert process.solve(a_problem(), a_fallback(a_problem()), seconds=0.001).fallback == "not ready in time"
        assert process.wait_ready(LOADING_S)
        assert process.pid == pid
        assert process.solve(a_problem(), a_fallback(a_problem()), seconds=10.0).fallback is None


def test_a_registered_solver_finds_the_optimum_in_its_process() -> None:
    problem = a_placement_problem("AAAA | | B", waiting="AB")
    with SolveProcess("cpsat") as process:
        assert process.wait_ready(LOADING_S)
        solved = process.solve(problem, Placement.unchanged(problem), seconds=20.0)
    assert solved.fallback is None
    assert solved.answer.value.balance == solved.answer.bounds.balance == optimum(problem)[1].balance


def test_a_message_that_is_not_of_its_type_is_refused() -> None:
    problem = a_problem()
    ask = Ask(serial=1, problem=problem, hint=Placement.unchanged(problem), seconds=1.0, seed=0, gap=0.01)
    frame = encode(ask)
    prefix, body = frame[: PREFIX.size], frame[PREFIX.size :]
    again = decode(Ask, prefix, body)
    assert (again.problem.running == problem.running).all()
    assert again.problem.tiers == problem.tiers
    with pytest.raises(MessageError, match="Reply must be the fields serial, placement"):
        decode(Reply, prefix, body)
    with pytest.raises(MessageError, match="an array of its length"):
        decode(Ask, prefix, body[:-1])
    floats = replace(Placement.unchanged(problem), out=np.zeros((2, 2)))  # type: ignore[arg-type]
    frame = encode(replace(ask, hint=floats))
    with pytest.raises(MessageError, match="an array of int64, not of float64"):
        decode(Ask, frame[: PREFIX.size], frame[PREFIX.size :])


def test_the_cascade_answers_in_time_from_its_first_question_on() -> None:
    problem = a_fleet(64, 4, "grouped")
    fallback = placed_one_by_one(problem)
    with SolveProcess() as process:
        assert process.wait_ready(LOADING_S)
        solved = process.solve(problem, fallback, seconds=2.0)
    assert solved.fallback is None
    assert solved.answer.stages
    assert better(problem, solved.answer.value, evaluate(problem, fallback))
