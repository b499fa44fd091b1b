"""Workers as processes of this machine, which outlive the controller that has started them.

Decides which GPUs have a keeper, and what the provider before this one has left behind; must never know how a process
is started or stopped.

Nothing blocks: what waits for a disk or a process is done in a thread or by the event loop, and told later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec.structs import replace

from runtime.provider.command import LaunchOf
from runtime.provider.keeper import MARK, Keeper, LocalSettings, Means
from runtime.provider.processes import born, find
from runtime.provider.provider import Running, Tell
from runtime.provider.state_folder import StateFolder, WorkerRecord
from scheduler.cluster import GpuId
from traces.errors import BadInputError

WORKERS_MAX = 256  # of one machine


class LocalProvider:
    """Made by `open`."""

    def __init__(self, means: Means, writer: ThreadPoolExecutor) -> None:
        self._means, self._writer = means, writer
        self._keepers: dict[GpuId, Keeper] = {}
        self._trimmer = asyncio.get_running_loop().create_task(self._trim_logs())

    @classmethod
    async def open(
        cls,
        path: Path,
        launch: LaunchOf,
        tell: Tell,
        settings: LocalSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> LocalProvider:
        """Take hold of the folder and adopt the workers that run there.

        Before this returns, each is told as `Started`, or as `Exited` if it has ended meanwhile; no other runs. Raises
        `BadInputError` where another provider holds the folder or something else is in it, and `OSError`.
        """
        folder = await asyncio.to_thread(StateFolder.open, path)
        try:
            found = await asyncio.to_thread(_found, folder)
        except BaseException:
            folder.close()
            raise
        writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="provider")
        means = Means(
            folder=folder, launch=launch, tell=tell, settings=settings or LocalSettings(), clock=clock, writer=writer
        )
        provider = cls(means, writer)
        for record in found:
            await provider._keeper(GpuId(record.gpu_id)).adopt(record)
        return provider

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
        self._trimmer.cancel()
        await asyncio.wait([self._trimmer])
        for keeper in self._keepers.values():
            await keeper.close()
        await asyncio.to_thread(self._writer.shutdown)
        self._means.folder.close()

    def _keeper(self, gpu_id: GpuId) -> Keeper:
        if gpu_id not in self._keepers:
            if len(self._keepers) >= WORKERS_MAX:
                raise BadInputError.of("fleet", f"GPU {gpu_id}: one machine has at most {WORKERS_MAX} workers")
            self._keepers[gpu_id] = Keeper(gpu_id, self._means)
        return self._keepers[gpu_id]

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(self._means.settings.log_look_s)
            for keeper in tuple(self._keepers.values()):
                await keeper.trim_log()


def _found(folder: StateFolder) -> tuple[WorkerRecord, ...]:
    """What the provider before this one has written, with the pid of whatever it had no time to write down."""
    found = []
    for record in folder.records():
        pid = find(f"{MARK}={record.mark}") if record.pid is None else None
        birth = None if pid is None else born(pid)
        if birth is not None:
            record = replace(record, pid=pid, birth=birth)
            folder.write(record)
        found.append(record)
    return tuple(found)
