"""What a controller counts, as `Status.counts` names it.

Decides names of metrics and when a GPU is paid for; must never know why something happened. Time is an argument, in
seconds of any clock that only grows. All begins at zero with a controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runtime.controller.regret import S_PER_HOUR, Regret
from runtime.transfer.messages import Way
from scheduler.cluster import Gpu
from scheduler.fleet import Fleet
from scheduler.plan import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Since:
    gpu_type: str
    since_s: float


class Tally:
    """Sums that only grow, the last plan, and since when each GPU is paid for."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._gpus: dict[str, _Since] = {}  # by worker
        self._plan: tuple[float, float] | None = None  # for when the last one was made, and its gap
        self._regret: Regret | None = None  # since the first plan

    def copy(self) -> Tally:
        """What is counted on it is forgotten with it."""
        copied = Tally()
        copied._sums, copied._gpus = dict(self._sums), dict(self._gpus)
        copied._plan, copied._regret = self._plan, self._regret
        return copied

    def gpu_on(self, gpu: Gpu, now_s: float) -> None:
        """It is switched on, or its worker has come: whatever was first counts."""
        self._gpus.setdefault(gpu.gpu_id, _Since(gpu_type=gpu.gpu_type, since_s=now_s))

    def gpu_off(self, worker: str, now_s: float) -> None:
        """Its worker has left, or will not come. Said again, nothing follows."""
        on = self._gpus.pop(worker, None)
        if on is not None:
            self._add(_gpu_seconds(on.gpu_type), now_s - on.since_s)

    def planned(self, report: Report, made_s: float) -> None:
        """A plan was made for the fleet as it was then."""
        self._plan = (made_s, report.headline.gap)
        for stage in report.stages:
            self._took(stage.seconds, "epochal_plan_solve_seconds", solver=stage.solver)
        if report.fallback is not None:  # the planner knows one
            self._add(_labelled("epochal_plan_fallback_total", reason="by_priority"))

    def hold_against(self, least_per_hour: float, fleet: Fleet, now_s: float) -> None:
        """From now on no GPUs that hold everybody on time cost less than that, in dollars."""
        paid_dollars = self._until(now_s).dollars(fleet)
        before = self._regret or Regret(at_s=now_s, paid_dollars=paid_dollars, least_per_hour=0.0)
        self._regret = replace(before.until(now_s, paid_dollars), least_per_hour=least_per_hour)

    def migrated(self, result: str, reason: str, seconds: float = 0.0, moved_bytes: int = 0, way: Way = "tcp") -> None:
        """A hand-over has ended. Time and bytes are those of states that have arrived."""
        self._add(_labelled("epochal_migrations_total", result=result, reason=reason))
        if result == "done":
            self._took(seconds, "epochal_migration_seconds")
            self._add(_labelled("epochal_migration_bytes_total", way=way), moved_bytes)

    def offloaded(self, direction: str, seconds: float) -> None:
        """A state is in host memory, or back from there."""
        self._took(seconds, "epochal_offload_seconds", direction=direction)

    def counts(self, fleet: Fleet, now_s: float) -> Mapping[str, float]:
        """By metric with labels; GPUs that are on count until now."""
        until_now = self._until(now_s)
        found, dollars = until_now._sums, until_now.dollars(fleet)
        found["epochal_cost_dollars_total"] = dollars
        regret = None if self._regret is None else self._regret.until(now_s, dollars).ratio
        if regret is not None:
            found[_labelled("epochal_regret_ratio", objective="cost")] = regret
        if self._plan is not None:
            made_s, found["epochal_plan_gap_ratio"] = self._plan
            found["epochal_plan_age_seconds"] = now_s - made_s
        return found

    def dollars(self, fleet: Fleet) -> float:
        """What GPUs have cost that are off by now."""
        seconds = {name: self._sums.get(_gpu_seconds(name), 0.0) for name in fleet.gpu_types}
        return sum(gpu_type.price_per_hour / S_PER_HOUR * seconds[name] for name, gpu_type in fleet.gpu_types.items())

    def _until(self, now_s: float) -> Tally:
        """A copy, as if all GPUs were switched off."""
        copied = self.copy()
        for worker in self._gpus:
            copied.gpu_off(worker, now_s)
        return copied

    def _took(self, seconds: float, name: str, **labels: str) -> None:
        self._add(_labelled(f"{name}_sum", **labels), seconds)
        self._add(_labelled(f"{name}_count", **labels))

    def _add(self, key: str, value: float = 1.0) -> None:
        self._sums[key] = self._sums.get(key, 0.0) + value


def _gpu_seconds(gpu_type: str) -> str:
    return _labelled("epochal_gpu_seconds_total", type=gpu_type)


def _labelled(name: str, **labels: str) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inside}}}" if inside else name
