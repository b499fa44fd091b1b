"""Solvers that misbehave in every way that we can think of; asked for by import path.

Decides how a solver can go wrong; must never know how it is found out.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np

from solvers.placement.meter import Meter
from solvers.placement.problem import Problem
from solvers.placement.registry import Found, Solver
from solvers.placement.solution import Bounds, Placement


def _always(found: Found) -> Solver:
    def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
        del problem, meter, seed, hint, bounds
        return found

    return solve


def _places(placed: object) -> Solver:
    """Whatever `placed` is; nobody migrates."""

    def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
        del meter, seed, hint
        placement = replace(Placement.unchanged(problem), placed=placed)  # type: ignore[arg-type]
        return Found(placement=placement, bounds=bounds, end_reason="done")

    return solve


def honest() -> Solver:
    """Keeps the hint, and takes its time if there are three GPUs."""

    def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
        del seed, meter
        if problem.gpus == 3:
            time.sleep(600)
        if problem.gpus == 4:
            os.abort()
        print("on standard output, where nobody listens")
        return Found(placement=hint, bounds=bounds, end_reason="kept the hint")

    return solve


def gives_up() -> Solver:
    return _always(Found(placement=None, bounds=Bounds(), end_reason="does not apply: it is Tuesday"))


def takes_all_memory() -> Solver:
    def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
        del problem, meter, seed
        hoard = [np.empty(1 << 27) for _ in range(1000)]  # a GiB each
        return Found(placement=hint, bounds=bounds, end_reason=f"{len(hoard)}")

    return solve


def cannot_be_loaded() -> Solver:
    raise ImportError("no licence")


def wrong_shape() -> Solver:
    return _places(np.zeros((1, 1), dtype=np.int64))


def not_a_number() -> Solver:
    return _places(np.full((2, 2), np.nan))


def negative() -> Solver:
    return _places(np.full((2, 2), -1, dtype=np.int64))


def places_who_does_not_wait() -> Solver:
    return _places(np.full((2, 2), 5, dtype=np.int64))


def does_nothing() -> Solver:
    return _places(np.zeros((2, 2), dtype=np.int64))


def boasts() -> Solver:
    def solve(problem: Problem, meter: Meter, *, seed: int, hint: Placement | None, bounds: Bounds) -> Found:
        del problem, meter, seed, bounds
        return Found(placement=hint, bounds=Bounds(balance=1 << 30), end_reason="better than the best")

    return solve
