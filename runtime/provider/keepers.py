"""What providers that start processes have in common: a keeper for every GPU that was ever wanted.

Decides which GPUs have one; must never know how a process is started or stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runtime.provider.keeper import Begin, Keeper, KeeperSettings, Process
from runtime.provider.provider import Running, Tell
from scheduler.cluster import GpuId
from traces.errors import BadInputError


class Keepers:
    """The words of `Provider`, but for how processes begin. `workers_max`: of one provider."""

    workers_max: int

    def __init__(self, begin: Begin, tell: Tell, settings: KeeperSettings, clock: Callable[[], float]) -> None:
        self._begin, self._tell, self._settings, self._clock = begin, tell, settings, clock
        self._keepers: dict[GpuId, Keeper] = {}

    @property
    def exit_is_seen(self) -> bool:
        return True

    @property
    def running(self) -> Mapping[GpuId, Running]:
        return {gpu_id: running for gpu_id, keeper in self._keepers.items() if (running := keeper.running) is not None}

    def start(self, gpu_id: GpuId) -> None:
        self._keeper(gpu_id).start()

    def stop(self, gpu_id: GpuId) -> None:
        if gpu_id in self._keepers:
            self._keepers[gpu_id].stop()

    def kill(self, gpu_id: GpuId) -> None:
        if gpu_id in self._keepers:
            self._keepers[gpu_id].kill()

    def note_incarnation(self, gpu_id: GpuId, incarnation: int) -> None:
        if gpu_id in self._keepers:
            self._keepers[gpu_id].note_incarnation(incarnation)

    async def stop_all(self) -> None:
        """Ask all to end, and wait until they have: in bounded time, unless the system cannot kill one."""
        for keeper in self._keepers.values():
            keeper.stop()
        for keeper in self._keepers.values():
            await keeper.ended()

    async def close(self) -> None:
        for keeper in self._keepers.values():
            await keeper.close()

    def _adopt(self, gpu_id: GpuId, process: Process) -> None:
        self._keeper(gpu_id).adopt(process)

    def _keeper(self, gpu_id: GpuId) -> Keeper:
        if gpu_id not in self._keepers:
            if len(self._keepers) >= self.workers_max:
                raise BadInputError.of("fleet", f"GPU {gpu_id}: there are at most {self.workers_max} workers")
            self._keepers[gpu_id] = Keeper(gpu_id, self._begin, self._tell, self._settings, self._clock)
        return self._keepers[gpu_id]
