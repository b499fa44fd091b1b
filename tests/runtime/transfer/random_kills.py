"""Kills at random moments of migrations: `python -m tests.runtime.transfer.random_kills --count 200`.

Decides how many and with which seed; must never weaken what is checked after each.
"""

from __future__ import annotations

import argparse
import collections
import random
import time

from tests.runtime.transfer.faults import strike_at_any_time, try_again
from tests.runtime.transfer.processes import a_fleet


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.runtime.transfer.random_kills")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    ends: collections.Counter[str] = collections.Counter()
    begun_s = time.monotonic()
    with a_fleet() as fleet:
        for _ in range(options.count):
            outcome = strike_at_any_time(fleet, rng)
            ends["committed" if outcome.committed else "aborted"] += 1
            ends["retried, committed"] += try_again(fleet, "tcp" if rng.random() < 0.5 else "gloo").committed
        late = fleet.late
    print(f"{options.count} kills, seed {options.seed}: {dict(ends)}, {late} chunks of former owners refused")
    print(f"{time.monotonic() - begun_s:.0f} s")


if __name__ == "__main__":
    main()
