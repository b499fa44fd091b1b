"""The process that solves: reads questions from one pipe, writes answers to another.

Decides nothing but which solver is asked; must never know what becomes of its answers.
Run as `python -m runtime.solve_child <solver> <read fd> <write fd> <memory MiB>`.
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from runtime.solve_messages import PREFIX, Ask, Ready, Reply, decode, encode, frame_bytes
from solvers.placement.meter import Meter
from solvers.placement.problem import IntArray, Problem, RoundTables
from solvers.placement.registry import SOLVERS, Solver
from solvers.placement.solution import Bounds, Placement

Answerer = Callable[[Ask], Reply]

PORTFOLIO = "portfolio"
WARM_UP_S = 0.5
WARM_UPS_MAX = 10
NEVER_REACHED = -1.0  # a gap
NOBODY_LATE_US, SOMEBODY_LATE_US = 99_000, 9_000  # targets
PRICING_WORK = 1000  # units: what is compiled does not depend on how busy the machine is

_EVEN = ([[3], [1], [1], [0]], [[3, 3], [1, 1], [1, 1], [0, 0]])  # one GPU is the worst, and somebody is late
_UNEVEN = [[2, 1, 1], [0, 0, 0], [0, 0, 0], [2, 1, 2]]  # bounds leave a gap, so that patterns are priced


def main(arguments: list[str]) -> int:
    """Until the other side closes its pipe; anything that goes wrong is printed and ends the process."""
    solver, read_fd, write_fd, memory_mib = arguments[0], int(arguments[1]), int(arguments[2]), int(arguments[3])
    resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    with os.fdopen(read_fd, "rb") as questions, os.fdopen(write_fd, "wb") as answers:
        try:
            answer = answerer(solver)
            _write(answers, encode(Ready(solver=solver)))
            while prefix := questions.read(PREFIX.size):
                ask = decode(Ask, prefix, questions.read(frame_bytes(prefix)))
                _write(answers, encode(answer(ask)))
        except Exception:  # noqa: BLE001 - the outermost loop
            traceback.print_exc()
            return 1
    return 0


def answerer(solver: str) -> Answerer:
    """The cascade, a registered solver by name, or any other one as `module:factory`."""
    if solver == PORTFOLIO:
        _price_patterns()
        return _warmed_up(_by_portfolio())
    if ":" in solver:
        module, _, factory = solver.partition(":")
        return _by_solver(solver, getattr(importlib.import_module(module), factory)())
    return _warmed_up(_by_solver(solver, SOLVERS[solver]()))


def warm_up() -> None:
    """Load libraries and kernels into this process, so that a deadline that follows is for searching alone."""
    answerer(PORTFOLIO)


def _by_portfolio() -> Answerer:
    from solvers.placement import cpsat
    from solvers.placement.portfolio import solve

    cpsat.load()  # with less time than that takes, the cascade would do without it

    def answer(ask: Ask) -> Reply:
        found = solve(ask.problem, Meter(clock=time.perf_counter, seconds=ask.seconds), seed=ask.seed, gap=ask.gap)
        return Reply(
            serial=ask.serial,
            placement=found.placement,
            bounds=found.bounds,
            solver=found.solver,
            end_reason=found.end_reason,
            stages=found.stages,
        )

    return answer


def _by_solver(name: str, solver: Solver) -> Answerer:
    def answer(ask: Ask) -> Reply:
        meter = Meter(clock=time.perf_counter, seconds=ask.seconds)
        found = solver(ask.problem, meter, seed=ask.seed, hint=ask.hint, bounds=Bounds())
        return Reply(
            serial=ask.serial,
            placement=found.placement,
            bounds=found.bounds,
            solver=name,
            end_reason=found.end_reason,
            stages=(),
        )

    return answer


def _warmed_up(answer: Answerer) -> Answerer:
    """Libraries are loaded and kernels compiled before the first question: until small ones are answered in time."""
    for counts in _EVEN:
        for _ in range(WARM_UPS_MAX):
            started = time.perf_counter()
            answer(_small_question(np.array(counts), SOMEBODY_LATE_US))
            if time.perf_counter() - started < 2 * WARM_UP_S:
                break
    return answer


def _price_patterns() -> None:
    """The cascade seldom comes so far, but may in any question."""
    problem = _small_question(np.array(_UNEVEN), NOBODY_LATE_US).problem
    SOLVERS["columns"]()(problem, Meter(work=PRICING_WORK), seed=0, hint=None, bounds=Bounds())


def _small_question(running: IntArray, target_us: int) -> Ask:
    """A few GPUs; a gap that is never reached lets every stage of a cascade run."""
    (gpus, classes), sessions = running.shape, 8
    each, everywhere = np.ones(classes, dtype=np.int64), np.ones(gpus, dtype=np.int64)
    alone_us = 1000 * np.arange(sessions + 1) * (2 + np.arange(classes))[:, None]
    problem = Problem(
        tables=RoundTables(
            batching="grouped",
            alone_us=alone_us[None, :, :],
            base_us=np.zeros((1, classes), dtype=np.int64),
            common_us=np.zeros((1, sessions + 1), dtype=np.int64),
        ),
        gpu_type=np.zeros(gpus, dtype=np.int32),
        running=running,
        waiting=each,
        receives=everywhere > 0,
        leaving=everywhere < 0,
        memory_mib=everywhere * 99,
        state_mib=each,
        target_us=each * target_us,
        transfer_us=each,
        lateness_weight=each,
        priority_rank=np.zeros(classes, dtype=np.int32),
        moves_max=2,
        moved_mib_max=99,
        out_max=everywhere * 2,
        in_max=everywhere * 2,
    )
    hint = Placement.unchanged(problem)
    return Ask(serial=0, problem=problem, hint=hint, seconds=WARM_UP_S, seed=0, gap=NEVER_REACHED)


def _write(pipe: BinaryIO, frame: bytes) -> None:
    pipe.write(frame)
    pipe.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
