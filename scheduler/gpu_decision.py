"""What is decided about GPUs before sessions are placed, and the rule that changes nothing.

Decides what a GPU count has to answer; must never know how counts are found or where sessions go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scheduler.cluster import GpuId, GpuStatus, Snapshot
from scheduler.fleet import Fleet
from scheduler.plan import ForecastReport, GpuAim, TierReport
from solvers.placement.meter import Meter

STEADY: Mapping[GpuStatus, GpuAim] = {
    "off": "off",
    "starting": "keep",
    "ready": "keep",
    "draining": "drain",
    "lost": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDecision:
    """What becomes of every GPU, and what that costs."""

    aims: Mapping[GpuId, GpuAim]
    pay: TierReport | None = None  # None: nothing was optimised
    warnings: tuple[str, ...] = ()
    scale_in_wanted: Mapping[str, bool] = field(default_factory=dict)  # by GPU type: whether fewer would do
    forecast: ForecastReport | None = None


class CountGpus(Protocol):
    """Decides which GPUs start, stay and go, before sessions are placed."""

    def __call__(self, snapshot: Snapshot, fleet: Fleet, now_s: float, meter: Meter) -> GpuDecision: ...


def keep_what_is_on(snapshot: Snapshot, fleet: Fleet, now_s: float, meter: Meter) -> GpuDecision:  # noqa: ARG001
    """No GPU starts; those that drain go on draining."""
    return GpuDecision(aims={gpu_id: STEADY[gpu.status] for gpu_id, gpu in snapshot.gpus.items()})
