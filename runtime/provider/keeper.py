"""One GPU of this machine, and the process of its worker from the start to the end.

Decides the order of steps in a process's life, and when it is signalled; must never know a session, a socket or another
GPU.

A record is written before a process is started and again when it is there: a controller that is killed between the two
leaves a process behind that the next one finds by the mark in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any, TypeVar

from msgspec.structs import replace

from runtime.provider.command import LaunchOf
from runtime.provider.log_file import LOG_BYTES_MAX, LogFile
from runtime.provider.processes import Ending, HeldProcess, spawn
from runtime.provider.provider import Exited, NotStarted, Running, Started, Stuck, Tell
from runtime.provider.restarts import Deaths, NextStart, RestartRule, after_death, next_start
from runtime.provider.state_folder import StateFolder, WorkerRecord
from scheduler.cluster import GpuId
from traces.errors import BadInputError

MARK = "EPOCHAL_WORKER_MARK"
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """Bounds of what runs on one machine."""

    restarts: RestartRule = field(default_factory=RestartRule)
    stop_s: float = 25.0  # after SIGTERM; more than `--drain-s` of a worker and what it takes to end
    kill_s: float = 10.0  # after SIGKILL, before somebody is told that it is still there
    log_bytes_max: int = LOG_BYTES_MAX  # of each worker, twice
    log_look_s: float = 1.0
    by_pidfd: bool = True  # False: as on systems without


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all keepers of a provider share. `writer` has one thread: steps are done one after the other."""

    folder: StateFolder
    launch: LaunchOf
    tell: Tell
    settings: LocalSettings
    clock: Callable[[], float]
    writer: Executor

    async def done(self, step: Callable[[], _Made]) -> _Made:
        """What waits for a disk or another process."""
        return await asyncio.get_running_loop().run_in_executor(self.writer, step)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One process."""

    record: WorkerRecord
    process: HeldProcess
    adopted: bool
    settled: bool  # its start has succeeded, and its end is no failed start
    began_s: float | None  # None: before this provider
    stop_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    kill_wanted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> Running:
        return _running(self.record, self.process.pid, adopted=self.adopted)


class Keeper:
    """Used in the thread of one event loop."""

    def __init__(self, gpu_id: GpuId, means: Means) -> None:
        self._gpu_id, self._means = gpu_id, means
        self._log = LogFile(means.folder.log_path(gpu_id), means.settings.log_bytes_max)
        self._wanted = False
        self._woken = asyncio.Event()  # it may be wanted no more
        self._run: _Run | None = None
        self._deaths = Deaths()
        self._why = ""  # the last death
        self._told: NextStart | None = None
        self._task: asyncio.Task[None] | None = None
        self._step: asyncio.Task[None] | None = None

    @property
    def running(self) -> Running | None:
        return None if self._run is None else self._run.running

    def start(self) -> None:
        self._wanted = True
        self._woken.set()
        self._keep()

    def stop(self) -> None:
        self._wanted = False
        self._woken.set()
        if self._run is not None:
            self._run.stop_wanted.set()

    def kill(self) -> None:
        self.stop()
        if self._run is not None:
            self._run.process.send(SIGKILL)
            self._run.kill_wanted.set()

    def note_incarnation(self, incarnation: int) -> None:
        run = self._run
        if run is None or (run.record.incarnation or 0) >= incarnation:
            return
        run.settled = True
        run.record = replace(run.record, incarnation=incarnation)
        if not run.process.ended.done():  # or a record that is being removed would come again
            self._means.writer.submit(_tried, self._means.folder.write, run.record)

    async def adopt(self, record: WorkerRecord) -> None:
        """Go on with what another provider has begun."""
        process = None
        if record.pid is not None:
            process = HeldProcess.adopted(record.pid, record.birth, by_pidfd=self._means.settings.by_pidfd)
        if process is None:
            await self._forgotten(record)
            return
        self._wanted = not record.stopping
        self._begin(_Run(record=record, process=process, adopted=True, settled=True, began_s=None))
        self._keep()

    async def ended(self) -> None:
        """Until nothing runs there and nothing is to."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def trim_log(self) -> None:
        if self._run is not None:
            await self._means.done(partial(_tried, self._log.trim))

    async def close(self) -> None:
        """Let go; the process goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._step is not None:
            await asyncio.wait([self._step])
        if self._run is not None:
            self._run.process.close()

    def _keep(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._kept())
            self._task.add_done_callback(_complain)

    async def _kept(self) -> None:
        """Start workers as long as one is wanted, and see each to its end."""
        try:
            while self._run is not None or self._wanted:
                if self._run is None:
                    await self._start()
                else:
                    ending = await self._accompanied(self._run)
                    await self._whole(self._over(self._run, ending))
        finally:
            self._task = None

    async def _whole(self, step: Coroutine[Any, Any, None]) -> None:
        """What is not left half done when the provider is closed: what is written down is told, too."""
        self._step = asyncio.get_running_loop().create_task(step)
        await asyncio.shield(self._step)

    async def _start(self) -> None:
        """Once the rule allows it."""
        self._woken.clear()
        following = next_start(self._deaths, self._means.settings.restarts)
        wait_s = following.at_s - self._means.clock()
        if self._deaths.count and wait_s > 0:
            if self._told != following:
                self._say_not_started()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait_s)
            return
        await self._whole(self._start_now())

    async def _start_now(self) -> None:
        began_s = self._means.clock()
        try:
            record = await self._means.done(self._spawned)
        except (OSError, BadInputError) as error:
            self._deaths = after_death(self._deaths, self._means.clock(), self._means.settings.restarts)
            self._why = f"it cannot be started: {error}"
            self._say_not_started()
            return
        assert record.pid is not None, "it was started"
        process = HeldProcess.of_child(record.pid, record.birth, by_pidfd=self._means.settings.by_pidfd)
        self._begin(_Run(record=record, process=process, adopted=False, settled=False, began_s=began_s))

    def _spawned(self) -> WorkerRecord:
        """In the writer's thread. Raises `OSError` and `BadInputError`."""
        launch = self._means.launch(self._gpu_id)
        mark = secrets.token_hex(16)
        record = WorkerRecord(gpu_id=self._gpu_id, worker=launch.worker, mark=mark, command=launch.command)
        self._means.folder.write(record)
        try:
            self._log.begin()
            pid, birth = spawn(launch.command, {**launch.environment, MARK: mark}, self._log.path)
        except OSError:
            self._remove(with_log=True)
            raise
        record = replace(record, pid=pid, birth=birth)
        _tried(self._means.folder.write, record)  # without it there is still the mark
        return record

    def _begin(self, run: _Run) -> None:
        self._run = run
        if not self._wanted:  # it was stopped while it was being started
            run.stop_wanted.set()
        self._means.tell(Started(running=run.running))

    async def _accompanied(self, run: _Run) -> Ending:
        """To its end, which comes by itself or is asked for."""
        process, settings = run.process, self._means.settings
        await _first(process.ended, run.stop_wanted)
        if not process.ended.done() and not run.kill_wanted.is_set():
            if not run.record.stopping:  # a second signal would not let it finish
                run.record = replace(run.record, stopping=True)
                await self._means.done(partial(_tried, self._means.folder.write, run.record))
                process.send(SIGTERM)
            await _first(process.ended, run.kill_wanted, settings.stop_s)
            process.send(SIGKILL)
        await asyncio.wait([process.ended], timeout=settings.kill_s)
        if not process.ended.done():
            self._means.tell(Stuck(running=run.running, waited_s=settings.kill_s))
        await asyncio.wait([process.ended])
        return process.ended.result()

    async def _over(self, run: _Run, ending: Ending) -> None:
        run.process.close()
        asked, now_s = run.stop_wanted.is_set(), self._means.clock()
        lines = await self._means.done(partial(_tried, self._log.last_lines)) or ()
        await self._means.done(partial(_tried, partial(self._remove, with_log=asked)))
        self._run = None
        lived_s = None if run.began_s is None else now_s - run.began_s
        exited = _exited(run.running, ending, lived_s, lines, None if asked else self._log.path, asked=asked)
        if asked:
            self._deaths = Deaths()
        else:
            self._deaths, self._why = after_death(self._deaths, now_s, self._means.settings.restarts), exited.reason
            self._wanted = self._wanted and not run.settled
        self._means.tell(exited)
        if not asked and self._wanted:
            self._say_not_started()

    async def _forgotten(self, record: WorkerRecord) -> None:
        """It has ended while nobody was there to see it; or it was never started."""
        lines = await self._means.done(partial(_tried, self._log.last_lines)) or ()
        needless = record.stopping or record.pid is None
        await self._means.done(partial(_tried, partial(self._remove, with_log=needless)))
        if record.pid is not None:
            running, log = _running(record, record.pid, adopted=True), None if needless else self._log.path
            self._means.tell(_exited(running, Ending(), None, lines, log, asked=record.stopping))

    def _remove(self, *, with_log: bool) -> None:
        self._means.folder.remove(self._gpu_id)
        if with_log:
            self._log.remove()

    def _say_not_started(self) -> None:
        self._told = following = next_start(self._deaths, self._means.settings.restarts)
        wait_s, count = following.at_s - self._means.clock(), self._deaths.count
        state = f"gave up after {count} deaths in a row" if following.gave_up else f"death {count} in a row"
        again = f"tried again in {wait_s:.3g} s" if wait_s > 0 else "tried again at once"
        reason = f"{self._why}; {state}, {again}"
        self._means.tell(
            NotStarted(gpu_id=self._gpu_id, reason=reason, again_s=following.at_s, gave_up=following.gave_up)
        )


def _running(record: WorkerRecord, pid: int, *, adopted: bool) -> Running:
    return Running(
        gpu_id=GpuId(record.gpu_id), worker=record.worker, pid=pid, incarnation=record.incarnation, adopted=adopted
    )


def _exited(
    running: Running, ending: Ending, lived_s: float | None, lines: tuple[str, ...], log: Path | None, *, asked: bool
) -> Exited:
    return Exited(
        running=running,
        asked=asked,
        code=ending.code,
        signal=ending.signal,
        lived_s=lived_s,
        lines=lines,
        log=log,
    )


def _tried(step: Callable[..., _Made], *arguments: object) -> _Made | None:
    """What a full disk leaves undone, the next provider makes up for."""
    try:
        return step(*arguments)
    except OSError:
        return None


async def _first(ended: asyncio.Future[Ending], wanted: asyncio.Event, wait_s: float | None = None) -> None:
    """Until the process has ended, something is wanted, or the time is over."""
    waiting = asyncio.ensure_future(wanted.wait())
    either: tuple[asyncio.Future[Any], ...] = (ended, waiting)
    try:
        await asyncio.wait(either, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def _complain(task: asyncio.Task[None]) -> None:
    """A bug in a keeper, which nobody waits for, is told as soon as it happens."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "a worker has no keeper any more", "exception": error})
