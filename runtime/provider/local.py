"""Workers as processes of this machine, which outlive the controller that has started them.

Decides who holds the folder, and what the provider before this one has left behind; must never know when a process is
wanted.

Nothing blocks: what waits for a disk or a process is done in a thread or by the event loop, and told later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec.structs import replace

from runtime.provider.command import LaunchOf
from runtime.provider.keepers import Keepers
from runtime.provider.local_process import MARK, LocalProcess, LocalSettings, Means
from runtime.provider.processes import born, find
from runtime.provider.provider import Tell
from runtime.provider.state_folder import StateFolder, WorkerRecord
from scheduler.cluster import GpuId


class LocalProvider(Keepers):
    """Made by `open`."""

    workers_max = 256  # of one machine

    def __init__(self, means: Means, writer: ThreadPoolExecutor, clock: Callable[[], float]) -> None:
        super().__init__(self._begun, means.tell, means.settings, clock)
        self._means, self._writer = means, writer
        self._processes: dict[GpuId, LocalProcess] = {}  # the last of each GPU
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
        means = Means(folder=folder, launch=launch, tell=tell, settings=settings or LocalSettings(), writer=writer)
        provider = cls(means, writer, clock)
        for record in found:
            process = await LocalProcess.adopted(record, means)
            if process is not None:
                gpu_id = GpuId(record.gpu_id)
                provider._processes[gpu_id] = process
                provider._adopt(gpu_id, process)
        return provider

    async def close(self) -> None:
        self._trimmer.cancel()
        await asyncio.wait([self._trimmer])
        await super().close()
        await asyncio.to_thread(self._writer.shutdown)
        self._means.folder.close()

    async def _begun(self, gpu_id: GpuId) -> LocalProcess:
        process = self._processes[gpu_id] = await LocalProcess.begun(gpu_id, self._means)
        return process

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(self._means.settings.log_look_s)
            for process in tuple(self._processes.values()):
                if not process.ended.done():
                    await process.trim_log()


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
