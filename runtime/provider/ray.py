"""Workers in a Ray cluster: a detached actor for each, which outlives the controller that has asked for it.

Decides what a worker's actor takes of the cluster, and which actors were there before; must never know what becomes of
one. Needs the extra `ray`, which is imported with this module alone. A process has one such provider at a time.

Ray is asked in threads, because some of its words wait; what it answers comes by the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from runtime.provider.command import LaunchOf
from runtime.provider.keepers import Keepers
from runtime.provider.processes import LOOK_S
from runtime.provider.provider import Tell
from runtime.provider.ray_actor import WorkerActor
from runtime.provider.ray_process import RayProcess, RaySettings
from runtime.provider.state_folder import StateFolder
from scheduler.cluster import GpuId
from traces.errors import BadInputError
from traces.store import write_bytes

CONNECT_S = 5.0
_NAMESPACE = "ray-namespace"
_NAMESPACE_TEXT = re.compile(r"epochal-[0-9a-f]{16}")


class RayProvider(Keepers):
    """Made by `open`."""

    workers_max = 4096

    def __init__(
        self,
        folder: StateFolder,
        launch: LaunchOf,
        tell: Tell,
        resources: Mapping[GpuId, Mapping[str, float]],
        settings: RaySettings,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(self._begun, tell, settings, clock)
        self._folder, self._launch, self._resources, self._ray_settings = folder, launch, resources, settings

    @classmethod
    async def open(
        cls,
        path: Path,
        launch: LaunchOf,
        tell: Tell,
        *,
        address: str = "auto",
        resources: Mapping[GpuId, Mapping[str, float]] | None = None,
        settings: RaySettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> RayProvider:
        """Take hold of the folder, connect to the cluster and adopt the workers that were started from this folder.

        Each worker takes one GPU, and of `resources` what is named there. Those that do not answer within `answer_s`
        are taken for running. Raises `BadInputError` where another provider holds the folder, or for a cluster that
        cannot be reached, and `OSError`.
        """
        chosen = settings or RaySettings()
        folder = await asyncio.to_thread(StateFolder.open, path)
        try:
            names = await asyncio.to_thread(_connected, folder, path, address)
            provider = cls(folder, launch, tell, resources or {}, chosen, clock)
            await provider._take_up(names)
        except BaseException:
            ray.shutdown()
            folder.close()
            raise
        return provider

    async def close(self) -> None:
        """The actors are detached: they stay."""
        await super().close()
        await asyncio.to_thread(ray.shutdown)
        self._folder.close()

    async def _take_up(self, names: list[str]) -> None:
        found = {}
        for name in names:
            actor = await asyncio.to_thread(ray.get_actor, name)
            found[GpuId(name)] = RayProcess(GpuId(name), actor, self._ray_settings, adopted=True)
        end_s = time.monotonic() + self._ray_settings.answer_s
        while time.monotonic() < end_s and not all(
            process.there.is_set() or process.ended.done() for process in found.values()
        ):
            await asyncio.sleep(LOOK_S)
        for gpu_id, process in found.items():
            self._adopt(gpu_id, process)

    async def _begun(self, gpu_id: GpuId) -> RayProcess:
        """Raises `OSError` and `BadInputError`."""
        try:
            actor = await asyncio.to_thread(self._asked_for, gpu_id)
        except (RayError, ValueError) as error:  # ValueError: an actor of that name is not gone yet
            raise OSError(str(error)) from None
        return RayProcess(gpu_id, actor, self._ray_settings, adopted=False)

    def _asked_for(self, gpu_id: GpuId) -> Any:
        """Of Ray, which begins it where there is room, and never a second time."""
        launch = self._launch(gpu_id)
        options: dict[str, Any] = {
            "name": str(gpu_id),
            "lifetime": "detached",
            "num_gpus": 1,
            "num_cpus": 0,
            "resources": dict(self._resources.get(gpu_id, {})),
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        arguments = (*launch.program[1:], *launch.arguments)
        return ray.remote(WorkerActor).options(**options).remote(launch.worker, arguments, launch.threads)


def _connected(folder: StateFolder, path: Path, address: str) -> list[str]:
    """The names of the actors that are there. Raises `BadInputError`."""
    if folder.records():
        raise BadInputError.of(str(path), "has workers of the provider local: stop them first (--stop-workers)")
    try:
        if address != "auto":  # Ray itself tries for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        ray.init(
            address=address,
            namespace=_namespace(path / _NAMESPACE),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        return [str(name) for name in ray.util.list_named_actors()]
    except (OSError, RuntimeError, ValueError, RayError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInputError.of("--ray-address", f"{address!r} must be a Ray cluster that runs: {reason}") from None


def _namespace(path: Path) -> str:
    """Of one folder's actors, whichever machine its controller is on."""
    if not path.exists():
        write_bytes(path, f"epochal-{secrets.token_hex(8)}".encode())
    with path.open("rb") as file:
        text = file.read(64).decode(errors="replace")
    if not _NAMESPACE_TEXT.fullmatch(text):
        raise BadInputError.of(str(path), "must be the name of a Ray namespace, as epochal- and 16 hexadecimal digits")
    return text
