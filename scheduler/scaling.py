"""Which GPUs start, stay, drain and stop in this epoch, and what that costs.

Decides GPUs by name from counts per type; must never know where sessions will be placed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from scheduler.cluster import Gpu, GpuId, NodeId, Snapshot
from scheduler.fleet import Fleet
from scheduler.gpu_decision import STEADY, GpuDecision
from scheduler.gpu_need import GpuNeed, gpu_types_of
from scheduler.gpu_present import hold_present
from scheduler.gpu_report import forecast_report, pay_report, warnings_of
from scheduler.plan import GpuAim
from scheduler.planner_settings import ScalingSettings
from scheduler.sizes import state_mib
from solvers.placement.meter import SECONDS_PER_WORK, Meter

IntArray = npt.NDArray[np.int64]

WORK_PER_LOOK = 10  # units: a look-ahead with one GPU type is about ten milliseconds
WORK_PER_TYPE = 35  # units that each further type adds
PREPARE_S = 0.1  # at most about so long takes what is done once for the profiles in use


class ScaleByForecast:
    """Our answer to `CountGpus`: the look-ahead over what is expected. Equal snapshots give equal decisions.

    Without time for it nothing shrinks: what is on stays on, and where somebody waits GPUs come back or start. Nothing
    is said then about whether fewer would do.
    """

    def __init__(self, fleet: Fleet, settings: ScalingSettings | None = None) -> None:
        self._fleet, self._settings = fleet, settings or ScalingSettings()
        self._need = GpuNeed(fleet, self._settings)

    def __call__(self, snapshot: Snapshot, fleet: Fleet, now_s: float, meter: Meter) -> GpuDecision:
        assert fleet is self._fleet or fleet == self._fleet, "capacities are those of one fleet"
        work = WORK_PER_LOOK + WORK_PER_TYPE * (len(self._need.gpu_types) - 1)
        once_s = 0.0 if meter.repeats or self._need.prepared(snapshot) else PREPARE_S
        if meter.left_s() < work * SECONDS_PER_WORK + once_s:
            held = hold_what_is_on(snapshot, fleet, now_s, meter)
            return replace(held, warnings=("no time to look ahead: GPUs that are on stay on",))
        decision = self.decide(snapshot, now_s)
        meter.spend(work)
        return decision

    def decide(self, snapshot: Snapshot, now_s: float) -> GpuDecision:
        """Counts per type, then names."""
        counts = self._need.counts(snapshot, now_s)
        return GpuDecision(
            aims=aims_of_changes(
                snapshot,
                self._fleet,
                self._need.gpu_types,
                taken_back=counts.answer.taken_back,
                starts=counts.answer.starts[:, 0],
                stops=counts.answer.stops[:, 0],
            ),
            pay=pay_report(counts),
            warnings=warnings_of(counts),
            scale_in_wanted={t: t in counts.shrinkable for t in counts.gpu_types},
            forecast=None if counts.ahead is None else forecast_report(counts.ahead),
        )


def hold_what_is_on(snapshot: Snapshot, fleet: Fleet, now_s: float, meter: Meter) -> GpuDecision:  # noqa: ARG001
    """Without a look ahead: a `CountGpus` that lets nothing shrink."""
    types = gpu_types_of(fleet)
    taken_back, starts = hold_present(snapshot, fleet, types)
    stops = np.zeros_like(starts)
    return GpuDecision(aims=aims_of_changes(snapshot, fleet, types, taken_back=taken_back, starts=starts, stops=stops))


def decide_gpus(snapshot: Snapshot, now_s: float, fleet: Fleet, settings: ScalingSettings | None = None) -> GpuDecision:
    """One decision; who decides often keeps a `ScaleByForecast`, which prepares the fleet's capacities once."""
    return ScaleByForecast(fleet, settings).decide(snapshot, now_s)


def aims_of_changes(
    snapshot: Snapshot,
    fleet: Fleet,
    gpu_types: Sequence[str],
    *,
    taken_back: IntArray,
    starts: IntArray,
    stops: IntArray,
) -> dict[GpuId, GpuAim]:
    """Change the GPUs that are best changed, by type; all others stay what they are."""
    load = _Load(snapshot, fleet)
    aims = {gpu_id: STEADY[gpu.status] for gpu_id, gpu in snapshot.gpus.items()}
    for index, gpu_type in enumerate(gpu_types):
        mine = [gpu for gpu in snapshot.gpus.values() if gpu.gpu_type == gpu_type]
        load.take_back(mine, int(taken_back[index]), aims)
        load.start(mine, int(starts[index]), aims)
        load.drain(mine, int(stops[index]), aims)
    for gpu_id, gpu in snapshot.gpus.items():
        if gpu.status == "draining" and aims[gpu_id] == "drain" and gpu_id not in load.held:
            aims[gpu_id] = "stop"
    return aims


class _Load:
    """What is on every GPU and how full nodes and pools are; aims are changed in place."""

    def __init__(self, snapshot: Snapshot, fleet: Fleet) -> None:
        self._fleet = fleet
        size = {profile: state_mib(fleet, profile) for profile in fleet.profiles}
        self._active: Counter[GpuId] = Counter()
        self._mib: Counter[GpuId] = Counter()
        for session in snapshot.sessions.values():
            if session.gpu is not None:
                self._active[session.gpu] += session.status == "active"
                self._mib[session.gpu] += size[session.profile]
        for session_id, move in snapshot.moves.items():
            if move.target is not None:
                self._active[move.target] += 1
                self._mib[move.target] += size[snapshot.sessions[session_id].profile]
        ends = {end for move in snapshot.moves.values() for end in (move.source, move.target) if end is not None}
        self.held = {s.gpu for s in snapshot.sessions.values() if s.gpu is not None} | ends
        on = [gpu for gpu in snapshot.gpus.values() if gpu.status in ("starting", "ready", "draining")]
        self._on_node: Counter[NodeId] = Counter(gpu.node for gpu in on)
        self._pool_stays: Counter[str] = Counter(_pool(gpu) for gpu in on if gpu.status != "draining")

    def take_back(self, gpus: Iterable[Gpu], count: int, aims: dict[GpuId, GpuAim]) -> None:
        """Those that hold most still."""
        draining = [gpu for gpu in gpus if gpu.status == "draining"]
        draining.sort(key=lambda gpu: (not self._below_least(gpu), -self._active[gpu.gpu_id], -self._mib[gpu.gpu_id]))
        for gpu in draining[:count]:
            aims[gpu.gpu_id] = "keep"
            self._pool_stays[_pool(gpu)] += 1

    def start(self, gpus: Iterable[Gpu], count: int, aims: dict[GpuId, GpuAim]) -> None:
        """One by one: pools that have too few, then the node that has most GPUs on, so that others stay empty."""
        off: dict[NodeId, list[Gpu]] = {}
        for gpu in gpus:
            if gpu.status == "off":
                off.setdefault(gpu.node, []).append(gpu)
        for _ in range(min(count, sum(map(len, off.values())))):
            node = min(off, key=lambda node: (not self._below_least(off[node][0]), -self._on_node[node]))
            gpu = off[node].pop(0)
            if not off[node]:
                del off[node]
            aims[gpu.gpu_id] = "start"
            self._on_node[node] += 1
            self._pool_stays[_pool(gpu)] += 1

    def drain(self, gpus: Iterable[Gpu], count: int, aims: dict[GpuId, GpuAim]) -> None:
        """One by one: least to move, then the node that has fewest GPUs on; no pool falls below its least count."""
        ready = {gpu.gpu_id: gpu for gpu in gpus if gpu.status == "ready"}
        for _ in range(count):
            free = [gpu for gpu in ready.values() if self._pool_stays[_pool(gpu)] > self._least(gpu)]
            if not free:
                return
            gpu = min(free, key=lambda gpu: (self._active[gpu.gpu_id], self._mib[gpu.gpu_id], self._on_node[gpu.node]))
            del ready[gpu.gpu_id]
            aims[gpu.gpu_id] = "drain"
            self._on_node[gpu.node] -= 1
            self._pool_stays[_pool(gpu)] -= 1

    def _least(self, gpu: Gpu) -> int:
        return self._fleet.pools[int(_pool(gpu))].gpus_min

    def _below_least(self, gpu: Gpu) -> bool:
        return self._pool_stays[_pool(gpu)] < self._least(gpu)


def _pool(gpu: Gpu) -> str:
    return gpu.node.partition("/")[0]
