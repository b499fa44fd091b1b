"""Whole patterns near fractions of them, compiled: one GPU after another exchanges its pattern while shortage falls.

Decides which pattern each GPU of a group follows; must never know what patterns are made of, nor how fractions came up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solvers.numba_kernel import inner, kernel
from solvers.placement.problem import IntArray

RealArray = npt.NDArray[np.float64]

TABU_LEAST, TABU_SPREAD = 5, 10  # exchanges during which a pattern does not come back
NEAR = 1e-9


class Choice(NamedTuple):
    """Patterns to choose from, sorted by group."""

    gain: RealArray  # [patterns, rows]
    first: IntArray  # [groups + 1]: the first pattern of each group
    least: RealArray  # [rows]: what all GPUs together have to gain
    weight: RealArray  # [rows]: of what is missing


class Walk(NamedTuple):
    """Where a search is; changed in place."""

    followed: IntArray  # [patterns]: by so many GPUs
    gained: RealArray  # [rows]
    tabu_until: IntArray  # [patterns]: step before which it does not come back
    best: IntArray  # [patterns]: the same with the least shortage so far
    least: RealArray  # [1]: that shortage


@inner
def _exchanged(choice: Choice, gained: RealArray, pattern: int, other: int, enough: float) -> float:
    """The shortage once a GPU follows the other pattern; some number above `enough` if it is above that."""
    short = 0.0
    for row in range(len(gained)):
        missing = choice.least[row] - gained[row] + choice.gain[pattern, row] - choice.gain[other, row]
        if missing > 0:
            short += choice.weight[row] * missing
            if short > enough:
                break
    return short


@kernel
def exchange(choice: Choice, walk: Walk, seed: int, steps_from: int, steps_to: int) -> bool:
    """Make the best exchange on one GPU, also if it is for the worse, step by step; True once nothing is missing."""
    np.random.seed(seed)
    for step in range(steps_from, steps_to):
        if walk.least[0] <= NEAR:
            return True
        leaving, entering, found, ties = -1, -1, 1e300, 0
        for group in range(len(choice.first) - 1):
            for pattern in range(choice.first[group], choice.first[group + 1]):
                if walk.followed[pattern] == 0:
                    continue
                for other in range(choice.first[group], choice.first[group + 1]):
                    if other == pattern or walk.tabu_until[other] > step:
                        continue
                    short = _exchanged(choice, walk.gained, pattern, other, found + NEAR)
                    if short > found + NEAR:
                        continue
                    ties = ties + 1 if short >= found - NEAR else 1
                    if np.random.random() * ties < 1:
                        leaving, entering, found = pattern, other, short
        if leaving < 0:
            break
        walk.followed[leaving] -= 1
        walk.followed[entering] += 1
        walk.gained[:] += choice.gain[entering] - choice.gain[leaving]
        walk.tabu_until[leaving] = step + TABU_LEAST + int(TABU_SPREAD * np.random.random())
        if found < walk.least[0] - NEAR:
            walk.best[:] = walk.followed
            walk.least[0] = found
    return bool(walk.least[0] <= NEAR)
