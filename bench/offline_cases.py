"""The cases of the offline benchmark: which workload is planned how, and what is expected of it.

Decides limits and expectations; must never know how they are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bench.result import Size
from bench.workloads import WORKLOADS, without_budget
from scheduler.fleet import Fleet
from scheduler.offline import OfflineOptions

BudgetName = Literal["default", "unlimited"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One planning run and its gate."""

    workload: str
    budget: BudgetName  # default: that of the fleet file
    deadline_s: float  # of the search
    gap_max: float
    gap_mean_max: float | None = None  # latency only
    seconds_max: float | None = None  # of the whole process
    mib_max: float | None = None
    latency_gpus: Mapping[str, int] | None = None  # given: minimise latency on these

    def fleet(self, size: Size) -> Fleet:
        """The workload's fleet under this case's budget."""
        fleet = WORKLOADS[size][self.workload].gpus()
        return fleet if self.budget == "default" else without_budget(fleet)

    def options(self) -> OfflineOptions:
        """What the planner is asked for."""
        if self.latency_gpus is None:
            return OfflineOptions(deadline_s=self.deadline_s)
        return OfflineOptions(minimize="latency", gpus=self.latency_gpus, deadline_s=self.deadline_s)


def _cost(name: str, workload: str, budget: BudgetName, limits: tuple[float, float, float | None]) -> dict[str, Case]:
    gap_max, seconds_max, mib_max = limits
    deadline_s = seconds_max * 2 / 3  # the rest is for reading, checking and writing
    case = Case(
        workload=workload,
        budget=budget,
        deadline_s=deadline_s,
        gap_max=gap_max,
        seconds_max=seconds_max,
        mib_max=mib_max,
    )
    return {name: case}


_ONE = (0.0005, 30.0, 3072.0)
_FOUR = (0.01, 120.0, None)
_FOUR_100 = (0.04, 120.0, None)
# An hour or two of fewer sessions: what is lost at the ends and in rounding weighs more.
_ONE_SMALL = (0.01, 30.0, 1024.0)
_FOUR_SMALL = (0.06, 30.0, 1024.0)
_FOUR_100_SMALL = (0.08, 30.0, 1024.0)

_LATENCY: Mapping[str, Case] = {
    "latency-kv": Case(
        workload="latency-kv",
        budget="default",
        deadline_s=60.0,
        gap_max=0.001,
        gap_mean_max=0.02,
        latency_gpus={"h100": 64},
    )
}

CASES: Mapping[Size, Mapping[str, Case]] = {
    "standard": {
        **_cost("one-kv", "one-kv", "default", _ONE),
        **_cost("one-kv-unlimited", "one-kv", "unlimited", _ONE),
        **_cost("one-synthetic", "one-synthetic", "default", _ONE),
        **_cost("one-synthetic-unlimited", "one-synthetic", "unlimited", _ONE),
        **_cost("four-kv", "four-kv", "default", _FOUR),
        **_cost("four-kv-unlimited", "four-kv", "unlimited", _FOUR),
        **_cost("four-synthetic", "four-synthetic", "default", _FOUR),
        **_cost("four-synthetic-unlimited", "four-synthetic", "unlimited", _FOUR),
        **_cost("four-kv-100", "four-kv-100", "default", _FOUR_100),
        **_cost("four-synthetic-100", "four-synthetic-100", "default", _FOUR_100),
        **_cost("two-types-kv", "two-types-kv", "default", _FOUR),
        **_cost("two-types-synthetic", "two-types-synthetic", "default", _FOUR),
        **_LATENCY,
    },
    "small": {
        **_cost("one-kv", "one-kv", "default", _ONE_SMALL),
        **_cost("one-kv-unlimited", "one-kv", "unlimited", _ONE_SMALL),
        **_cost("four-kv", "four-kv", "default", _FOUR_SMALL),
        **_cost("four-synthetic-unlimited", "four-synthetic", "unlimited", _FOUR_SMALL),
        **_cost("four-kv-100", "four-kv-100", "default", _FOUR_100_SMALL),
        **_cost("two-types-kv", "two-types-kv", "default", _FOUR_SMALL),
        **_LATENCY,
    },
}
