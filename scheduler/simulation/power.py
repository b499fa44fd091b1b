"""GPUs on and off: started, ready, emptied, stopped, lost and repaired, and since when each is paid.

Decides what a plan's aims do to GPUs now; must never know who is on them, or why they are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler import events
from scheduler.cluster import Gpu, GpuId, GpuStatus
from scheduler.fleet import Fleet
from scheduler.plan import GpuAim
from scheduler.simulation.instants import Agenda, to_s, to_us
from scheduler.simulation.rounds import Rounds
from scheduler.simulation.stage import Stage

_CHANGES: frozenset[tuple[GpuAim, GpuStatus]] = frozenset(
    {
        ("start", "off"),
        ("keep", "draining"),
        ("drain", "ready"),
        ("stop", "starting"),
        ("stop", "ready"),
        ("stop", "draining"),
    }
)


@dataclass(slots=True, kw_only=True)
class TimeOn:
    """One time for which a GPU is paid; open while it is on."""

    gpu_id: GpuId
    on_us: int
    ready_us: int | None = None
    off_us: int | None = None
    end: str = ""  # stopped, lost, horizon


def on_at_start(gpus: Mapping[GpuId, Gpu], fleet: Fleet, wanted: Mapping[str, int]) -> set[GpuId]:
    """`gpus_min` of each pool, and the first others of a type until so many are on, or all there are."""
    by_pool: dict[int, list[GpuId]] = {index: [] for index in range(len(fleet.pools))}
    for name, gpu in gpus.items():
        by_pool[int(gpu.node.partition("/")[0])].append(name)
    found = {name for index, names in by_pool.items() for name in names[: fleet.pools[index].gpus_min]}
    for gpu_type, count in wanted.items():
        of_type = [name for name, gpu in gpus.items() if gpu.gpu_type == gpu_type]
        missing = count - sum(name in found for name in of_type)
        found |= set([name for name in of_type if name not in found][: max(0, missing)])
    return found


class Power:
    """Who is on. GPUs are taken in the fleet's order wherever several change at once."""

    def __init__(self, fleet: Fleet, stage: Stage, rounds: Rounds, at_start: set[GpuId]) -> None:
        self._fleet, self._stage, self._rounds = fleet, stage, rounds
        self._startup_us = {name: to_us(own.startup_s) for name, own in fleet.gpu_types.items()}
        self._readies: Agenda[TimeOn] = Agenda()
        self._repairs: Agenda[GpuId] = Agenda()
        self._on: dict[GpuId, TimeOn] = {}
        self.times: list[TimeOn] = []
        self._pool = {name: int(gpu.node.partition("/")[0]) for name, gpu in stage.gpus.items()}
        self._ready = [0] * len(fleet.pools)  # GPUs that are ready, by pool
        for name in stage.gpus:
            if name in at_start:
                time_on = self._turn_on(name, -self._startup_us[stage.gpus[name].gpu_type])
                time_on.ready_us = 0
                self._ready[self._pool[name]] += 1

    @property
    def next_us(self) -> int:
        return min(self._readies.next_us, self._repairs.next_us)

    @property
    def paid(self) -> int:
        return len(self._on)

    @property
    def ready(self) -> int:
        return sum(self._ready)

    def on(self) -> list[GpuId]:
        """In the fleet's order."""
        return sorted(self._on, key=self._stage.gpu_index.__getitem__)

    def turn_due(self, now_us: int) -> None:
        """GPUs that have started up are ready; lost ones that are repaired are off."""
        for time_on in self._readies.due(now_us):
            if time_on.off_us is None:
                self._become_ready(time_on, now_us)
        for name in self._repairs.due(now_us):
            self._stage.tell(events.GpuStopped(gpu_id=name), now_us)

    def follow(self, aims: Mapping[GpuId, GpuAim], now_us: int) -> None:
        """What a plan wants of GPUs, where it still applies."""
        gpus = self._stage.gpus
        changing = [name for name, aim in aims.items() if (aim, gpus[name].status) in _CHANGES]
        for name in sorted(changing, key=self._stage.gpu_index.__getitem__):
            aim = aims[name]
            if aim == "start":
                self._start(name, now_us)
            elif aim == "keep":
                self._stage.tell(events.GpuReady(gpu_id=name), now_us)
                self._ready[self._pool[name]] += 1
            elif self._is_spare(name):
                if aim == "drain":
                    self._drain(name, now_us)
                else:
                    self._stop(name, now_us)

    def lose(self, name: GpuId, repair_us: int, now_us: int) -> None:
        """The GPU is gone, with its round and the states on it, until it is repaired."""
        self._rounds.lose(self._stage.gpu_index[name], now_us)
        self._ready[self._pool[name]] -= self._stage.gpus[name].status == "ready"
        self._turn_off(name, "lost", now_us)
        self._stage.tell(events.GpuLost(gpu_id=name), now_us)
        self._repairs.add(now_us + repair_us, name, order=self._stage.gpu_index[name])

    def finish(self, now_us: int) -> None:
        for name in list(self._on):
            self._turn_off(name, "horizon", now_us)

    def _is_spare(self, name: GpuId) -> bool:
        """`gpus_min` others of its pool are ready."""
        others = self._ready[self._pool[name]] - (self._stage.gpus[name].status == "ready")
        return others >= self._fleet.pools[self._pool[name]].gpus_min

    def _start(self, name: GpuId, now_us: int) -> None:
        ready_us = now_us + self._startup_us[self._stage.gpus[name].gpu_type]
        time_on = self._turn_on(name, now_us)
        self._stage.tell(events.GpuStarting(gpu_id=name, ready_s=to_s(ready_us)), now_us)
        if ready_us == now_us:
            self._become_ready(time_on, now_us)
        else:
            self._readies.add(ready_us, time_on, order=self._stage.gpu_index[name])

    def _become_ready(self, time_on: TimeOn, now_us: int) -> None:
        time_on.ready_us = now_us
        self._ready[self._pool[time_on.gpu_id]] += 1
        self._stage.tell(events.GpuReady(gpu_id=time_on.gpu_id), now_us)

    def _drain(self, name: GpuId, now_us: int) -> None:
        self._ready[self._pool[name]] -= 1
        self._stage.tell(events.GpuDraining(gpu_id=name), now_us)

    def _stop(self, name: GpuId, now_us: int) -> None:
        """Only one that holds nothing; any other is to be emptied."""
        status = self._stage.gpus[name].status
        if self._stage.held_mib[name]:
            if status == "ready":
                self._drain(name, now_us)
            return
        self._ready[self._pool[name]] -= status == "ready"
        self._turn_off(name, "stopped", now_us)
        self._stage.tell(events.GpuStopped(gpu_id=name), now_us)

    def _turn_on(self, name: GpuId, on_us: int) -> TimeOn:
        time_on = TimeOn(gpu_id=name, on_us=on_us)
        self._on[name] = time_on
        self.times.append(time_on)
        return time_on

    def _turn_off(self, name: GpuId, end: str, now_us: int) -> None:
        time_on = self._on.pop(name)
        time_on.off_us, time_on.end = now_us, end
