"""What a controller relies on, whichever provider starts its workers: real processes, here or in a Ray cluster."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.provider.provider import Exited, NotStarted, Provider, Started
from scheduler.cluster import GpuId
from tests.e2e.command import ROOT, environment
from tests.runtime.provider.conftest import WITH_RAY
from tests.runtime.provider.places import Place, gone, lives
from tests.runtime.provider.small_workers import DEAF, DIES, GPU, POLITE, WAITS, Ears
from traces.errors import BadInputError

OTHER = GpuId("h100-0-1-0")


@pytest.fixture(params=["local", pytest.param("ray", marks=WITH_RAY)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    address = "" if request.param == "local" else request.getfixturevalue("cluster").address
    return Place(folder=tmp_path / "state", address=address)


def test_it_ends_as_it_should_when_it_is_asked_to(place: Place) -> None:
    async def case() -> None:
        async with place.opened(place.program(POLITE)) as (opened, ears):
            provider: Provider = opened
            pid = await place.started(opened, ears)
            provider.start(GPU)  # it is there already
            assert (provider.exit_is_seen, provider.running[GPU].pid, os.getsid(pid)) == (True, pid, pid)
            provider.stop(GPU)
            exited = await ears.hear(Exited)
            assert (exited.asked, exited.code, exited.signal, exited.lines) == (True, 0, None, ("here", "finishing"))
            assert not lives(pid)
            assert (dict(provider.running), ears.heard) == ({}, [])

    asyncio.run(case())


def test_whoever_has_begun_to_serve_is_told_as_gone_and_not_replaced(place: Place) -> None:
    async def case() -> None:
        async with place.opened(place.program(WAITS)) as (provider, ears):
            pid = await place.started(provider, ears)
            provider.note_incarnation(GPU, 17)
            os.kill(pid, signal.SIGKILL)
            exited = await ears.hear(Exited)
            assert (exited.asked, exited.signal, exited.running.incarnation) == (False, signal.SIGKILL, 17)
            assert exited.reason == "ended by signal 9: here"
            await asyncio.sleep(0.1)
            assert (dict(provider.running), ears.heard) == ({}, [])
            assert await place.started(provider, ears) != pid

    asyncio.run(case())


def test_the_one_that_is_meant_is_killed_whatever_it_does(place: Place) -> None:
    async def case() -> None:
        async with place.opened(place.program(DEAF)) as (provider, ears):
            pids = [await place.started(provider, ears, gpu_id) for gpu_id in (GPU, OTHER)]
            os.kill(pids[1], signal.SIGSTOP)
            provider.kill(OTHER)
            exited = await ears.hear(Exited)
            assert (exited.running.gpu_id, exited.asked, exited.signal) == (OTHER, True, signal.SIGKILL)
            assert [lives(pid) for pid in pids] == [True, False]

    asyncio.run(case())


def test_whoever_is_deaf_is_killed_after_the_deadline(place: Place) -> None:
    async def case() -> None:
        async with place.opened(place.program(DEAF), stop_s=0.2) as (provider, ears):
            await place.started(provider, ears)
            provider.stop(GPU)
            exited = await ears.hear(Exited)
            assert (exited.asked, exited.signal) == (True, signal.SIGKILL)

    asyncio.run(case())


def test_one_that_is_wanted_again_while_it_ends_is_followed_by_another(place: Place) -> None:
    async def case() -> None:
        async with place.opened(place.program(POLITE)) as (provider, ears):
            pid = await place.started(provider, ears)
            provider.stop(GPU)
            provider.start(GPU)
            assert (await ears.hear(Exited)).running.pid == pid
            assert (await ears.hear(Started)).running.pid != pid

    asyncio.run(case())


def test_what_dies_at_once_says_why_and_is_given_up_for_a_while(place: Place) -> None:
    async def case() -> None:
        async with place.opened(place.program(DIES)) as (provider, ears):
            provider.start(GPU)
            gave_up = await ears.hear(NotStarted, lambda one: one.gave_up)
            assert gave_up.reason.startswith("exit code 3: a device is missing; gave up after 3 deaths in a row, ")
            assert [heard.code for heard in ears.heard if isinstance(heard, Exited)] == [3, 3, 3]

    asyncio.run(case())


def test_a_worker_goes_on_without_its_controller_and_the_next_one_has_it(place: Place) -> None:
    command = [sys.executable, "-m", "tests.runtime.provider.provider_process", str(place.folder), place.address]

    async def case(pid: int) -> None:
        async with place.opened(place.program(POLITE)) as (provider, ears):
            adopted = (await ears.hear(Started)).running
            assert (adopted.pid, adopted.incarnation, adopted.adopted) == (pid, 23, True)
            assert provider.running == {GPU: adopted}
            provider.start(GPU)  # it is there already
            await asyncio.sleep(0.1)
            provider.stop(GPU)
            exited = await ears.hear(Exited)
            assert (exited.running.pid, exited.asked, exited.lines) == (pid, True, ("here", "finishing"))
            assert ears.heard == []
            await gone(pid)

    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            pid = int(process.stdout.readline())
        finally:
            process.kill()
    asyncio.run(case(pid))


def test_a_folder_has_one_provider_at_a_time(place: Place) -> None:
    async def case() -> None:
        async with place.opened(place.program(WAITS)) as (provider, ears):
            pid = await place.started(provider, ears)
            with pytest.raises(BadInputError, match=rf"is held by process {os.getpid()} \(.+\): stop that one first"):
                await place.open(place.program(WAITS), Ears())
            assert provider.running[GPU].pid == pid
            provider.kill(GPU)
            assert (await ears.hear(Exited)).asked

    asyncio.run(case())
