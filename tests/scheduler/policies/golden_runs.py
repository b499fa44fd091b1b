"""Two small runs of every policy, and their summaries as files.

Decides the traces and fleets of the runs; must never know what a good figure is. After a change that is meant to change
figures: `python -m tests.scheduler.policies.golden_runs [POLICY ...]` writes the files anew, and the diff is reviewed.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from scheduler.fleet import Fleet
from scheduler.policies.registry import POLICIES, prepare
from scheduler.simulation.simulate import simulate
from tests.builders import a_fleet
from tests.scheduler.policies.loops import fleets
from traces.assemble import trace_from_periods
from traces.trace import Trace

FOLDER = Path(__file__).parent / "golden"
SEED = 1
SPAN_S = 240.0


def golden_fleets() -> dict[str, Fleet]:
    return {
        "one-type": a_fleet({"pools": [{"gpu_type": "h100", "nodes": 4, "gpus_per_node": 4, "gpus_min": 1}]}),
        "three-types": fleets()["types"],
    }


def a_wave(profiles: tuple[str, ...]) -> Trace:
    """Sessions come at a rate that rises and falls once; each is active, idle, and half of them active again."""
    rng = np.random.default_rng(SEED)
    rows = []
    start_s = 0.0
    for n in range(60):
        start_s += float(rng.exponential(2.0 + 4.0 * abs(start_s / SPAN_S - 0.5)))
        at_s, profile = start_s, profiles[int(rng.integers(len(profiles)))]
        for _ in range(1 + int(rng.random() < 0.5)):
            end_s = at_s + 4.0 + float(rng.exponential(25.0))
            rows.append((f"s{n}", at_s, end_s, profile))
            at_s = end_s + 2.0 + float(rng.exponential(15.0))
    kept = [(name, begin, min(end, SPAN_S), profile) for name, begin, end, profile in rows if begin < SPAN_S - 1.0]
    frame = pl.DataFrame(kept, schema=["session_id", "start_s", "end_s", "profile"], orient="row")
    return trace_from_periods(frame, name="wave")


@cache
def summaries(name: str) -> dict[str, Any]:
    """By fleet, without what differs between equal runs."""
    found = {}
    for fleet_name, fleet in golden_fleets().items():
        trace = a_wave(tuple(fleet.profiles))
        outcome = simulate(trace, fleet, prepare(name, fleet, trace, seed=SEED), fleet_name=fleet_name)
        summary = outcome.summary.to_json()
        del summary["timing"]
        found[fleet_name] = summary
    return found


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.json"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or POLICIES:
        path_of(name).write_text(json.dumps(summaries(name), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
