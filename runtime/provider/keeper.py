"""One GPU, and the process of its worker from the start to the end, wherever that process is.

Decides the order of steps in a process's life, and when it is asked to end; must never know a session, a socket,
another GPU, or how a process is reached.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from runtime.provider.processes import Ending
from runtime.provider.provider import Exited, NotStarted, Running, Started, Stuck, Tell
from runtime.provider.restarts import Deaths, NextStart, RestartRule, after_death, next_start
from scheduler.cluster import GpuId
from traces.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """Bounds of one process."""

    restarts: RestartRule = field(default_factory=RestartRule)
    start_s: float = 60.0  # until it is there, before somebody is told that it is still waited for
    stop_s: float = 25.0  # after it was asked to end; more than `--drain-s` of a worker and what it takes to end
    kill_s: float = 10.0  # after it was killed, before somebody is told that it is still there


class Process(Protocol):
    """One worker's process. All of it in the thread of one event loop."""

    @property
    def running(self) -> Running:
        """As far as it is known."""
        ...

    @property
    def there(self) -> asyncio.Event:
        """Set once it runs: it may have to wait for a place."""
        ...

    @property
    def ended(self) -> asyncio.Future[Ending]:
        """Done when it is gone, and its memory with it."""
        ...

    @property
    def log(self) -> Path | None:
        """Of what it has written, if that is kept."""
        ...

    @property
    def stopping(self) -> bool:
        """It was asked to end, by whomever."""
        ...

    def note_incarnation(self, incarnation: int) -> None: ...

    async def ask_to_end(self) -> None:
        """Once: asked a second time, a worker does not finish its chunks."""
        ...

    def kill(self) -> None:
        """It may be said again."""
        ...

    async def forget(self, *, asked: bool) -> tuple[str, ...]:
        """After its end: its last lines. If it was `asked` to end, nothing of it is kept."""
        ...

    def close(self) -> None:
        """Let go of it, whether it has ended or not."""
        ...


# Raises `OSError` and `BadInputError` where there can be none; whoever waits longer for a place says so by `there`.
Begin = Callable[[GpuId], Awaitable[Process]]


@dataclass(slots=True, kw_only=True)
class _Run:
    """One process."""

    process: Process
    settled: bool  # its start has succeeded, and its end is no failed start
    began_s: float | None  # None: before this provider
    stop_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    kill_wanted: asyncio.Event = field(default_factory=asyncio.Event)


class Keeper:
    """Used in the thread of one event loop."""

    def __init__(
        self, gpu_id: GpuId, begin: Begin, tell: Tell, settings: KeeperSettings, clock: Callable[[], float]
    ) -> None:
        self._gpu_id, self._begin, self._tell = gpu_id, begin, tell
        self._settings, self._clock = settings, clock
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
        """That of an adopted one also while it has not answered: it is there until the contrary is known."""
        run = self._run
        return None if run is None or not (run.process.there.is_set() or run.settled) else run.process.running

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
            self._run.process.kill()
            self._run.kill_wanted.set()

    def note_incarnation(self, incarnation: int) -> None:
        run = self._run
        if run is None or (run.process.running.incarnation or 0) >= incarnation:
            return
        run.settled = True
        run.process.note_incarnation(incarnation)

    def adopt(self, process: Process) -> None:
        """Go on with what another provider has begun."""
        self._wanted = not process.stopping
        self._hold(_Run(process=process, settled=True, began_s=None))
        self._keep()

    async def ended(self) -> None:
        """Until nothing runs there and nothing is to."""
        if self._task is not None:
            await asyncio.wait([self._task])

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
            self._task.add_done_callback(complain)

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
        following = next_start(self._deaths, self._settings.restarts)
        wait_s = following.at_s - self._clock()
        if self._deaths.count and wait_s > 0:
            if self._told != following:
                self._say_not_started()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait_s)
            return
        await self._whole(self._start_now())

    async def _start_now(self) -> None:
        began_s = self._clock()
        try:
            process = await self._begin(self._gpu_id)
        except (OSError, BadInputError) as error:
            self._failed(f"it cannot be started: {error}")
            self._say_not_started()
            return
        self._hold(_Run(process=process, settled=False, began_s=began_s))

    def _hold(self, run: _Run) -> None:
        self._run = run
        if not self._wanted:  # it was stopped while it was being started
            run.stop_wanted.set()
        if run.process.there.is_set():
            self._tell(Started(running=run.process.running))

    async def _appears(self, run: _Run) -> None:
        """Until it is there, has ended, or is not wanted any more; whoever waits for long is told so once."""
        process = run.process
        awaited = (_set(process.there), process.ended, _set(run.stop_wanted))
        if not await _first(*awaited, wait_s=self._settings.start_s):
            reason = f"it is not there after {self._settings.start_s:g} s, and still waited for"
            self._tell(NotStarted(gpu_id=self._gpu_id, reason=reason, again_s=self._clock(), gave_up=True))
            await _first(_set(process.there), process.ended, _set(run.stop_wanted))
        if process.there.is_set():
            self._tell(Started(running=process.running))

    async def _accompanied(self, run: _Run) -> Ending:
        """To its end, which comes by itself or is asked for."""
        process, settings = run.process, self._settings
        if not process.there.is_set():
            await self._appears(run)
        await _first(process.ended, _set(run.stop_wanted))
        if not process.ended.done() and not run.kill_wanted.is_set():
            if not process.stopping:
                await process.ask_to_end()
            await _first(process.ended, _set(run.kill_wanted), wait_s=settings.stop_s)
            process.kill()
        await asyncio.wait([process.ended], timeout=settings.kill_s)
        if not process.ended.done():
            self._tell(Stuck(running=process.running, waited_s=settings.kill_s))
        await asyncio.wait([process.ended])
        return process.ended.result()

    async def _over(self, run: _Run, ending: Ending) -> None:
        run.process.close()
        asked, now_s = run.stop_wanted.is_set(), self._clock()
        lines = await run.process.forget(asked=asked)
        self._run = None
        exited = Exited(
            running=run.process.running,
            asked=asked,
            code=ending.code,
            signal=ending.signal,
            lived_s=None if run.began_s is None else now_s - run.began_s,
            lines=lines,
            log=None if asked else run.process.log,
        )
        if asked:
            self._deaths = Deaths()
        else:
            self._failed(exited.reason, now_s)
            self._wanted = self._wanted and not run.settled
        if run.process.there.is_set() or run.settled:
            self._tell(exited)
        if not asked and self._wanted:
            self._say_not_started()

    def _failed(self, why: str, now_s: float | None = None) -> None:
        at_s = self._clock() if now_s is None else now_s
        self._deaths, self._why = after_death(self._deaths, at_s, self._settings.restarts), why

    def _say_not_started(self) -> None:
        self._told = following = next_start(self._deaths, self._settings.restarts)
        wait_s, count = following.at_s - self._clock(), self._deaths.count
        state = f"gave up after {count} deaths in a row" if following.gave_up else f"death {count} in a row"
        again = f"tried again in {wait_s:.3g} s" if wait_s > 0 else "tried again at once"
        reason = f"{self._why}; {state}, {again}"
        self._tell(NotStarted(gpu_id=self._gpu_id, reason=reason, again_s=following.at_s, gave_up=following.gave_up))


def _set(event: asyncio.Event) -> asyncio.Task[bool]:
    return asyncio.get_running_loop().create_task(event.wait())


async def _first(*awaited: asyncio.Future[Any], wait_s: float | None = None) -> bool:
    """Until one of them is done; False if the time is over before. What waits for an event is waited for no more."""
    try:
        done, _ = await asyncio.wait(awaited, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in awaited:
            if isinstance(each, asyncio.Task):
                each.cancel()
    return bool(done)


def complain(task: asyncio.Task[None]) -> None:
    """A bug in what nobody waits for is told as soon as it happens."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "a worker has no keeper any more", "exception": error})
