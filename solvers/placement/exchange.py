"""Whole numbers of patterns near a relaxation's fractions, by rounding and by exchanging patterns of single GPUs.

Decides from where exchanges begin and how long they go on; must never know what patterns are made of.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from solvers.placement.exchange_kernel import NEAR, Choice, Walk, exchange
from solvers.placement.problem import IntArray

RealArray = npt.NDArray[np.float64]

ATTEMPTS = 4  # the first begins at the largest fractions, the others round with chance
STEPS = 120  # of each attempt
LOOKS_AT_ONCE = 1_000_000  # at one row of one pattern, between two looks at the clock: a millisecond or two
WHOLE = 1e-7  # what is so close to a whole number is one


def whole_patterns(
    choice: Choice, fractions: RealArray, random: np.random.Generator, ends: Callable[[], bool]
) -> tuple[IntArray, float]:
    """GPUs by pattern [patterns], and how much is missing, weighted: 0 if they satisfy all rows.

    `fractions` [patterns] sum up to the number of GPUs in each group; `ends` is asked every few milliseconds.
    """
    steps_at_once = max(1, LOOKS_AT_ONCE // max(1, choice.gain.size))
    best, least = np.zeros(len(fractions), dtype=np.int64), np.inf
    for attempt in range(ATTEMPTS):
        count = _rounded(choice, fractions, random if attempt else None)
        walk = _walk(choice, count)
        for step in range(0, STEPS, steps_at_once):
            seed = int(random.integers(1 << 31))
            if exchange(choice, walk, seed, step, min(step + steps_at_once, STEPS)) or ends():
                break
        if walk.least[0] < least:
            best, least = walk.best, float(walk.least[0])
        if least <= NEAR or ends():
            break
    return best, least


def _walk(choice: Choice, count: IntArray) -> Walk:
    gained = count @ choice.gain
    missing = np.maximum(choice.least - gained, 0.0) @ choice.weight
    return Walk(
        followed=count,
        gained=gained,
        tabu_until=np.zeros(len(count), dtype=np.int64),
        best=count.copy(),
        least=np.array([missing]),
    )


def _rounded(choice: Choice, fractions: RealArray, random: np.random.Generator | None) -> IntArray:
    """Fractions rounded down, and what is left of each group to its largest remainders, or by chance."""
    count = np.floor(fractions + WHOLE).astype(np.int64)
    rest = np.maximum(fractions - count, 0.0)
    group = np.repeat(np.arange(len(choice.first) - 1), np.diff(choice.first))
    missing = np.rint(np.bincount(group, weights=rest)).astype(np.int64)
    for one in np.flatnonzero(missing):
        mine = np.arange(choice.first[one], choice.first[one + 1])
        if random is None:
            picks = mine[np.argsort(-rest[mine], kind="stable")[: missing[one]]]
        else:
            picks = random.choice(mine, missing[one], p=rest[mine] / rest[mine].sum())
        np.add.at(count, picks, 1)
    return count
