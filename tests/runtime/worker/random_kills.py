"""Kills of real workers at random moments: `python -m tests.runtime.worker.random_kills --count 200`.

Decides how many and with which seed; must never weaken what is checked after each. `--every-fault` strikes once with
each combination of way, victim, signal and share of the transfer instead, with the transformer.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import random
import time

import torch

from tests.runtime.transfer.faults import Scenario, Victim
from tests.runtime.worker.live import a_live_fleet
from tests.runtime.worker.live_faults import WAYS, strike, strike_at_any_time

MIB = 1 << 20
EMULATED_BYTES, WIDE_BYTES = 128 * MIB, 160 * MIB
SHARES = (0.1, 0.5, 0.99)
SIDES: tuple[Victim, ...] = ("source", "target")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.runtime.worker.random_kills")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every-fault", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ends: collections.Counter[str] = collections.Counter()
    begun_s = time.monotonic()
    if options.every_fault:
        with a_live_fleet("wide", pace_s=0.3, device_bytes=WIDE_BYTES) as fleet:
            for way, side, kill, share in itertools.product(WAYS, SIDES, (True, False), SHARES):
                scenario = Scenario(way=way, victim=side, kill=kill, share=share)
                outcome = strike(fleet, scenario)
                print(f"{scenario}: {outcome}", flush=True)
                ends["committed" if outcome.committed else "aborted"] += 1
        for kill, share in itertools.product((True, False), SHARES):
            with a_live_fleet("wide", pace_s=0.3, device_bytes=WIDE_BYTES) as fleet:  # its store does not come back
                scenario = Scenario(way="gloo", victim="store", kill=kill, share=share)
                outcome = strike(fleet, scenario)
                print(f"{scenario}: {outcome}", flush=True)
                assert outcome.committed, "a pair that is made needs no store"
                ends["committed"] += 1
    else:
        rng = random.Random(options.seed)
        with a_live_fleet("emulated", device_bytes=EMULATED_BYTES, host_bytes=EMULATED_BYTES) as fleet:
            for at in range(options.count):
                ends[strike_at_any_time(fleet, rng)] += 1
                if at % 10 == 9:
                    print(f"{at + 1} kills after {time.monotonic() - begun_s:.0f} s: {dict(ends)}", flush=True)
    taken, refused = sum(fleet.sink.taken.values()), fleet.sink.refused
    print(
        f"seed {options.seed}: {dict(ends)}; {taken} chunks of the last lineages, {refused} refused as old or doubled"
    )
    print(f"{time.monotonic() - begun_s:.0f} s")


if __name__ == "__main__":
    main()
