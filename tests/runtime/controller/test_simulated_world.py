"""Seeds of a deployment in which all that may go wrong does: what was promised holds, and afterwards all is well."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from bench.world.life import REACHED, Life, live

SEEDS, AT_ONCE = 500, 25
ROOT = Path(__file__).resolve().parents[3]


@cache
def lived(seed: int) -> Life:
    return live(seed)


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_what_was_promised_holds_whatever_happens(first: int) -> None:
    broken = {seed: lived(seed).problem for seed in range(first, first + AT_ONCE) if lived(seed).problem}
    assert broken == {}, "python -m bench.promises SEED runs one of them alone"


def test_every_fault_and_every_transition_was_reached() -> None:
    total = sum((Counter(lived(seed).reached) for seed in range(SEEDS)), Counter[str]())
    assert set(+total) >= REACHED


def test_an_operator_who_approves_at_random_is_obeyed_and_breaks_nothing() -> None:
    """The world asserts that nothing begins which nobody has approved; healed, its operator approves all."""
    lives = [live(seed, "approve") for seed in range(8)]
    assert [life.problem for life in lives] == [""] * len(lives)
    assert set().union(*(life.reached for life in lives)) >= {"ruled", "not ruled", "controller killed"}


def test_the_same_seed_is_the_same_run_in_another_process() -> None:
    """Whose sets and dictionaries hash otherwise."""
    for seed in (1, 2):
        again = subprocess.run(
            [sys.executable, "-m", "bench.promises", str(seed)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(100 + seed)},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert again.stdout.split()[-1] == lived(seed).history
