"""What the standing comparison runs: workloads, policies, sweeps and seeds.

Decides which cells there are; must never know how one is run or what is expected of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bench.result import Size
from bench.workloads import Workload
from scheduler.fleet import Fleet
from traces.trace import Trace

Kind = Literal["steady", "bursty", "diurnal", "mixed", "two types"]
Role = Literal["table", "cost", "latency"]  # what a cell is for: the table, the sweep of costs, equal GPUs

OFFLINE = "offline-optimum"
FIXED = ("fixed-round-robin", "fixed-least-loaded", "two-choices")
SCALING = ("sticky-autoscale", "hpa", "llumnix", "q-learning", "turboserve")
EPOCHAL = (
    "epochal",
    "epochal-no-lookahead",
    "epochal-no-migration",
    "epochal-no-exact",
    "epochal-reference-budget",
)
POLICIES = (*FIXED, *SCALING, *EPOCHAL)
# Of turboserve, headroom and hold in seconds, beside its own 0.9 and 5: to hold as long as a start-up serves it well.
REFERENCE = (("0.75", "5"), ("1.0", "5"), ("0.45", "60"), ("0.6", "60"), ("0.75", "60"), ("0.9", "60"), ("1.0", "60"))
# Of epochal, beside its own level of 0.95: other levels, and the peak of the last five minutes with more to spare.
OURS: tuple[Mapping[str, str], ...] = (
    *({"service_level": level} for level in ("0.8", "0.9", "0.99", "0.999")),
    {"peak_hold_s": "300"},
    {"peak_hold_s": "300", "spare_share": "0.1"},
    {"peak_hold_s": "300", "spare_share": "0.25"},
    {"peak_hold_s": "300", "service_level": "0.8"},
    {"peak_hold_s": "300", "service_level": "0.8", "spare_share": "0.05"},
)

_FOUR = {"wan-1.3b-480p": 0.40, "wan-1.3b-720p": 0.25, "world-5b-480p": 0.20, "wan-14b-480p": 0.15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One workload of the comparison."""

    name: str
    kind: Kind
    gpus: int  # about so many are needed at the peak
    workload: Workload

    @property
    def several(self) -> bool:
        """Whether there are several profiles or GPU types: then placement matters at equal GPUs, too."""
        return self.kind in ("mixed", "two types")

    def made(self, seed: int) -> tuple[Trace, Fleet]:
        """The demand of one seed, and the fleet."""
        drawn = replace(self.workload, seed=seed)
        return drawn.trace(f"{self.name}-{seed}"), drawn.gpus()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One policy with its parameters on one workload, over all seeds."""

    compared: Compared
    policy: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    role: Role = "table"


def cases(size: Size) -> Iterator[Case]:
    """Every workload with every policy; then the sweeps."""
    for compared in WORKLOADS[size]:
        yield Case(compared=compared, policy=OFFLINE)
        for policy in POLICIES:
            yield Case(compared=compared, policy=policy)
        for headroom, hold_s in REFERENCE:
            swept = {"headroom": headroom, "hold_s": hold_s}
            yield Case(compared=compared, policy="turboserve", parameters=swept, role="cost")
        for ours in OURS:
            yield Case(compared=compared, policy="epochal", parameters=ours, role="cost")
        if compared.several:
            for policy in ("turboserve", "epochal", "epochal-reference-budget"):
                yield Case(compared=compared, policy=policy, parameters={"gpus": "fixed"}, role="latency")


def _one(
    family: Literal["kv", "steady", "bursty"], hours: float, mean: float, nodes: int, epoch_s: float = 5.0
) -> Workload:
    """One profile on one GPU type; `nodes` of eight GPUs are half as many again as the peak takes, or more."""
    changes = {"epoch_s": epoch_s, "pools[0].nodes": nodes}
    return Workload(family=family, hours=hours, active_mean=mean, fleet="one-type.yaml", changes=changes)


def _four(fleet: str, hours: float, mean: float, **nodes: float) -> Workload:
    """Four profiles in epochs of 10 s; `nodes` of each pool, `h100` the first and `b200` the second."""
    pools = {f"pools[{index}].nodes": nodes[name] for index, name in enumerate(("h100", "b200")) if name in nodes}
    changes = {"epoch_s": 10.0, **pools}
    return Workload(family="kv", hours=hours, active_mean=mean, fleet=fleet, changes=changes, profiles=_FOUR)


WORKLOADS: Mapping[Size, tuple[Compared, ...]] = {
    "standard": (
        Compared(name="steady-64", kind="steady", gpus=64, workload=_one("steady", 0.5, 150, 14)),
        Compared(name="steady-256", kind="steady", gpus=256, workload=_one("steady", 0.2, 600, 50)),
        Compared(name="bursty-64", kind="bursty", gpus=64, workload=_one("bursty", 0.5, 110, 14)),
        Compared(name="diurnal-16", kind="diurnal", gpus=16, workload=_one("kv", 24.0, 18, 5, 60.0)),
        Compared(name="mixed-8", kind="mixed", gpus=8, workload=_four("four-profiles.yaml", 2.0, 12, h100=4)),
        Compared(name="mixed-64", kind="mixed", gpus=64, workload=_four("four-profiles.yaml", 1.0, 90, h100=14)),
        Compared(
            name="two-types-48",
            kind="two types",
            gpus=48,
            workload=_four("two-types.yaml", 1.0, 80, h100=10, b200=8),
        ),
    ),
    "small": (
        Compared(name="steady-8-short", kind="steady", gpus=8, workload=_one("steady", 0.2, 16, 3)),
        Compared(name="mixed-8-short", kind="mixed", gpus=8, workload=_four("four-profiles.yaml", 0.3, 12, h100=4)),
    ),
}
SEEDS: Mapping[Size, tuple[int, ...]] = {"standard": (0, 1, 2, 3, 4), "small": (0,)}
