"""Named workloads: a trace and a fleet, equal at every call.

Decides which demand and which GPUs a benchmark speaks of; must never know what is measured on them. `kv` puts the
kv-cache-tester's sessions on ServeGen's arrivals, which follow the hours of a day; `steady` and `bursty` put Mooncake's
short sessions on Mooncake's own arrivals and on those of Azure, which burst by the minute; `synthetic` is our own law.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bench.result import Size
from scheduler.fleet import Budget, Fleet
from scheduler.fleet_file import load_fleet, with_overrides
from traces.compose import ComposeOptions, compose
from traces.demand import arrivals_of, bodies_of
from traces.importers.azure import azure_arrivals
from traces.importers.kv_cache_tester import kv_cache_tester_bodies
from traces.importers.servegen import servegen_rates
from traces.recorded import recorded
from traces.store import read_trace
from traces.synthetic import generate
from traces.trace import Trace

Family = Literal["kv", "steady", "bursty", "synthetic"]

_ROOT = Path(__file__).resolve().parent.parent
_DATA = _ROOT / "tests" / "traces" / "data"
FLEETS = _ROOT / "examples" / "fleets"
_TRACES = _ROOT / "examples" / "traces"

_MOONCAKE_US = 2700 * 1_000_000  # for so long requests were recorded; the last ones go on beyond

_FOUR = {"wan-1.3b-480p": 0.40, "wan-1.3b-720p": 0.25, "world-5b-480p": 0.20, "wan-14b-480p": 0.15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """How a trace is made, and the fleet that it is for."""

    family: Family
    hours: float
    active_mean: float  # sessions active at once, on average over the window
    fleet: str  # a file of examples/fleets
    changes: Mapping[str, float] = field(default_factory=dict)  # dotted fleet keys -> values
    profiles: Mapping[str, float] = field(default_factory=dict)  # share of the sessions; empty: the fleet's default
    seed: int = 1

    def trace(self, name: str) -> Trace:
        """The demand; equal workloads give equal traces."""
        options = ComposeOptions(hours=self.hours, active_mean=self.active_mean, profiles=self.profiles, seed=self.seed)
        if self.family == "synthetic":
            return generate(options, name=name)
        if self.family == "kv":
            bodies = kv_cache_tester_bodies(_DATA / "kv_cache_tester.csv.gz")
            return compose(bodies, servegen_rates(_DATA / "servegen_deepseek.csv.gz"), options, name=name)
        mooncake = read_trace(_TRACES / "mooncake-45min.csv.gz")
        steady = self.family == "steady"
        opened = replace(arrivals_of(mooncake), length_us=_MOONCAKE_US)
        arrivals = opened if steady else azure_arrivals(_DATA / "azure_conv.csv.gz")
        return compose(bodies_of(mooncake), recorded(arrivals), options, name=name)

    def gpus(self) -> Fleet:
        """The fleet file with this workload's changes."""
        return with_overrides(load_fleet(FLEETS / self.fleet), self.changes)[0]


# 200 nodes instead of 80: at the peak the day with two million periods has twice the sessions that 640 GPUs hold.
_ONE = {"epoch_s": 10.0, "pools[0].nodes": 200}
# 90 h100 nodes instead of 50 and 50 b200 nodes instead of 40: both together hold the peak with a fifth to spare, b200
# alone does not hold it.
_TWO = {"pools[0].nodes": 90, "pools[1].nodes": 50}
# Small: the b200 pool must be too small here, too.
_TWO_SMALL = {"pools[0].nodes": 8, "pools[1].nodes": 4}
# One profile, and pools of which neither holds the peak alone.
_TWO_ONE = {"pools[0].nodes": 40, "pools[1].nodes": 24}
_TWO_ONE_SMALL = {"pools[0].nodes": 5, "pools[1].nodes": 1}
# Latency: sessions may move every 5 s, as in the example of docs/formats.md.
_FAST = {"epoch_s": 5.0}

STANDARD: Mapping[str, Workload] = {
    "one-kv": Workload(family="kv", hours=24, active_mean=1700, fleet="one-type.yaml", changes=_ONE),
    "one-synthetic": Workload(family="synthetic", hours=24, active_mean=1130, fleet="one-type.yaml", changes=_ONE),
    "four-kv": Workload(family="kv", hours=24, active_mean=810, fleet="four-profiles.yaml", profiles=_FOUR),
    "four-synthetic": Workload(
        family="synthetic", hours=24, active_mean=810, fleet="four-profiles.yaml", profiles=_FOUR
    ),
    "four-kv-100": Workload(family="kv", hours=24, active_mean=100, fleet="four-profiles.yaml", profiles=_FOUR),
    "four-synthetic-100": Workload(
        family="synthetic", hours=24, active_mean=100, fleet="four-profiles.yaml", profiles=_FOUR
    ),
    "two-types-kv": Workload(
        family="kv", hours=24, active_mean=810, fleet="two-types.yaml", profiles=_FOUR, changes=_TWO
    ),
    "two-types-synthetic": Workload(
        family="synthetic", hours=24, active_mean=810, fleet="two-types.yaml", profiles=_FOUR, changes=_TWO
    ),
    "two-types-one-kv": Workload(family="kv", hours=24, active_mean=810, fleet="two-types.yaml", changes=_TWO_ONE),
    "latency-kv": Workload(
        family="kv", hours=24, active_mean=100, fleet="four-profiles.yaml", profiles=_FOUR, changes=_FAST
    ),
}

SMALL: Mapping[str, Workload] = {
    "one-kv": Workload(family="kv", hours=2, active_mean=300, fleet="one-type.yaml", changes=_ONE),
    "one-synthetic": Workload(family="synthetic", hours=2, active_mean=300, fleet="one-type.yaml", changes=_ONE),
    "four-kv": Workload(family="kv", hours=2, active_mean=200, fleet="four-profiles.yaml", profiles=_FOUR),
    "four-synthetic": Workload(
        family="synthetic", hours=2, active_mean=200, fleet="four-profiles.yaml", profiles=_FOUR
    ),
    "four-kv-100": Workload(family="kv", hours=2, active_mean=60, fleet="four-profiles.yaml", profiles=_FOUR),
    "four-synthetic-100": Workload(
        family="synthetic", hours=2, active_mean=60, fleet="four-profiles.yaml", profiles=_FOUR
    ),
    "two-types-kv": Workload(
        family="kv", hours=1, active_mean=90, fleet="two-types.yaml", profiles=_FOUR, changes=_TWO_SMALL
    ),
    "two-types-synthetic": Workload(
        family="synthetic", hours=1, active_mean=90, fleet="two-types.yaml", profiles=_FOUR, changes=_TWO_SMALL
    ),
    "two-types-one-kv": Workload(family="kv", hours=1, active_mean=90, fleet="two-types.yaml", changes=_TWO_ONE_SMALL),
    "latency-kv": Workload(
        family="kv", hours=0.5, active_mean=100, fleet="four-profiles.yaml", profiles=_FOUR, changes=_FAST
    ),
}

WORKLOADS: Mapping[Size, Mapping[str, Workload]] = {"small": SMALL, "standard": STANDARD}


def workload(name: str, size: Size = "standard") -> tuple[Trace, Fleet]:
    """The named trace and its fleet, with the fleet file's own budget."""
    wanted = WORKLOADS[size][name]
    return wanted.trace(f"{name}-{size}"), wanted.gpus()


def without_budget(fleet: Fleet) -> Fleet:
    """The same fleet with unlimited migrations."""
    return fleet.model_copy(update={"budget": Budget()})
