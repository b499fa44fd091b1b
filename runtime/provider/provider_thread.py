"""A provider with an event loop and a thread of its own, for whoever has neither.

Decides how words get in and what is heard gets out, from any thread; must never know which provider it is.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from math import inf

from runtime.provider.provider import Heard, NotStarted, Provider, Running, Tell
from scheduler.cluster import GpuId
from traces.errors import BadInputError

Make = Callable[[Tell], Awaitable[Provider]]


class ProviderThread:
    """The same words as `Provider`, none of which waits; and `heard`, to be asked now and then."""

    def __init__(self, make: Make, woken: Callable[[], None] = lambda: None) -> None:
        """Waits until the provider is there. `woken` is called in its thread whenever something is heard.

        Raises what `make` raises.
        """
        self._heard: deque[Heard] = deque()
        self._woken = woken
        self._ended = asyncio.Event()
        self._made: Future[Provider] = Future()
        self._thread = threading.Thread(target=self._run, args=(make,), name="provider", daemon=True)
        self._thread.start()
        self._provider = self._made.result()

    @property
    def exit_is_seen(self) -> bool:
        return self._provider.exit_is_seen

    @property
    def running(self) -> Mapping[GpuId, Running]:
        """Waits for a turn of the provider's loop."""

        async def now() -> Mapping[GpuId, Running]:
            return self._provider.running

        return asyncio.run_coroutine_threadsafe(now(), self._loop).result()

    def start(self, gpu_id: GpuId) -> None:
        """Of a GPU that can have no worker here `NotStarted` is heard, once."""
        self._loop.call_soon_threadsafe(self._start, gpu_id)

    def stop(self, gpu_id: GpuId) -> None:
        self._loop.call_soon_threadsafe(self._provider.stop, gpu_id)

    def kill(self, gpu_id: GpuId) -> None:
        self._loop.call_soon_threadsafe(self._provider.kill, gpu_id)

    def note_incarnation(self, gpu_id: GpuId, incarnation: int) -> None:
        self._loop.call_soon_threadsafe(self._provider.note_incarnation, gpu_id, incarnation)

    def heard(self) -> list[Heard]:
        """What has not been taken yet, in order. It grows by what workers do: a few words for each start and stop."""
        return [self._heard.popleft() for _ in range(len(self._heard))]

    def stop_all(self) -> None:
        """Waits until all have ended."""
        asyncio.run_coroutine_threadsafe(self._provider.stop_all(), self._loop).result()

    def close(self) -> None:
        """Let go of all workers, and wait until that is done. Nothing is asked of it afterwards."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _start(self, gpu_id: GpuId) -> None:
        try:
            self._provider.start(gpu_id)
        except BadInputError as error:
            self._tell(NotStarted(gpu_id=gpu_id, reason=str(error), again_s=inf, gave_up=True))

    def _tell(self, heard: Heard) -> None:
        self._heard.append(heard)
        self._woken()

    def _run(self, make: Make) -> None:
        asyncio.run(self._serve(make))

    async def _serve(self, make: Make) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            provider = await make(self._tell)
        except BaseException as error:  # noqa: BLE001 - it is raised where the provider is waited for
            self._made.set_exception(error)
            return
        self._made.set_result(provider)
        await self._ended.wait()
        await provider.close()
