"""Small programs in the place of workers, and ears for what a provider tells.

Decides how a program is started through a real provider, and how long a test waits for what has to come; must never
look into the provider.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from runtime.provider.command import Launch, LaunchOf
from runtime.provider.local import LocalProvider
from runtime.provider.local_process import LocalSettings
from runtime.provider.provider import Heard, Started
from runtime.provider.restarts import RestartRule
from scheduler.cluster import GpuId

PATIENCE_S = 60.0
GPU = GpuId("h100-0-0-0")
Kind = TypeVar("Kind")

# Each says "here" once it does what it is for.
WAITS = "import time; print('here', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"
POLITE = """
import signal, sys, time
def end(number, frame):
    print("finishing", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("here", flush=True)
time.sleep(600)
"""
DIES = "import sys; print('a device is missing', file=sys.stderr); sys.exit(3)"


def program(text: str, **environment: str) -> LaunchOf:
    """A worker of which nothing is asked but to run this."""

    def launch(gpu_id: GpuId) -> Launch:
        return Launch(
            worker=gpu_id, program=(sys.executable, "-S", "-E", "-c"), arguments=(text,), environment=environment
        )

    return launch


@dataclass
class Ears:
    """What was told, in order."""

    heard: list[Heard] = field(default_factory=list)

    def __call__(self, heard: Heard) -> None:
        self.heard.append(heard)

    async def hear(self, kind: type[Kind], where: Callable[[Kind], bool] = lambda _: True) -> Kind:
        """The first of this kind that has not been taken; it is taken out."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            for one in self.heard:
                if isinstance(one, kind) and where(one):
                    self.heard.remove(one)
                    return one
            await asyncio.sleep(0.005)
        raise AssertionError(f"no {kind.__name__} was told, only {self.heard}")


async def until(there: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end_s, f"{what} does not come"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def a_provider(
    folder: Path,
    launch: LaunchOf,
    *,
    restarts: RestartRule | None = None,
    stop_s: float = PATIENCE_S,
    **settings: float,
) -> AsyncIterator[tuple[LocalProvider, Ears]]:
    """Whatever it has started is gone afterwards, unless the test has let go of it with `close`."""
    ears = Ears()
    rule = restarts or RestartRule(delay_s=0.01, delay_s_max=0.05, rest_s=60.0)
    made = LocalSettings(restarts=rule, stop_s=stop_s, **settings)  # type: ignore[arg-type]
    provider = await LocalProvider.open(folder, launch, ears, made)
    try:
        yield provider, ears
    finally:
        for gpu_id in provider.running:
            provider.kill(gpu_id)
        await provider.stop_all()
        await provider.close()


async def started(provider: LocalProvider, ears: Ears, folder: Path, gpu_id: GpuId = GPU) -> int:
    """Start it, and wait until it does what it is for. Its pid."""
    provider.start(gpu_id)
    pid = (await ears.hear(Started)).running.pid
    await until(lambda: log_text(folder).endswith("here\n"), "the program's first line")
    return pid


def log_text(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*.log"))


def is_there(pid: int) -> bool:
    """Zombies included."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")
