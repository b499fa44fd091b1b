"""The workers of a fleet, by one of the providers.

Decides what each is told of its memories and of where to connect; must never know when one is started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.provider.command import WorkerCommand
from runtime.provider.local import LocalProvider
from runtime.provider.provider import Provider, Tell
from runtime.provider.provider_thread import ProviderThread
from runtime.provider.static import StaticProvider
from scheduler.cluster import Gpu, GpuId
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from traces.errors import BadInputError

ProviderName = Literal["local", "static", "ray"]
HOST_SPARE_MIB = 256  # of a worker's host memory, for chunks on their way


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWorkers:
    """How `epochal worker` is called for every GPU of a fleet, and who calls it."""

    fleet: Fleet
    provider: ProviderName
    folder: Path  # of the provider's state
    controller: str
    gateway: str
    options: tuple[str, ...] = ()  # further ones, the same for all
    keys: Path | None = None  # folder of certificates, one for each worker under its GPU's name
    ray_address: str = "auto"
    devices: tuple[str, ...] = ()  # of workers that are started on this machine, in turn; none: as they choose

    @property
    def gpus(self) -> Mapping[GpuId, Gpu]:
        """By the names of their workers."""
        return all_off(self.fleet).gpus

    def thread(self, woken: Callable[[], None]) -> ProviderThread:
        """Adopts what runs. Raises `BadInputError` where another provider holds the folder, or Ray is not there."""
        command = WorkerCommand(
            options=(f"--controller={self.controller}", f"--gateway={self.gateway}", "--quiet", *self.options),
            own_options=self.own_options(),
        )

        async def made(tell: Tell) -> Provider:
            match self.provider:
                case "local":
                    return await LocalProvider.open(self.folder, command, tell)
                case "static":
                    return StaticProvider(command, tell)
                case "ray":
                    try:
                        from runtime.provider.ray import RayProvider
                    except ModuleNotFoundError as error:
                        if error.name != "ray":
                            raise
                        raise BadInputError.of(
                            "--provider", "ray is not installed; pip install 'epochal[ray]'"
                        ) from None
                    return await RayProvider.open(
                        self.folder, command, tell, address=self.ray_address, resources=self._resources()
                    )

        return ProviderThread(made, woken)

    def own_options(self) -> Mapping[GpuId, tuple[str, ...]]:
        """Memories as the planner counts them, devices, and keys. Raises `BadInputError` for keys that are missing."""
        found = {}
        for index, (name, gpu) in enumerate(self.gpus.items()):
            pool = self.fleet.pools[int(gpu.node.partition("/")[0])]
            own = self.fleet.gpu_types[gpu.gpu_type]
            options = [f"--device-memory-mib={round(own.memory_gib * 1024)}"]
            if pool.host_memory_gib is not None:
                options.append(f"--host-memory-mib={round(pool.host_memory_gib * 1024) + HOST_SPARE_MIB}")
            if self.provider == "local" and self.devices and not self._names_device:
                options.append(f"--device={self.devices[index % len(self.devices)]}")
            found[name] = (*options, *self._keys_of(name))
        return found

    @property
    def _names_device(self) -> bool:
        return any(option.startswith("--device=") for option in self.options)

    def _keys_of(self, name: str) -> tuple[str, ...]:
        """Of a static worker they are on its own machine, wherever it is started; its public key is here."""
        if self.keys is None:
            return ()
        is_static = self.provider == "static"
        own = self.keys / "workers" / f"{name}.key{'' if is_static else '_secret'}"
        server = self.keys / "controllers" / "controller.key"
        for path in (own, server):
            if not path.is_file():
                raise BadInputError.of(str(path), f"is not there; epochal keys {self.keys} --add {path.stem}")
        if is_static:
            return f"--keys={name}.key_secret", f"--server-key={server.name}"
        return f"--keys={own.resolve()}", f"--server-key={server.resolve()}"

    def _resources(self) -> Mapping[GpuId, Mapping[str, float]]:
        """Of Ray, where types are to be told apart: one of what is named after the GPU's type."""
        gpus = self.gpus
        if len({gpu.gpu_type for gpu in gpus.values()}) < 2:
            return {}
        return {name: {gpu.gpu_type: 1.0} for name, gpu in gpus.items()}
