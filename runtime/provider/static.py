"""Workers that somebody else starts and stops: they join by address and key.

Decides what an operator is told; must never start a process. Exits cannot be seen: only silence tells.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping

from runtime.provider.command import LaunchOf
from runtime.provider.provider import ForOperator, Heard, Running, Tell
from scheduler.cluster import GpuId


class StaticProvider:
    """`launch` says what somebody has to run. What was said last of a GPU is not said again, until its worker joins."""

    def __init__(self, launch: LaunchOf, tell: Tell) -> None:
        self._launch, self._tell = launch, tell
        self._said: dict[GpuId, str] = {}

    @property
    def exit_is_seen(self) -> bool:
        return False

    @property
    def running(self) -> Mapping[GpuId, Running]:
        """Nothing is known."""
        return {}

    def start(self, gpu_id: GpuId) -> None:
        launch = self._launch(gpu_id)
        command = shlex.join(("epochal", *launch.arguments))
        self._say(gpu_id, f"is to have a worker; unless it runs already: {command}")

    def stop(self, gpu_id: GpuId) -> None:
        self._say(
            gpu_id, "is not needed: its worker may be stopped (Ctrl-C or SIGTERM), and gets no sessions meanwhile"
        )

    def kill(self, gpu_id: GpuId) -> None:
        self._say(gpu_id, "its worker must go now: kill -9, and see that its memory is free")

    def note_incarnation(self, gpu_id: GpuId, incarnation: int) -> None:  # noqa: ARG002 - which one does not matter
        """It is there; if it is to go, that is news again."""
        self._said.pop(gpu_id, None)

    async def stop_all(self) -> None:
        """They are somebody else's."""

    async def close(self) -> None:
        """Nothing is held."""

    def _say(self, gpu_id: GpuId, text: str) -> None:
        if self._said.get(gpu_id) == text:
            return
        self._said[gpu_id] = text
        heard: Heard = ForOperator(gpu_id=gpu_id, text=text)
        asyncio.get_running_loop().call_soon(self._tell, heard)
