"""Where a provider's workers run, so that one test can be about every provider that starts processes.

Decides how each is opened; must never look into one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.provider.command import LaunchOf
from runtime.provider.keepers import Keepers
from runtime.provider.local import LocalProvider
from runtime.provider.local_process import LocalSettings
from runtime.provider.processes import born
from runtime.provider.provider import Started, Tell
from runtime.provider.restarts import RestartRule
from scheduler.cluster import GpuId
from tests.runtime.provider.small_workers import GPU, PATIENCE_S, Ears, program, until

RULE = RestartRule(delay_s=0.01, delay_s_max=0.05, deaths_max=3, rest_s=60.0)
Resources = Mapping[GpuId, Mapping[str, float]]
NODE_S = 0.5  # that a lost node is waited for


@dataclass(frozen=True, kw_only=True)
class Place:
    """A state folder, and the address of a cluster: without one, this machine."""

    folder: Path
    address: str = ""

    async def open(
        self,
        launch: LaunchOf,
        tell: Tell,
        *,
        stop_s: float = PATIENCE_S,
        start_s: float = PATIENCE_S,
        resources: Resources | None = None,
    ) -> Keepers:
        if not self.address:
            settings = LocalSettings(restarts=RULE, stop_s=stop_s)
            return await LocalProvider.open(self.folder, launch, tell, settings)
        from runtime.provider.ray import RayProvider
        from runtime.provider.ray_process import RaySettings

        chosen = RaySettings(restarts=RULE, stop_s=stop_s, start_s=start_s, node_s=NODE_S)
        return await RayProvider.open(
            self.folder, launch, tell, address=self.address, resources=resources, settings=chosen
        )

    @asynccontextmanager
    async def opened(
        self,
        launch: LaunchOf,
        *,
        stop_s: float = PATIENCE_S,
        start_s: float = PATIENCE_S,
        resources: Resources | None = None,
    ) -> AsyncIterator[tuple[Keepers, Ears]]:
        """Nothing that it has started is left."""
        ears = Ears()
        provider = await self.open(launch, ears, stop_s=stop_s, start_s=start_s, resources=resources)
        try:
            yield provider, ears
        finally:
            for gpu_id in provider.running:
                provider.kill(gpu_id)
            await asyncio.wait_for(provider.stop_all(), PATIENCE_S)
            await provider.close()

    def program(self, text: str) -> LaunchOf:
        """That says here, too, what it prints: not every provider keeps it while it runs."""
        heard = (
            f"def print(*words, say=print, **how): say(*words, **how); open({str(self._said)!r}, 'a').write('here|')"
        )
        return program(f"{heard}\n{text}")

    async def started(self, provider: Keepers, ears: Ears, gpu_id: GpuId = GPU) -> int:
        """Start it, and wait until it does what it is for. Its pid."""
        words = self._words()
        provider.start(gpu_id)
        pid = (await ears.hear(Started, lambda one: one.running.gpu_id == gpu_id)).running.pid
        await until(lambda: self._words() > words, "the program's first line")
        return pid

    @property
    def _said(self) -> Path:
        return self.folder.with_name("said")

    def _words(self) -> int:
        return self._said.read_text().count("|") if self._said.exists() else 0


def lives(pid: int) -> bool:
    """Zombies do not: whose they are does not matter here."""
    return born(pid) is not None


async def gone(pid: int) -> None:
    await until(lambda: not lives(pid), f"the end of {pid}")
