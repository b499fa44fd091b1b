"""One worker's process on this machine, and what is written down of it.

Decides when a record is written and removed, and which signal is sent; must never know when a process is wanted.

A record is written before a process is started and again when it is there: a controller that is killed between the two
leaves a process behind that the next one finds by the mark in its environment.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import TypeVar

from msgspec.structs import replace

from runtime.provider.command import LaunchOf
from runtime.provider.keeper import KeeperSettings
from runtime.provider.log_file import LOG_BYTES_MAX, LogFile
from runtime.provider.processes import Ending, HeldProcess, spawn
from runtime.provider.provider import Exited, Running, Tell
from runtime.provider.state_folder import StateFolder, WorkerRecord
from scheduler.cluster import GpuId

MARK = "EPOCHAL_WORKER_MARK"
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings(KeeperSettings):
    """Bounds of what runs on one machine."""

    log_bytes_max: int = LOG_BYTES_MAX  # of each worker, twice
    log_look_s: float = 1.0
    by_pidfd: bool = True  # False: as on systems without


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all processes of a provider share. `writer` has one thread: steps are done one after the other."""

    folder: StateFolder
    launch: LaunchOf
    tell: Tell
    settings: LocalSettings
    writer: Executor

    async def done(self, step: Callable[[], _Made]) -> _Made:
        """What waits for a disk or another process."""
        return await asyncio.get_running_loop().run_in_executor(self.writer, step)

    def log_of(self, gpu_id: GpuId) -> LogFile:
        return LogFile(self.folder.log_path(gpu_id), self.settings.log_bytes_max)


class LocalProcess:
    """Started by `begun`, or adopted by its record; that it is there is known at once."""

    def __init__(self, record: WorkerRecord, held: HeldProcess, means: Means, *, adopted: bool) -> None:
        self._record, self._held, self._means, self._adopted = record, held, means, adopted
        self._log = means.log_of(GpuId(record.gpu_id))
        self.there = asyncio.Event()
        self.there.set()

    @classmethod
    async def begun(cls, gpu_id: GpuId, means: Means) -> LocalProcess:
        """Raises `OSError` and `BadInputError`."""
        record = await means.done(partial(_spawned, gpu_id, means))
        assert record.pid is not None, "it was started"
        held = HeldProcess.of_child(record.pid, record.birth, by_pidfd=means.settings.by_pidfd)
        return cls(record, held, means, adopted=False)

    @classmethod
    async def adopted(cls, record: WorkerRecord, means: Means) -> LocalProcess | None:
        """None if it has ended while nobody was there to see it, which is told; or if it was never started."""
        if record.pid is None:
            await _forgotten(record, means, with_log=True)
            return None
        held = HeldProcess.adopted(record.pid, record.birth, by_pidfd=means.settings.by_pidfd)
        if held is not None:
            return cls(record, held, means, adopted=True)
        lines = await _forgotten(record, means, with_log=record.stopping)
        means.tell(
            Exited(
                running=_running(record, record.pid, adopted=True),
                asked=record.stopping,
                code=None,
                signal=None,
                lived_s=None,
                lines=lines,
                log=None if record.stopping else means.folder.log_path(GpuId(record.gpu_id)),
            )
        )
        return None

    @property
    def running(self) -> Running:
        return _running(self._record, self._held.pid, adopted=self._adopted)

    @property
    def ended(self) -> asyncio.Future[Ending]:
        return self._held.ended

    @property
    def log(self) -> Path:
        return self._log.path

    @property
    def stopping(self) -> bool:
        return self._record.stopping

    def note_incarnation(self, incarnation: int) -> None:
        self._record = replace(self._record, incarnation=incarnation)
        if not self.ended.done():  # or a record that is being removed would come again
            self._means.writer.submit(_tried, self._means.folder.write, self._record)

    async def ask_to_end(self) -> None:
        self._record = replace(self._record, stopping=True)
        await self._means.done(partial(_tried, self._means.folder.write, self._record))
        self._held.send(SIGTERM)

    def kill(self) -> None:
        self._held.send(SIGKILL)

    async def forget(self, *, asked: bool) -> tuple[str, ...]:
        return await _forgotten(self._record, self._means, with_log=asked)

    def close(self) -> None:
        self._held.close()

    async def trim_log(self) -> None:
        await self._means.done(partial(_tried, self._log.trim))


def _spawned(gpu_id: GpuId, means: Means) -> WorkerRecord:
    """In the writer's thread. Raises `OSError` and `BadInputError`."""
    launch, log = means.launch(gpu_id), means.log_of(gpu_id)
    mark = secrets.token_hex(16)
    record = WorkerRecord(gpu_id=gpu_id, worker=launch.worker, mark=mark, command=launch.command)
    means.folder.write(record)
    try:
        log.begin()
        pid, birth = spawn(launch.command, {**launch.environment, MARK: mark}, log.path)
    except OSError:
        means.folder.remove(gpu_id)
        log.remove()
        raise
    record = replace(record, pid=pid, birth=birth)
    _tried(means.folder.write, record)  # without it there is still the mark
    return record


async def _forgotten(record: WorkerRecord, means: Means, *, with_log: bool) -> tuple[str, ...]:
    """Its last lines; its record is gone."""
    gpu_id = GpuId(record.gpu_id)
    log = means.log_of(gpu_id)
    lines = await means.done(partial(_tried, log.last_lines)) or ()
    await means.done(partial(_tried, means.folder.remove, gpu_id))
    if with_log:
        await means.done(partial(_tried, log.remove))
    return lines


def _running(record: WorkerRecord, pid: int, *, adopted: bool) -> Running:
    return Running(
        gpu_id=GpuId(record.gpu_id), worker=record.worker, pid=pid, incarnation=record.incarnation, adopted=adopted
    )


def _tried(step: Callable[..., _Made], *arguments: object) -> _Made | None:
    """What a full disk leaves undone, the next provider makes up for."""
    try:
        return step(*arguments)
    except OSError:
        return None
