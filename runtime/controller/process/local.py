"""The workers of a fleet as processes of this machine.

Decides what each is told of its memories and of where to connect; must never know when one is started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.provider.command import WorkerCommand
from runtime.provider.local import LocalProvider
from runtime.provider.provider import Tell
from runtime.provider.provider_thread import ProviderThread
from scheduler.cluster import GpuId
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from traces.errors import BadInputError

HOST_SPARE_MIB = 256  # of a worker's host memory, for chunks on their way


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalWorkers:
    """How `epochal worker` is called for every GPU of a fleet."""

    fleet: Fleet
    folder: Path  # of the provider's state
    controller: str
    gateway: str
    options: tuple[str, ...] = ()  # further ones, the same for all
    keys: Path | None = None  # folder of certificates, one for each worker under its GPU's name

    def thread(self, woken: Callable[[], None]) -> ProviderThread:
        """Adopts what runs. Raises `BadInputError` where another provider holds the folder."""
        command = WorkerCommand(
            options=(f"--controller={self.controller}", f"--gateway={self.gateway}", "--quiet", *self.options),
            own_options=self.own_options(),
        )

        async def made(tell: Tell) -> LocalProvider:
            return await LocalProvider.open(self.folder, command, tell)

        return ProviderThread(made, woken)

    def own_options(self) -> Mapping[GpuId, tuple[str, ...]]:
        """Memories as the planner counts them, and keys. Raises `BadInputError` for keys that are not there."""
        found = {}
        for name, gpu in all_off(self.fleet).gpus.items():
            pool = self.fleet.pools[int(gpu.node.partition("/")[0])]
            own = self.fleet.gpu_types[gpu.gpu_type]
            options = [f"--device-memory-mib={round(own.memory_gib * 1024)}"]
            if pool.host_memory_gib is not None:
                options.append(f"--host-memory-mib={round(pool.host_memory_gib * 1024) + HOST_SPARE_MIB}")
            found[name] = (*options, *self._keys_of(name))
        return found

    def _keys_of(self, name: str) -> tuple[str, ...]:
        if self.keys is None:
            return ()
        own, server = self.keys / "workers" / f"{name}.key_secret", self.keys / "controllers" / "controller.key"
        for path in (own, server):
            if not path.is_file():
                raise BadInputError.of(str(path), f"is not there; epochal keys {self.keys} --add {path.stem}")
        return f"--keys={own.resolve()}", f"--server-key={server.resolve()}"
