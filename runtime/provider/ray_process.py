"""One worker's process in an actor of a Ray cluster.

Decides what an actor's death means for the process that it had; must never know when a worker is wanted.

An actor that was killed is dead for Ray before its processes are gone, and one whose node is silent may live on. So an
end is told when the actor has seen it, or when a task on the same node has; of a node that is lost, once its processes
must have ended by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runtime.provider.keeper import KeeperSettings, complain
from runtime.provider.log_file import LINE_CHARACTERS_MAX
from runtime.provider.processes import LOOK_S, Ending
from runtime.provider.provider import Running
from runtime.provider.ray_actor import Seen, see_to_the_end
from scheduler.cluster import GpuId

_GRACE_S = 3.0  # for an actor that is to kill its process, before it is killed itself


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings(KeeperSettings):
    """Bounds of what runs in a cluster."""

    answer_s: float = 20.0  # for the first word of actors that were there before, and for a task on a node
    node_s: float = 90.0  # after a node was lost: a raylet without its cluster ends within 60 s, and its actors with it


class RayProcess:
    """From the moment that its actor is asked for: there may be no room for it yet."""

    def __init__(self, gpu_id: GpuId, actor: Any, settings: RaySettings, *, adopted: bool) -> None:
        self._actor, self._settings = actor, settings
        self._running = Running(gpu_id=gpu_id, worker=gpu_id, pid=0, incarnation=None, adopted=adopted)
        self._stopping = False
        self._lines: tuple[str, ...] = ()
        self.there = asyncio.Event()
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.log = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._do(self._accompany())

    @property
    def running(self) -> Running:
        return self._running

    @property
    def stopping(self) -> bool:
        return self._stopping

    def note_incarnation(self, incarnation: int) -> None:
        self._running = replace(self._running, incarnation=incarnation)
        self._actor.note_incarnation.remote(incarnation)

    async def ask_to_end(self) -> None:
        self._stopping = True
        if self.there.is_set():
            self._actor.ask_to_end.remote()
        else:
            await self._kill_actor()

    def kill(self) -> None:
        self._stopping = True
        self._do(self._killed())

    async def forget(self, *, asked: bool) -> tuple[str, ...]:  # noqa: ARG002 - nothing is kept of either
        """Its name and its GPU are free for another."""
        await self._kill_actor()
        return self._lines

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.ended.cancel()

    def _do(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(step)
        self._tasks.add(task)
        task.add_done_callback(complain)
        task.add_done_callback(self._tasks.discard)

    async def _killed(self) -> None:
        """By its actor, who sees its end; without an answer, together with it."""
        if self.there.is_set():
            self._actor.kill.remote()
            await asyncio.wait([self.ended], timeout=_GRACE_S)
        if not self.ended.done():
            await self._kill_actor()

    async def _kill_actor(self) -> None:
        with contextlib.suppress(RayError, TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(ray.kill, self._actor), self._settings.answer_s)

    async def _accompany(self) -> None:
        ending, self._lines = await self._end()
        if not self.ended.done():
            self.ended.set_result(ending)

    async def _end(self) -> tuple[Ending, tuple[str, ...]]:
        seen: Seen | None = None
        try:
            seen = await self._answer(lambda: self._actor.seen.remote())
            self._running = replace(self._running, worker=seen.worker, pid=seen.pid, incarnation=seen.incarnation)
            self._stopping |= seen.stopping
            self.there.set()
            ending, lines = await self._answer(lambda: self._actor.ended.remote())
        except RayError as error:
            if seen is not None:
                await self._gone(seen)
            return Ending(), (_last_line(error),)
        return ending, lines

    async def _answer(self, ask: Callable[[], Any]) -> Any:
        """Of an actor that may be out of reach for a while."""
        while True:
            try:
                return await ask()
            except ActorUnavailableError:
                await asyncio.sleep(LOOK_S)

    async def _gone(self, seen: Seen) -> None:
        """Until its process cannot touch its GPU any more."""
        while await asyncio.to_thread(_lives, seen.node):
            there = NodeAffinitySchedulingStrategy(node_id=seen.node, soft=False)
            task = ray.remote(see_to_the_end).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            with contextlib.suppress(RayError, TimeoutError):
                await asyncio.wait_for(task.remote(seen.pid, seen.birth), self._settings.answer_s)
                return
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(self._settings.node_s)


def _lives(node: str) -> bool:
    return any(each["NodeID"] == node and each["Alive"] for each in ray.nodes())


def _last_line(error: RayError) -> str:
    """Ray tells of an actor in several lines, the cause last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:LINE_CHARACTERS_MAX] if lines else type(error).__name__
