"""Whether a whole deployment keeps what it promises, whatever goes wrong: many seeds of the simulated world.

Decides how many seeds and which processes live them; must never know what a seed does. `python -m bench.promises SEED`
lives one of them alone, and prints what was reached and the hash of its history.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from bench.result import BenchResult, Cell, Gate, Size
from bench.world.life import EMPTY_EVERY, REACHED, STEPS, STILL_EVERY, Life, live
from bench.world.world import TICK_S

SEEDS: Mapping[Size, int] = {"small": 20, "standard": 10_000}
_FIRST = 1_000_000  # apart from the seeds of the tests
_PER_TASK, _LIVES_PER_PROCESS = 10, 500
_TOLD_EVERY_S = 30.0


def run(size: Size) -> BenchResult:
    """How often what was reached, and which seeds were broken."""
    count = SEEDS[size]
    seeds = range(_FIRST, _FIRST + count) if size == "standard" else range(count)
    reached, problems = _all(seeds)
    rows: list[Mapping[str, Cell]] = [
        {"reached": what, "times": times, "per life": round(times / count, 3)}
        for what, times in sorted((+reached).items())
    ]
    for seed, problem in sorted(problems.items()):
        print(f"seed {seed}: {problem}; alone: python -m bench.promises {seed}", file=sys.stderr)
    missing = sorted(REACHED - set(+reached))
    gates = [
        Gate(claim="no life breaks a promise", ok=not problems, measured=f"{len(problems)} of {count} do"),
    ]
    if size == "standard":
        measured = ", ".join(missing) or "nothing is missing"
        gates.append(Gate(claim="every fault and every transition is reached", ok=not missing, measured=measured))
    settings: dict[str, Cell] = {
        "seeds": f"{seeds.start} to {seeds.stop - 1}",
        "misfortunes": f"{STEPS * TICK_S:g} s of each life; then it heals",
        "moves nothing": f"every {STILL_EVERY}th life",
        "most leave": f"every {EMPTY_EVERY}th life",
        "processes": _processes(),
    }
    return BenchResult(name="promises", settings=settings, rows=tuple(rows), gates=tuple(gates))


def _processes() -> int:
    return os.cpu_count() or 1


def _all(seeds: Sequence[int]) -> tuple[Counter[str], dict[int, str]]:
    reached, problems = Counter[str](), dict[int, str]()
    for life in _lives(seeds):
        reached.update(life.reached)
        if life.problem:
            problems[life.seed] = life.problem
    return reached, problems


def _lives(seeds: Sequence[int]) -> Iterator[Life]:
    """In any order, on all cores; now and then how far it has come."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # lives are short: a second thread waits longer than it helps
    context = multiprocessing.get_context("spawn")
    told_s = time.monotonic()
    with context.Pool(_processes(), maxtasksperchild=_LIVES_PER_PROCESS // _PER_TASK) as pool:
        for done, life in enumerate(pool.imap_unordered(live, seeds, chunksize=_PER_TASK), start=1):
            yield life
            if time.monotonic() >= told_s + _TOLD_EVERY_S:
                told_s = time.monotonic()
                print(f"promises: {done} of {len(seeds)} lives", file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    """One life alone."""
    (seed,) = arguments
    life = live(int(seed))
    for what, times in sorted(life.reached.items()):
        print(f"{what}: {times}")
    print(f"seed {seed}: {life.problem or 'every promise was kept'}")
    print(life.history)
    return 1 if life.problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
