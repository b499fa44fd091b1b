"""Any order of words and deaths: each process is told as started and as exited once, and none is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import defaultdict
from pathlib import Path

import pytest

from runtime.provider.local import LocalProvider
from runtime.provider.local_process import LocalSettings
from runtime.provider.provider import Exited, Started
from runtime.provider.restarts import RestartRule
from scheduler.cluster import GpuId
from tests.runtime.provider.small_workers import POLITE, Ears, is_there, left_in, program

GPUS = [GpuId(name) for name in ("a", "b", "c")]
STEPS = 60
SETTINGS = LocalSettings(restarts=RestartRule(delay_s=0.001, delay_s_max=0.01, rest_s=0.05), log_look_s=0.01)


async def act(provider: LocalProvider, ears: Ears, chance: random.Random) -> None:
    gpu_id = chance.choice(GPUS)
    match chance.choice(["start", "start", "stop", "kill", "note", "die", "wait"]):
        case "start":
            provider.start(gpu_id)
        case "stop":
            provider.stop(gpu_id)
        case "kill":
            provider.kill(gpu_id)
        case "note":
            provider.note_incarnation(gpu_id, len(ears.heard) + 1)
        case "die" if gpu_id in provider.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(provider.running[gpu_id].pid, signal.SIGKILL)
        case _:
            await asyncio.sleep(chance.choice([0.0, 0.0, 0.005, 0.05]))


def check(ears: Ears) -> None:
    """Of each GPU: started, exited, started, exited, ... of the same process. One that is adopted is told again."""
    pids: dict[GpuId, list[int]] = defaultdict(list)
    for heard in ears.heard:
        if isinstance(heard, Started):
            if not (heard.running.adopted and pids[heard.running.gpu_id]):
                assert pids[heard.running.gpu_id] == [], heard
                pids[heard.running.gpu_id].append(heard.running.pid)
            assert pids[heard.running.gpu_id] == [heard.running.pid], heard
        elif isinstance(heard, Exited):
            assert pids[heard.running.gpu_id] == [heard.running.pid], heard
            pids[heard.running.gpu_id].clear()
    assert not any(pids.values()), pids


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_said_and_whoever_dies_nothing_is_left(tmp_path: Path, seed: int) -> None:
    chance, ears = random.Random(seed), Ears()

    async def case() -> None:
        for is_last in (False, False, True):  # providers of one folder
            provider = await LocalProvider.open(tmp_path, program(POLITE), ears, SETTINGS)
            for _ in range(STEPS):
                await act(provider, ears, chance)
            if is_last:
                await provider.stop_all()
            await provider.close()

    asyncio.run(case())
    check(ears)
    assert not any(is_there(heard.running.pid) for heard in ears.heard if isinstance(heard, Started))
    assert [name for name in left_in(tmp_path) if ".log" not in name] == []  # a crash leaves its log
